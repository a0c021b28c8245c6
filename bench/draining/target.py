"""A target that takes writes as fast as it can: `python -m bench.draining.target --keys N`.

It counts what it was told of each key, so that the bench can prove that nothing was lost and
nothing came twice. It prints its port on one line when ready and ends when its input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any
from urllib.parse import parse_qs

import msgspec

KEY = "K{:07d}"

_HEAD_END = b"\r\n\r\n"


class Book:
    """How often each key was written, by sink."""

    def __init__(self, keys: int) -> None:
        self._written = {name: bytearray(keys) for name in ("batch", "order", "ticket")}
        self.calls = 0

    def write(self, sink: str, key: str) -> None:
        counts = self._written[sink]
        number = int(key[1:])
        counts[number] = min(counts[number] + 1, 255)

    def knows(self, sink: str, key: str) -> bool:
        return self._written[sink][int(key[1:])] > 0

    def state(self) -> dict[str, Any]:
        """Per sink: how many keys were written, and how many of them more than once."""
        shown: dict[str, Any] = {"calls": self.calls}
        for sink, counts in self._written.items():
            nothing = counts.count(0)
            written = len(counts) - nothing
            shown[sink] = {"keys": written, "twice": written - counts.count(1)}
        return shown


def answer(book: Book, method: str, target: str, body: bytes) -> Any:
    """The JSON answer to one request."""
    path, _, query = target.partition("?")
    sink = path[1:]
    if method == "GET":
        if sink == "state":
            return book.state()
        key = parse_qs(query)["key"][0]
        return {"code": 0, "items": [{"key": key, "id": key}] if book.knows(sink, key) else []}
    book.calls += 1
    given = msgspec.json.decode(body)
    if sink != "batch":
        book.write(sink, given["key"])
        return {"code": 0, "id": given["key"]}
    keys = [item["key"] for item in given["items"]]
    for key in keys:
        book.write(sink, key)
    return {"code": 0, "results": [{"key": key, "ok": 1, "id": key} for key in keys]}


class Line(asyncio.Protocol):
    """One kept connection that speaks just enough HTTP/1.1."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (narrows the type)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(_HEAD_END)) >= 0:
            head = bytes(self._buffer[:end])
            size = _length(head)
            if len(self._buffer) < end + 4 + size:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + size])
            del self._buffer[: end + 4 + size]
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            self._reply(answer(self._book, method, target, body))

    def _reply(self, found: Any) -> None:
        assert self._transport is not None  # noqa: S101 (set before any data)
        raw = msgspec.json.encode(found)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}"
        self._transport.write(head.encode() + _HEAD_END + raw)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def serve(keys: int) -> None:
    book = Book(keys)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Line(book), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    asyncio.run(serve(parser.parse_args().keys))
