"""The processes that run jobs."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from hub.api.routes.answers import items_answer
from hub.engine.operations import Operations


def worker_routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["workers"])

    @router.get("/workers")
    def workers() -> Response:
        """Every process that runs jobs, the living first; those that died stay for a day."""
        return items_answer(operations.workers())

    return router
