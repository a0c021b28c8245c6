"""HTTP/1.1 messages on asyncio streams: heads as they came, bodies piece by piece."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from hub.sdk.testing.messages import chunk_size, may_have_body, parse_head

MAX_HEAD = 4_000_000
"""Bytes of a head; more than the largest one that a fault makes."""

_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """The first line and the header lines as they came, and the headers by lower-case name."""

    first: str
    lines: tuple[str, ...]
    headers: Mapping[str, str]

    @property
    def status(self) -> int:
        """The status of an answer. Raises ValueError when the first line has none."""
        version, _, rest = self.first.partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/") or not code.isdecimal() or int(code) < 100:
            raise ValueError(f"{self.first[:80]!r} is no status line")
        return int(code)

    @property
    def keeps_open(self) -> bool:
        """Whether this side wants to use the connection again."""
        wish = self.headers.get("connection", "").lower()
        old = self.first.endswith("HTTP/1.0") or self.first.startswith("HTTP/1.0")
        return "keep-alive" in wish if old else "close" not in wish

    def without(self, *names: str) -> tuple[str, ...]:
        """The header lines but for those with one of these lower-case names."""
        return tuple(x for x in self.lines if x.partition(":")[0].strip().lower() not in names)


class Ends(enum.Enum):
    """How the end of a body is known."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class Framing(NamedTuple):
    """Where a body ends; `length` counts for `Ends.LENGTH`."""

    ends: Ends
    length: int = 0


class Piece(NamedTuple):
    """A piece of a body: the bytes as they travel, and those among them that are content."""

    wire: bytes
    content: bytes


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next head, None when the other side is done. Raises ValueError, OSError or EOFError."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    except asyncio.LimitOverrunError as error:
        raise ValueError("the head has no end") from error
    raw = raw[:-4]
    first, headers = parse_head(raw)
    return Head(first, tuple(raw.decode("latin-1").split("\r\n")[1:]), headers)


def request_framing(head: Head) -> Framing:
    """How the body of a request ends. Raises ValueError."""
    return _declared(head) or Framing(Ends.LENGTH)


def answer_framing(head: Head, method: str) -> Framing:
    """How the body of an answer to `method` ends. Raises ValueError."""
    if not may_have_body(method, head.status):
        return Framing(Ends.LENGTH)
    return _declared(head) or Framing(Ends.CLOSE)


def _declared(head: Head) -> Framing | None:
    coding = head.headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked":
            raise ValueError(f"Transfer-Encoding {coding[:40]!r} is not chunked")
        return Framing(Ends.CHUNKED)
    length = head.headers.get("content-length")
    if length is None:
        return None
    if not length.isascii() or not length.isdecimal() or len(length) > 15:
        raise ValueError(f"Content-Length {length[:40]!r} is no number")
    return Framing(Ends.LENGTH, int(length))


async def pieces(reader: asyncio.StreamReader, framing: Framing) -> AsyncIterator[Piece]:
    """The body, never more of it at a time than a few. Raises ValueError, OSError or EOFError."""
    if framing.ends is Ends.CHUNKED:
        async for piece in _chunks(reader):
            yield piece
    elif framing.ends is Ends.LENGTH:
        async for piece in _exactly(reader, framing.length):
            yield piece
    else:
        while data := await reader.read(_PIECE):
            yield Piece(data, data)


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[Piece]:
    left = size
    while left:
        data = await reader.read(min(left, _PIECE))
        if not data:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(data)
        yield Piece(data, data)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[Piece]:
    while size := chunk_size(line := await _line(reader)):
        yield Piece(line, b"")
        async for piece in _exactly(reader, size):
            yield piece
        if (end := await reader.readexactly(2)) != b"\r\n":
            raise ValueError("a chunk is longer than its size")
        yield Piece(end, b"")
    yield Piece(line, b"")
    while (line := await _line(reader)) != b"\r\n":  # trailers
        yield Piece(line, b"")
    yield Piece(line, b"")


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n")
    except asyncio.LimitOverrunError as error:
        raise ValueError("a line of the body has no end") from error
