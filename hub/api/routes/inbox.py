"""Received events; and what senders of webhooks should know of their address."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from hub.api.routes.answers import Limit, json_answer
from hub.engine.operations import Operations
from hub.sdk.errors import ConfigError

_PROBLEM = {"application/problem+json": {"schema": {"type": "object"}}}
_LATER = {"Retry-After": {"schema": {"type": "integer"}}}

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The event is kept, or was kept before; the connector names the body."},
    400: {"description": "The body is no text or JSON that can be read.", "content": _PROBLEM},
    401: {"description": "The signature does not fit, or is too old.", "content": _PROBLEM},
    404: {"description": "Nothing is received here.", "content": _PROBLEM},
    405: {"description": "Events are sent by POST.", "content": _PROBLEM},
    408: {"description": "The body did not come in time.", "content": _PROBLEM},
    413: {"description": "The body is too large.", "content": _PROBLEM},
    431: {"description": "Too many headers.", "content": _PROBLEM},
    429: {"description": "Too many events a second.", "content": _PROBLEM, "headers": _LATER},
    503: {"description": "Send it again later.", "content": _PROBLEM, "headers": _LATER},
    507: {"description": "No room to keep it.", "content": _PROBLEM, "headers": _LATER},
}


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


def hook_routes() -> APIRouter:
    """The address of webhooks as it is described; `HookEdge` answers in front of this."""
    router = APIRouter(tags=["webhooks"])
    any_body = {"required": True, "content": {"*/*": {"schema": {}}}}

    @router.post("/hooks/{connection}", responses=_ANSWERS, openapi_extra={"requestBody": any_body})
    def receive(connection: str) -> Response:
        """Take an event, verified as its connector says, and keep it before it is thanked for."""
        raise ConfigError("intake.unknown", path=f"/hooks/{connection}")

    return router
