"""The connection side of a fake server: reading requests, sending answers well or badly."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping

from hub.sdk.testing.messages import (
    Request,
    Response,
    chunk_size,
    parse_head,
    request_of,
    whole,
)
from hub.sdk.testing.ways import Drip, End, Send, Step, Wait

RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""The value of SO_LINGER that makes the coming close a reset."""

_MAX_HEAD = 256 * 1024


class Wire:
    """One accepted connection. `stopped` ends every wait."""

    def __init__(self, link: socket.socket, stopped: threading.Event) -> None:
        self._link = link
        self._stopped = stopped
        self._buffer = b""

    def read(self, now: Callable[[], float]) -> Request | None:
        """The next request, None when the other side is done or speaks no HTTP."""
        raw = self._until(b"\r\n\r\n")
        if raw is None:
            return None
        first, headers = parse_head(raw)
        body = self._body(headers)
        return None if body is None else request_of(first, headers, body, now())

    def answer(self, request: Request, response: Response) -> None:
        """Send a complete, honest answer."""
        self._link.sendall(whole(response, request.method))

    def perform(self, steps: Iterable[Step], request: Request, response: Response) -> bool:
        """Answer wrongly; False when the connection is of no further use."""
        for step in steps:
            if isinstance(step, End):
                self._end(step)
                return False
            if isinstance(step, Wait):
                self._stopped.wait(step.seconds)
            elif isinstance(step, Drip):
                self._drip(step)
            elif isinstance(step, Send):
                self._link.sendall(step.data)
            else:
                self.answer(request, response)
        return True

    def _drip(self, drip: Drip) -> None:
        for piece in drip.pieces():
            if self._stopped.wait(drip.interval):
                return
            self._link.sendall(piece)

    def _end(self, end: End) -> None:
        if end is End.RESET:
            self._link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        while end is End.HOLD and self._link.recv(65536):
            pass

    def _until(self, mark: bytes) -> bytes | None:
        while mark not in self._buffer:
            if len(self._buffer) > _MAX_HEAD or not self._more():
                return None
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes | None:
        parts = [self._buffer]
        have = len(self._buffer)
        while have < size:
            part = self._link.recv(65536)
            if not part:
                return None
            parts.append(part)
            have += len(part)
        whole = b"".join(parts)
        self._buffer = whole[size:]
        return whole[:size]

    def _more(self) -> bool:
        part = self._link.recv(65536)
        self._buffer += part
        return bool(part)

    def _body(self, headers: Mapping[str, str]) -> bytes | None:
        if headers.get("expect", "").lower() == "100-continue":
            self._link.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunks()
        length = headers.get("content-length", "0")
        return self._exactly(int(length)) if length.isdecimal() else None

    def _chunks(self) -> bytes | None:
        parts: list[bytes] = []
        while True:
            line = self._until(b"\r\n")
            if line is None:
                return None
            size = chunk_size(line)
            if size == 0:
                return b"".join(parts) if self._trailers() else None
            chunk = self._exactly(size + 2)
            if chunk is None:
                return None
            parts.append(chunk[:-2])

    def _trailers(self) -> bool:
        """Read past the lines behind the last chunk; False when they do not end."""
        while (line := self._until(b"\r\n")) is not None:
            if not line:
                return True
        return False
