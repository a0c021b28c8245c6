"""The far side of a fault proxy: carrying one request to the upstream and its answer back."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from hub.sdk.testing.messages import Request, Response, may_have_body
from hub.sdk.testing.transit import (
    MAX_HEAD,
    Framing,
    Head,
    Piece,
    answer_framing,
    pieces,
    read_head,
)

BROKEN = (OSError, EOFError, ValueError)
"""What a side that hangs up, stays silent or speaks no HTTP raises."""

_OF_ONE_LINK = ("connection", "keep-alive", "proxy-connection", "upgrade", "expect")
_LENGTHS = ("content-length", "transfer-encoding")


@dataclass(frozen=True, slots=True)
class Arriving:
    """An answer whose body is still to be read."""

    head: Head
    framing: Framing
    back: asyncio.StreamReader

    def head_for(self, *, stays: bool) -> bytes:
        """The head to hand on; `stays` = the connection can be used again."""
        return _head_bytes(self.head, self.head.without(*_OF_ONE_LINK), stays=stays)


@dataclass(frozen=True, slots=True)
class Held:
    """An answer read to its end: as faults are made of it, and as it came."""

    response: Response
    raw: bytes


class Upstream:
    """The server behind the proxy. Where it gives no answer, a `Response` says why.

    Each request has a connection of its own: whoever finds a kept one closed has to send again,
    and would do twice what was done once.
    """

    def __init__(self, url: str, patience: float) -> None:
        self.url = url.rstrip("/")
        self._address = _loopback(url)
        self._patience = patience

    @contextlib.asynccontextmanager
    async def carried(
        self, request: Request, head: Head, body: AsyncIterator[Piece]
    ) -> AsyncIterator[Arriving | Response]:
        """The answer from its head on; leaving the block closes the connection."""
        try:
            back, forth = await asyncio.open_connection(*self._address, limit=MAX_HEAD)
        except OSError as error:
            async for _ in body:
                pass  # unread, it would turn the answer into a reset
            yield self._none(502, _reason(error))
            return
        upload = asyncio.create_task(_upload(head, body, forth))
        try:
            answer = await self._arriving(request, back, upload)
            yield answer
            forth.transport.abort()
            if isinstance(answer, Arriving):
                await upload
            else:
                await asyncio.gather(upload, return_exceptions=True)
        finally:
            upload.cancel()
            forth.transport.abort()
            await asyncio.gather(upload, return_exceptions=True)

    async def held(
        self, request: Request, head: Head, body: AsyncIterator[Piece]
    ) -> Held | Response:
        """The answer, read to its end."""
        parts: list[bytes] = []
        async with self.carried(request, head, body) as answer:
            if isinstance(answer, Response):
                return answer
            async for piece in self.body(answer):
                parts.append(piece.content)
        return _as_held(answer.head, request.method, b"".join(parts))

    async def body(self, answer: Arriving) -> AsyncIterator[Piece]:
        """The body of an answer. TimeoutError when no more of it comes for too long."""
        arriving = pieces(answer.back, answer.framing)
        while True:
            try:
                yield await asyncio.wait_for(anext(arriving), self._patience)
            except StopAsyncIteration:
                return

    async def _arriving(
        self, request: Request, back: asyncio.StreamReader, upload: asyncio.Task[None]
    ) -> Arriving | Response:
        try:
            async with asyncio.timeout(self._patience):
                head = await read_head(back)
                while head is not None and head.status < 200:
                    head = await read_head(back)
            if head is None:
                raise EOFError("it closed the connection without an answer")
            return Arriving(head, answer_framing(head, request.method), back)
        except TimeoutError:
            return self._none(504, f"it was silent for {self._patience:g} s")
        except BROKEN as error:
            broken = upload.exception() if upload.done() else None
            if isinstance(broken, ValueError):
                return Response(400, json={"error": f"no HTTP: {broken}"})
            if broken is not None:
                raise broken from None
            return self._none(502, _reason(error))

    def _none(self, status: int, reason: str) -> Response:
        return Response(status, json={"error": f"no answer from {self.url}: {reason}"})


async def again(sent: Iterable[Piece]) -> AsyncIterator[Piece]:
    """A body that was read, as one that is still to be read."""
    for piece in sent:
        yield piece


async def _upload(head: Head, body: AsyncIterator[Piece], forth: asyncio.StreamWriter) -> None:
    """Hand the request on; when the upstream hears no more of it, read the rest for nothing."""
    lines = [head.first, *head.without(*_OF_ONE_LINK), "Connection: close"]
    forth.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    listening = True
    try:
        async for piece in body:
            if listening:
                forth.write(piece.wire)
                listening = await _drained(forth)
    except BROKEN:
        forth.transport.abort()  # half a body must not look like a whole one
        raise


async def _drained(writer: asyncio.StreamWriter) -> bool:
    try:
        await writer.drain()
    except OSError:
        return False
    return True


def _as_held(head: Head, method: str, content: bytes) -> Held:
    lines = head.without(*_OF_ONE_LINK)
    if may_have_body(method, head.status):
        lines = (*head.without(*_OF_ONE_LINK, *_LENGTHS), f"Content-Length: {len(content)}")
    dropped = {*_OF_ONE_LINK, *_LENGTHS, "content-type"}
    headers = {name: value for name, value in head.headers.items() if name not in dropped}
    media_type = head.headers.get("content-type", "")
    response = Response(head.status, body=content, headers=headers, media_type=media_type)
    return Held(response, _head_bytes(head, lines, stays=True) + content)


def _head_bytes(head: Head, lines: Iterable[str], *, stays: bool) -> bytes:
    first = f"HTTP/1.1 {head.first.partition(' ')[2]}"
    last = () if stays else ("Connection: close",)
    return ("\r\n".join([first, *lines, *last]) + "\r\n\r\n").encode("latin-1")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    broke_off = isinstance(error, asyncio.IncompleteReadError)
    return "it broke off" if broke_off else str(error) or type(error).__name__


def _loopback(url: str) -> tuple[str, int]:
    """Host and port of the upstream. Raises ValueError when it is not plain HTTP on loopback."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
    except ValueError as error:
        raise ValueError(f"upstream {url!r} is no address: {error}") from error
    if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.username:
        raise ValueError(f"upstream {url!r} is not of the form http://127.0.0.1:PORT")
    if host != "localhost" and not _is_loopback(host):
        raise ValueError(f"upstream {url!r} is not on this machine; use 127.0.0.1")
    return host, port


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
