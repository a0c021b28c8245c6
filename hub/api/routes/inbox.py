"""Received events."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from hub.api.routes.answers import Limit, json_answer
from hub.engine.operations import Operations


def inbox_routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["inbox"])

    @router.get("/inbox")
    def inbox(
        connection: str | None = None,
        event: str | None = None,
        state: str | None = None,
        since: str | None = None,
        limit: Limit = 20,
        after: str | None = None,
    ) -> Response:
        """Received events, newest first; with a connection, ask again with `after` = `next`.

        `event` is the sender's id; `state`: waiting, read or forgotten; `since`: a time or `24h`.
        """
        filters = {"connection": connection, "event": event, "state": state, "since": since}
        return json_answer(operations.inbox(filters, limit, after))

    @router.get("/inbox/{event}")
    def inbox_event(event: str) -> Response:
        """One event with its body, masked; `event` as listed: CONNECTION:NUMBER."""
        return json_answer(operations.inbox_event(event))

    return router
