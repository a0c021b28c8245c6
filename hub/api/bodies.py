"""Reading the bodies of requests: as large, as slow and as many at once as is bearable."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

RATIO = 100
"""How many times larger than it came a body may become; small ones may be more."""

_RATIO_FREE = 1_000_000
_STEP = 262_144
_MOST_MEMBERS = 1_000
_GZIP_BITS = 31
_GZIP = b"\x1f\x8b"
_DRAINED = 50_000_000
_DRAIN_SECONDS = 10.0

KEEP = "surrogateescape"
"""Bytes that are no UTF-8 stay what they are: a signature may cover them."""


class BodyError(Exception):
    """Base of what is wrong with a body."""


class TooLarge(BodyError):
    """More than the limit; what was to be drained is drained."""


class TooSlow(BodyError):
    """Not all of it came in time."""


class NoRoom(BodyError):
    """Too many bytes of other bodies are held."""


class BadGzip(BodyError):
    """No gzip, an unfinished one, or one that becomes too much."""


@dataclass(slots=True)
class Held:
    """Bytes of bodies that are being read or wait for their commit."""

    bytes: int = 0

    def require(self, size: int, most: int) -> None:
        """Raises NoRoom."""
        if self.bytes + size > most:
            raise NoRoom

    def take(self, size: int, most: int) -> None:
        """Hold so many more. Raises NoRoom."""
        self.require(size, most)
        self.bytes += size

    def free(self, size: int) -> None:
        """Hold so many fewer."""
        self.bytes -= size


async def read_body(
    receive: Receive, held: Held, *, limit: int, most_held: int, seconds: float, gzip: bool = False
) -> bytes:
    """The body, counted in `held`; the caller takes it out again.

    Raises a BodyError, or ClientDisconnect; then nothing is held.
    """
    unzip = Unzip(limit) if gzip else None
    parts: list[bytes] = []
    mine = came = 0
    more = True
    try:
        async with asyncio.timeout(seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                part = message.get("body", b"")
                more = message.get("more_body", False)
                came += len(part)
                for piece in (part,) if unzip is None else unzip.feed(part):
                    held.take(len(piece), most_held)
                    mine += len(piece)
                    parts.append(piece)
                    if unzip is not None and len(piece) == _STEP:
                        await asyncio.sleep(0)  # others have their turn
                if came > limit:
                    await drain(receive, more=more)
                    raise TooLarge
        if unzip is not None:
            unzip.end()
    except TimeoutError:
        held.free(mine)
        raise TooSlow from None
    except BaseException:
        held.free(mine)
        raise
    return parts[0] if len(parts) == 1 else b"".join(parts)


class Unzip:
    """A gzip of one or several members, bit by bit; nothing at all is an empty body.

    Never more than `limit` and a step is unpacked, whatever comes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._member = zlib.decompressobj(wbits=_GZIP_BITS)
        self._members = 0
        self._came = 0
        self._made = 0

    def feed(self, part: bytes) -> Iterator[bytes]:
        """What a part of the body unpacks to. Raises BadGzip or TooLarge."""
        self._came += len(part)
        while part:
            if self._member.eof:
                part = _next_member(part, self._members)
                if not part:
                    return
                self._members += 1
                self._member = zlib.decompressobj(wbits=_GZIP_BITS)
            try:
                piece = self._member.decompress(part, _STEP)
            except zlib.error as error:
                raise BadGzip from error
            self._made += len(piece)
            if self._made > max(_RATIO_FREE, self._came * RATIO):
                raise BadGzip
            if self._made > self._limit:
                raise TooLarge
            part = self._member.unused_data or self._member.unconsumed_tail
            yield piece

    def end(self) -> None:
        """Raises BadGzip when it is not complete."""
        if self._came and not self._member.eof:
            raise BadGzip


def _next_member(left: bytes, members: int) -> bytes:
    """What follows a member: another one. Zeros fill a block up and mean nothing."""
    rest = left.lstrip(b"\0")
    if not rest:
        return b""
    if members > _MOST_MEMBERS or not _GZIP.startswith(rest[:2]):
        raise BadGzip
    return rest


async def drain(receive: Receive, *, more: bool) -> None:
    """Take the rest of a body that is too large, so that its sender gets to read why."""
    left = _DRAINED
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while more and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                more = message.get("more_body", False)


def cannot_be_drained(scope: Scope) -> bool:
    """Whether what is left of the body is too much to wait for."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return any(not value.isdigit() or int(value) > _DRAINED for value in lengths)


def query_of(raw: bytes) -> dict[str, str]:
    """The query's last value of each name."""
    if not raw:
        return {}
    return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True, errors=KEEP))


def headers_of(scope: Scope, most: int, most_bytes: int) -> tuple[dict[str, str], bool]:
    """The headers by name, several of one name as one list, as HTTP reads them; and whether they
    are not too many."""
    raw: list[tuple[bytes, bytes]] = scope["headers"]
    headers: dict[str, str] = {}
    size = 0
    for name_bytes, value_bytes in raw:
        name, value = name_bytes.decode("latin-1"), value_bytes.decode("utf-8", KEEP)
        size += len(name_bytes) + len(value_bytes)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers, len(raw) <= most and size <= most_bytes
