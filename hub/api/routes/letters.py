"""Dead letters."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from hub.api.routes.answers import Limit, items_answer, json_answer
from hub.engine.operations import Operations


def letter_routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["dead letters"])

    @router.get("/dead-letters")
    def dead_letters(flow: str | None = None, state: str = "open", limit: Limit = 20) -> Response:
        """Records and deliveries a person must look at; `state` open, resolved or all."""
        return items_answer(operations.dead_letters(flow, None if state == "all" else state, limit))

    @router.get("/dead-letters/{letter_id}")
    def one_letter(letter_id: str) -> Response:
        """One dead letter with its payload."""
        return json_answer(operations.dead_letter(letter_id))

    return router
