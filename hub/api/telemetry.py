"""Telemetry over HTTP: whatever path a face of a connector takes.

A plain ASGI edge like that of the webhooks. In this order: whose path it is, the headers, who
sends (before anything of the body is read), the body within its limits, then the face. Whatever
goes wrong, the face says it in the words of its protocol: senders act upon the exact status.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.api.bodies import (
    RATIO,
    BadGzip,
    BodyError,
    Held,
    TooLarge,
    TooSlow,
    cannot_be_drained,
    headers_of,
    query_of,
    read_body,
)
from hub.sdk.errors import ContractBroken, HubError, TransientError
from hub.sdk.telemetry import HttpAnswer, HttpFace, HttpRequest

MOST_HEADERS = 100
MOST_HEADER_BYTES = 16_384
MOST_HELD = 256_000_000
"""Bytes of bodies that are being read or wait for their commit."""

_BODY_SECONDS = 30.0
_SLOWEST = 50_000
"""Bytes per second below which a large body gets no more time."""
_MOST_SECONDS = 600.0
_ZIPPED = ("gzip", "x-gzip")
_BODILESS = (204, 304)
_PLAIN = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))

log = logging.getLogger("hub.api.telemetry")


class TelemetryEdge:
    """Takes what a face takes; everything else goes on to `app`."""

    def __init__(self, app: ASGIApp, faces: Sequence[HttpFace]) -> None:
        self._app = app
        self._faces = faces
        self._held = Held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        face = self._face_of(scope) if scope["type"] == "http" else None
        if face is None:
            await self._app(scope, receive, send)
            return
        request = HttpRequest(scope["method"], _path(scope), {}, {})
        try:
            request = _request(scope)
            answer = await self._answer(face, request, receive)
        except ClientDisconnect:
            return
        except HubError as error:
            answer = _refusal(face, request, error, scope)
        except Exception as error:
            log.error("a request of %s failed", face.name, exc_info=error)
            failed = HubError("telemetry.failed", kind=type(error).__name__)
            answer = _refusal(face, request, failed, scope)
        await _send(answer, send)

    def _face_of(self, scope: Scope) -> HttpFace | None:
        path = _path(scope)
        for face in self._faces:
            if face.takes(scope["method"], path):
                return face
        return None

    async def _answer(self, face: HttpFace, request: HttpRequest, receive: Receive) -> HttpAnswer:
        sender = await face.admit(request)
        headers = request.headers
        if "content-length" not in headers and "transfer-encoding" not in headers:
            return await face.answer(request, sender)
        body = await self._read(face, request, receive)
        try:
            whole = HttpRequest(request.method, request.path, request.query, headers, body)
            return await face.answer(whole, sender)
        finally:
            self._held.free(len(body))

    async def _read(self, face: HttpFace, request: HttpRequest, receive: Receive) -> bytes:
        """The body, unzipped and counted in `_held`. Raises HubError."""
        seconds = _BODY_SECONDS
        try:
            length = _declared(request)
            seconds = min(_MOST_SECONDS, _BODY_SECONDS + max(length, 0) / _SLOWEST)
            zipped = _is_zipped(request) and length != 0
            if length > face.largest:
                raise TooLarge
            self._held.require(max(length, 0), MOST_HELD)
            return await read_body(
                receive,
                self._held,
                limit=face.largest,
                most_held=MOST_HELD,
                seconds=seconds,
                gzip=zipped,
            )
        except BodyError as error:
            raise _explained(error, face, request, seconds) from None


def _path(scope: Scope) -> str:
    """As it was sent: a token may hold what another path would call a slash."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("latin-1")


def _request(scope: Scope) -> HttpRequest:
    headers, fit = headers_of(scope, MOST_HEADERS, MOST_HEADER_BYTES)
    path = _path(scope)
    if not fit:
        params = {"most": MOST_HEADERS, "limit": MOST_HEADER_BYTES}
        raise ContractBroken("telemetry.headers", path=path, **params)
    return HttpRequest(scope["method"], path, query_of(scope["query_string"]), headers)


def _declared(request: HttpRequest) -> int:
    """The length that the sender tells of; -1 when it does not."""
    length = request.headers.get("content-length", "-1")
    if length == "-1":
        return -1
    if not (length.isascii() and length.isdecimal() and len(length) < 19):
        raise TooLarge
    return int(length)


def _is_zipped(request: HttpRequest) -> bool:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return False
    if encoding not in _ZIPPED:
        raise ContractBroken("telemetry.encoding", path=request.path, encoding=encoding[:40])
    return True


def _explained(error: BodyError, face: HttpFace, request: HttpRequest, seconds: float) -> HubError:
    path = request.path
    if isinstance(error, TooLarge):
        return ContractBroken("telemetry.too_large", path=path, limit=face.largest)
    if isinstance(error, TooSlow):
        return ContractBroken("telemetry.slow", path=path, seconds=int(seconds))
    if isinstance(error, BadGzip):
        return ContractBroken("telemetry.gzip", path=path, ratio=RATIO)
    return TransientError("telemetry.overload", retry_after=1.0)


def _refusal(face: HttpFace, request: HttpRequest, error: HubError, scope: Scope) -> HttpAnswer:
    """The face's own words for the error, and what becomes of the connection."""
    try:
        answer = face.refuse(request, error)
    except Exception as broken:
        log.error("%s cannot say what is wrong", face.name, exc_info=broken)
        answer = HttpAnswer(500)
    too_large = error.code == "telemetry.too_large" and cannot_be_drained(scope)
    if error.code == "telemetry.slow" or too_large:
        return replace(answer, headers={**answer.headers, "Connection": "close"})
    return answer


async def _send(answer: HttpAnswer, send: Send) -> None:
    headers = [*_PLAIN]
    if answer.body:
        headers.append((b"content-type", answer.media_type.encode("latin-1")))
    if answer.status not in _BODILESS:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    for name, value in answer.headers.items():
        headers.append((name.lower().encode("latin-1"), value.encode("latin-1", "replace")))
    start: Message = {"type": "http.response.start", "status": answer.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": answer.body})
