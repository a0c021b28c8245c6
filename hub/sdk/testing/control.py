"""Telling a fake in another process to misbehave: the paths under `/_fake/`.

A fault proxy offers the same under `/_proxy/`, so that those of a fake behind it stay in reach.

POST /_fake/misbehave {"fault": "status", "path": null, "method": null, "times": 1, "after": 0,
                       "chance": 1.0, "options": {"status": 503}}
POST /_fake/alter     {"name": "put", "path": "/api/x", "times": 1, "after": 0,
                       "options": {"at": "row_count", "value": "99"}}
POST /_fake/behave    forget what has not happened yet
POST /_fake/do        {"name": "...", "options": {...}}  a command of the vendor's fake
GET  /_fake/log       every request so far (`?path=` narrows)
GET  /_fake/state     what the fake holds
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hub.sdk.testing.messages import Request, Response
from hub.sdk.testing.misbehaving import Misbehaving

_WHEN = ("path", "method", "times", "after", "options")
_WORDS = {
    "misbehave": ("fault", "chance", *_WHEN),
    "alter": ("name", *_WHEN),
    "do": ("name", "options"),
}


def control(server: Misbehaving, request: Request) -> Response:
    """The answer to a request for control; 400 with the reason for a wrong order."""
    action = request.path.rpartition("/")[2]
    try:
        if request.method == "GET":
            return _show(server, action, request)
        given = _understood(action, request.json() if request.body else {})
        return Response(json={"ok": True, "result": _order(server, action, given)})
    except (ValueError, TypeError, KeyError, RecursionError, msgspec.DecodeError) as error:
        return Response(400, json={"ok": False, "reason": f"{type(error).__name__}: {error}"})


def _understood(action: str, given: Any) -> dict[str, Any]:
    """An order whose every word means something: a fault that never comes would prove nothing."""
    known = _WORDS.get(action, ())
    if not isinstance(given, dict) or not isinstance(given.get("options", {}), dict):
        raise ValueError("an order and its options are JSON objects")
    for name in given:
        if known and name not in known:
            raise ValueError(f"{action} has no {name!r}; known: {sorted(known)}")
    if not isinstance(given.get("path"), str | None):
        raise ValueError(f"path {given['path']!r} is no text")
    return given


def _show(server: Misbehaving, action: str, request: Request) -> Response:
    if action == "state":
        with server.lock:
            return Response(json=server.state())
    if action == "log":
        path = request.query.get("path")
        shown = [_entry(r) for r in server.requests if path in (None, r.path)]
        return Response(json={"count": server.count(path), "requests": shown})
    return Response(404, json={"ok": False, "reason": f"no {action!r}; known: log, state"})


def _order(server: Misbehaving, action: str, given: Mapping[str, Any]) -> Any:
    when = {name: given[name] for name in ("times", "after", "method") if name in given}
    options = given.get("options", {})
    if action == "misbehave":
        when |= {"chance": given["chance"]} if "chance" in given else {}
        return server.misbehave(given["fault"], given.get("path"), **when, **options)
    if action == "alter":
        return server.alter(given.get("path"), str(given["name"]), **when, **options)
    if action == "behave":
        return server.behave()
    if action == "do":
        with server.lock:
            return server.commands[given["name"]](**options)
    raise ValueError(f"no {action!r}; known: misbehave, alter, behave, do")


def _entry(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "query": dict(request.query),
        "headers": dict(request.headers),
        "body": request.body.decode("utf-8", "replace"),
        "time": round(request.time, 6),
    }
