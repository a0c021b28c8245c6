"""How each fault answers: a few steps, for whoever holds the connection to perform."""

from __future__ import annotations

import enum
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hub.sdk.testing.faults import Fault, Misbehaviour
from hub.sdk.testing.messages import (
    Request,
    Response,
    decode_json,
    encode_json,
    head,
    head_of,
    sent_body,
    whole,
)

_PAGE = "<!DOCTYPE html><html><body><h1>系统维护</h1></body></html>".encode()
_TICK = 0.05
"""Seconds between two pieces of a slow body."""
_GARBAGE = b"\x16\x03\x01\x00\xfe\xff no status line here\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes at once."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Drip:
    """Send these bytes `size` at a time, each time after `interval` seconds."""

    data: bytes
    interval: float
    size: int = 1

    def pieces(self) -> Iterator[bytes]:
        """What is sent at a time."""
        for start in range(0, len(self.data), self.size):
            yield self.data[start : start + self.size]


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for `seconds`."""

    seconds: float


class End(enum.Enum):
    """The last step of a script after which the connection is of no further use."""

    RESET = "reset"  # RST
    CLOSE = "close"  # FIN
    HOLD = "hold"  # say nothing until the other side hangs up


class Honest(enum.Enum):
    """The answer as it should be."""

    ANSWER = "answer"


Step = Send | Drip | Wait | End | Honest


def script(act: Misbehaviour, request: Request, response: Response) -> Sequence[Step]:
    """What is done with the connection; without an `End` it can be used again.

    `response` is the honest answer when the fault is one of `HANDLED`. Raises ValueError when
    the fault cannot be made of this answer (GBK of something that is no JSON).
    """
    return _WAYS[act.fault](act.options, request, response)


def prepare(act: Misbehaviour) -> None:
    """Make beforehand what takes seconds: an answer that comes late would be another fault."""
    if act.fault is Fault.GZIP_BOMB:
        _bomb(int(act.options["inflated"]))


_Way = Callable[[Mapping[str, Any], Request, Response], Sequence[Step]]


def _reset(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    return [End.RESET]


def _close(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    return [End.CLOSE]


def _hold(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    return [End.HOLD]


def _honest(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    return [Honest.ANSWER]


def _cut_body(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    content = response.content()
    body = sent_body(response, request.method)
    return [Send(head_of(response, content) + body[: _kept(body, options)]), End.CLOSE]


def _cut_chunk(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    body = sent_body(response, request.method)
    headers = {"Content-Type": response.media_type, "Transfer-Encoding": "chunked"}
    size = f"{len(body):x}\r\n".encode() if body else b""
    data = head(response.status, headers) + size + body[: _kept(body, options)]
    return [Send(data), End.CLOSE]


def _kept(content: bytes, options: Mapping[str, Any]) -> int:
    return min(int(len(content) * float(options["keep"])), max(len(content) - 1, 0))


def _garbage(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    return [Send(_GARBAGE), End.CLOSE]


def _huge_header(
    options: Mapping[str, Any], request: Request, response: Response
) -> Sequence[Step]:
    headers = {"X-Filler": "x" * int(options["size"]), "Content-Length": "0"}
    return [Send(head(200, headers)), End.CLOSE]


def _drip(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    body = sent_body(response, request.method)
    drip = Drip(body, float(options["interval"]))
    return [Send(head_of(response, response.content())), drip, End.CLOSE]


def _slow_body(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    rate = float(options["rate"])
    size = max(int(rate * _TICK), 1)
    drip = Drip(sent_body(response, request.method), size / rate, size)
    return [Send(head_of(response, response.content())), drip]


def _slow_headers(
    options: Mapping[str, Any], request: Request, response: Response
) -> Sequence[Step]:
    drip = Drip(head_of(response, response.content()), float(options["interval"]))
    return [drip, Send(sent_body(response, request.method)), End.CLOSE]


def _delay(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    return [Wait(float(options["seconds"])), Honest.ANSWER]


def _gzip_bomb(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    headers = {"Content-Encoding": "gzip"}
    return _answer(request, Response(body=_bomb(int(options["inflated"])), headers=headers))


@cache
def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * 1_000_000
    parts = [packer.compress(block) for _ in range(size // len(block))]
    return b"".join([*parts, packer.flush()])


def _html(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    return _answer(request, Response(body=_PAGE, media_type=str(options["media_type"])))


def _gbk(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    content = response.content()
    if content.isascii():  # GBK would look the same; make sure that it does not
        value = decode_json(content)
        content = encode_json({**value, "说明": "编码"} if isinstance(value, dict) else ["编码"])
    body = content.decode().encode("gbk", "replace")
    media_type = str(options["media_type"])
    return _answer(request, Response(response.status, body=body, media_type=media_type))


def _redirect(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    headers = {"Location": request.target}
    return _answer(request, Response(int(options["status"]), body=b"", headers=headers))


def _status(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    after = options.get("retry_after")
    headers = {} if after is None else {"Retry-After": str(after)}
    body = str(options.get("body", "")).encode()
    media_type = "application/json" if body[:1] in (b"{", b"[") else "text/plain"
    status = int(options.get("status", 429))
    return _answer(request, Response(status, body=body, headers=headers, media_type=media_type))


def _empty(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    return _answer(request, Response(int(options["status"]), body=b""))


def _twice(options: Mapping[str, Any], request: Request, response: Response) -> Sequence[Step]:
    return [Send(2 * whole(response, request.method))]


def _answer(request: Request, response: Response) -> Sequence[Step]:
    """A complete answer, though not the right one."""
    return [Send(whole(response, request.method))]


_WAYS: Mapping[Fault, _Way] = {
    Fault.RESET: _reset,
    Fault.EARLY_CLOSE: _close,
    Fault.CUT_BODY: _cut_body,
    Fault.CUT_CHUNK: _cut_chunk,
    Fault.GARBAGE: _garbage,
    Fault.HUGE_HEADER: _huge_header,
    Fault.SILENCE: _hold,
    Fault.DRIP: _drip,
    Fault.SLOW_BODY: _slow_body,
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
    Fault.TIMEOUT_AFTER: _hold,
    Fault.DUPLICATE_REQUEST: _honest,
    Fault.DUPLICATE_ANSWER: _twice,
}
