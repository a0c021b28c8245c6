"""Connectors, connections and their secrets."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, SecretStr
from starlette.responses import Response

from hub.api.routes.answers import Actor, items_answer, json_answer
from hub.engine.operations import Operations


class SecretValue(BaseModel):
    """A secret to keep."""

    model_config = ConfigDict(extra="forbid")

    value: SecretStr


def connection_routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["connections"])

    @router.get("/connectors")
    def connectors() -> Response:
        """Every connector found."""
        return items_answer(operations.connectors())

    @router.get("/connections")
    def connections() -> Response:
        """The configured accounts."""
        return items_answer(operations.connections())

    @router.post("/connections/{name}/check")
    def check(name: str) -> Response:
        """Try a connection; reads only."""
        return json_answer(operations.check_connection(name))

    @router.put("/connections/{name}/secrets/{field}")
    def set_secret(name: str, field: str, body: SecretValue, actor: Actor) -> Response:
        """Keep a secret, encrypted."""
        value = body.value.get_secret_value()
        return json_answer(operations.set_secret(name, field, value, actor=actor))

    @router.get("/doctor")
    def doctor() -> Response:
        """What an operator should know."""
        return json_answer(operations.doctor())

    return router
