"""The hub's own records."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from hub.api.routes.answers import Limit, json_answer
from hub.engine.operations import Operations


def record_routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["records"])

    @router.get("/records/{entity}")
    def records(
        entity: str, since: Annotated[int, Query(ge=0)] = 0, limit: Limit = 100
    ) -> Response:
        """Records in the order of their changes; ask again with `since` = `next`."""
        return json_answer(operations.records(entity, since, limit))

    @router.get("/records/{entity}/count")
    def count(entity: str) -> Response:
        """How many live records the entity has."""
        return json_answer(operations.count_records(entity))

    return router
