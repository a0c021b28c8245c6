"""Comparing a flow's source with its target."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from hub.api.routes.answers import Limit, items_answer, json_answer
from hub.engine.operations import LocalOperations
from hub.engine.operations.base import LARGEST_NUMBER


class StartVerify(BaseModel):
    """How to compare."""

    model_config = ConfigDict(extra="forbid")

    repair: bool = False


def verify_routes(operations: LocalOperations) -> APIRouter:
    router = APIRouter(tags=["flows"])

    @router.post("/flows/{flow}/verify", status_code=202)
    def start(flow: str, body: StartVerify | None = None) -> Response:
        """Begin to compare source and target; what is under way goes on instead."""
        repair = body is not None and body.repair
        return json_answer(operations.start_verify(flow, repair=repair), 202)

    @router.get("/flows/{flow}/verify")
    def report(flow: str) -> Response:
        """How far the newest comparison is and what it found."""
        return json_answer(operations.verification(flow))

    @router.get("/flows/{flow}/verify/differences")
    def differences(
        flow: str, after: Annotated[int, Query(ge=0, le=LARGEST_NUMBER)] = 0, limit: Limit = 100
    ) -> Response:
        """The differences behind number `after`, in the order of keys."""
        return items_answer(operations.differences(flow, after, limit))

    return router
