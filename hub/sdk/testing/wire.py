"""The connection side of a fake server: reading requests, sending answers well or badly."""

from __future__ import annotations

import socket
import struct
import threading
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote

from hub.sdk.testing.faults import Fault, Misbehaviour
from hub.sdk.testing.messages import Request, Response, decode_json, encode_json, head, head_of

_MAX_HEAD = 256 * 1024
_PAGE = "<!DOCTYPE html><html><body><h1>系统维护</h1></body></html>".encode()
_GARBAGE = b"\x16\x03\x01\x00\xfe\xff no status line here\r\n\r\n"


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
        first, *lines = raw.decode("latin-1").split("\r\n")
        method, _, rest = first.partition(" ")
        target = rest.rpartition(" ")[0]
        if not target:
            return None
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        body = self._body(headers)
        if body is None:
            return None
        path, _, query = target.partition("?")
        pairs = dict(parse_qsl(query, keep_blank_values=True))
        return Request(method, unquote(path), pairs, headers, body, now(), target)

    def answer(self, response: Response) -> None:
        """Send a complete, honest answer."""
        content = response.content()
        self._link.sendall(head_of(response, content) + content)

    def misbehave(self, act: Misbehaviour, request: Request, response: Response) -> bool:
        """Answer wrongly; False when the connection is of no further use."""
        perform = _WAYS[act.fault]
        return perform(self, act.options, request, response)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._link.sendall(data)

    def drip(self, data: bytes, interval: float) -> None:
        """Send byte by byte until done or stopped."""
        for position in range(len(data)):
            if self._stopped.wait(interval):
                return
            self._link.sendall(data[position : position + 1])

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than the server lives."""
        self._stopped.wait(seconds)

    def hold(self) -> None:
        """Say nothing until the other side hangs up or the server stops."""
        while self._link.recv(65536):
            pass

    def reset(self) -> None:
        """Make the coming close a reset."""
        self._link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

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
            size = int(line.partition(b";")[0], 16)
            chunk = self._exactly(size + 2)
            if chunk is None:
                return None
            if size == 0:
                return b"".join(parts)
            parts.append(chunk[:-2])


# --- ways to answer wrongly -------------------------------------------------------------------

_Way = Callable[[Wire, Mapping[str, Any], Request, Response], bool]


def _reset(wire: Wire, options: Mapping[str, Any], request: Request, response: Response) -> bool:
    wire.reset()
    return False


def _close(wire: Wire, options: Mapping[str, Any], request: Request, response: Response) -> bool:
    return False


def _cut_body(wire: Wire, options: Mapping[str, Any], request: Request, response: Response) -> bool:
    content = response.content()
    wire.send(head_of(response, content) + content[: _kept(content, options)])
    return False


def _cut_chunk(
    wire: Wire, options: Mapping[str, Any], request: Request, response: Response
) -> bool:
    content = response.content()
    headers = {"Content-Type": response.media_type, "Transfer-Encoding": "chunked"}
    size = f"{len(content):x}\r\n".encode()
    wire.send(head(response.status, headers) + size + content[: _kept(content, options)])
    return False


def _kept(content: bytes, options: Mapping[str, Any]) -> int:
    return min(int(len(content) * float(options["keep"])), max(len(content) - 1, 0))


def _garbage(wire: Wire, options: Mapping[str, Any], request: Request, response: Response) -> bool:
    wire.send(_GARBAGE)
    return False


def _huge_header(
    wire: Wire, options: Mapping[str, Any], request: Request, response: Response
) -> bool:
    wire.send(head(200, {"X-Filler": "x" * int(options["size"]), "Content-Length": "0"}))
    return False


def _silence(wire: Wire, options: Mapping[str, Any], request: Request, response: Response) -> bool:
    wire.hold()
    return False


def _drip(wire: Wire, options: Mapping[str, Any], request: Request, response: Response) -> bool:
    content = response.content()
    wire.send(head_of(response, content))
    wire.drip(content, float(options["interval"]))
    return False


def _slow_headers(
    wire: Wire, options: Mapping[str, Any], request: Request, response: Response
) -> bool:
    content = response.content()
    wire.drip(head_of(response, content), float(options["interval"]))
    wire.send(content)
    return False


def _delay(wire: Wire, options: Mapping[str, Any], request: Request, response: Response) -> bool:
    wire.wait(float(options["seconds"]))
    wire.answer(response)
    return True


def _gzip_bomb(
    wire: Wire, options: Mapping[str, Any], request: Request, response: Response
) -> bool:
    headers = {"Content-Encoding": "gzip"}
    wire.answer(Response(body=_bomb(int(options["inflated"])), headers=headers))
    return True


@cache
def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * 1_000_000
    parts = [packer.compress(block) for _ in range(size // len(block))]
    return b"".join([*parts, packer.flush()])


def _html(wire: Wire, options: Mapping[str, Any], request: Request, response: Response) -> bool:
    wire.answer(Response(body=_PAGE, media_type=str(options["media_type"])))
    return True


def _gbk(wire: Wire, options: Mapping[str, Any], request: Request, response: Response) -> bool:
    content = response.content()
    if content.isascii():  # GBK would look the same; make sure that it does not
        value = decode_json(content)
        content = encode_json({**value, "说明": "编码"} if isinstance(value, dict) else ["编码"])
    body = content.decode().encode("gbk", "replace")
    wire.answer(Response(response.status, body=body, media_type=str(options["media_type"])))
    return True


def _redirect(wire: Wire, options: Mapping[str, Any], request: Request, response: Response) -> bool:
    headers = {"Location": request.target}
    wire.answer(Response(int(options["status"]), body=b"", headers=headers))
    return True


def _status(wire: Wire, options: Mapping[str, Any], request: Request, response: Response) -> bool:
    after = options.get("retry_after")
    headers = {} if after is None else {"Retry-After": str(after)}
    body = str(options.get("body", "")).encode()
    media_type = "application/json" if body[:1] in (b"{", b"[") else "text/plain"
    status = int(options.get("status", 429))
    wire.answer(Response(status, body=body, headers=headers, media_type=media_type))
    return True


def _empty(wire: Wire, options: Mapping[str, Any], request: Request, response: Response) -> bool:
    wire.answer(Response(int(options["status"]), body=b""))
    return True


def _honest(wire: Wire, options: Mapping[str, Any], request: Request, response: Response) -> bool:
    wire.answer(response)
    return True


_WAYS: Mapping[Fault, _Way] = {
    Fault.RESET: _reset,
    Fault.EARLY_CLOSE: _close,
    Fault.CUT_BODY: _cut_body,
    Fault.CUT_CHUNK: _cut_chunk,
    Fault.GARBAGE: _garbage,
    Fault.HUGE_HEADER: _huge_header,
    Fault.SILENCE: _silence,
    Fault.DRIP: _drip,
    Fault.SLOW_HEADERS: _slow_headers,
    Fault.DELAY: _delay,
    Fault.GZIP_BOMB: _gzip_bomb,
    Fault.HTML_200: _html,
    Fault.GBK_JSON: _gbk,
    Fault.REDIRECT_LOOP: _redirect,
    Fault.TOO_MANY_REQUESTS: _status,
    Fault.STATUS: _status,
    Fault.EMPTY_BODY: _empty,
    Fault.STATUS_AFTER: _status,
    Fault.LOST_ANSWER: _reset,
    Fault.TIMEOUT_AFTER: _silence,
    Fault.DUPLICATE_REQUEST: _honest,
}
