"""What every request passes before a route sees it: the token and the size of the body."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.api.problems import MAX_BODY, language_of, problem

GUARDED = "/v1"


class Gatekeeper:
    """Refuses calls under /v1 without the token, and bodies over `MAX_BODY` bytes."""

    def __init__(self, app: ASGIApp, token: str, language: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()
        self._language = language

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        language = language_of(headers.get("accept-language", ""), self._language)
        path = str(scope["path"])
        if _guarded(path) and not self._knows(headers.get("authorization", "")):
            answer = problem(
                401,
                "api.unauthorized",
                {},
                path=path,
                language=language,
                headers={"WWW-Authenticate": "Bearer"},
            )
            await answer(scope, receive, send)
            return
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            params = {"limit": MAX_BODY}
            answer = problem(413, "api.too_large", params, path=path, language=language)
            await answer(scope, receive, send)
            return
        await self._app(scope, _capped(receive), send)

    def _knows(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._expected)


def _guarded(path: str) -> bool:
    return path == GUARDED or path.startswith(GUARDED + "/")


def _capped(receive: Receive) -> Receive:
    """A body that did not say its length ends with an error where it grows too large."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MAX_BODY:
            raise HTTPException(413, "body too large")
        return message

    return limited
