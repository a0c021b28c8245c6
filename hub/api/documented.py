"""What `/openapi.json` says besides the routes: answers that all of them may give, and hooks."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from hub.api.problems import PROBLEM

_SHAPE: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "code", "params"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string"},
        "params": {"type": "object"},
    },
}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {PROBLEM: {"schema": _SHAPE}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    422: _problem("The request cannot be understood or means nothing."),
    "default": _problem("Refused or failed; `code` says why and stays the same."),
}
"""Error answers of every route; `code` is what a program should look at."""

_HOOK = {
    "post": {
        "tags": ["hooks"],
        "summary": "An event of the outside system, verified as its connector says",
        "parameters": [
            {"name": "connection", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
        "requestBody": {"content": {"*/*": {"schema": {}}}, "required": True},
        "responses": {
            "2XX": {"description": "The event is kept."},
            "400": _problem("The body is no text or JSON that can be read."),
            "401": _problem("The signature does not fit, or is too old."),
            "404": _problem("No connection of this name takes events."),
            "405": _problem("Events are sent by POST."),
            "408": _problem("The body did not come in time."),
            "413": _problem("The event is too large."),
            "431": _problem("Too many headers."),
            "429": _problem("Too many events; `Retry-After` says when to send again."),
            "503": _problem("No room for now; `Retry-After` says when to send again."),
            "507": _problem("No room to keep it; `Retry-After` says when to send again."),
            "default": PROBLEMS["default"],
        },
    }
}


def describe_hooks(app: FastAPI) -> None:
    """Add `/hooks/{connection}` to the description: it is no route of the app but before it."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(title=app.title, version=app.version, routes=app.routes)
            found["paths"]["/hooks/{connection}"] = _HOOK
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's own way to extend it
