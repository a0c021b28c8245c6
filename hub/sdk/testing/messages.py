"""Requests and responses of a fake server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_DECODER = msgspec.json.Decoder(float_hook=Decimal)


def encode_json(value: Any) -> bytes:
    """UTF-8 JSON; decimals become plain numbers."""
    return _ENCODER.encode(value)


def decode_json(raw: bytes) -> Any:
    """Decoded JSON; numbers are int or Decimal."""
    return _DECODER.decode(raw)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived.

    Header names are lower case. `params` holds what the `{name}` parts of `route` matched; `time`
    counts seconds since the server was made.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    time: float
    target: str = ""
    route: str = ""
    params: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """The decoded body."""
        return decode_json(self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """One answer: give `json` (any JSON value) or `body` (bytes, sent as they are)."""

    status: int = 200
    json: Any = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json; charset=utf-8"

    def content(self) -> bytes:
        """The body as bytes."""
        return self.body if self.body is not None else encode_json(self.json)


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Status line and headers as bytes, the blank line included."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def head_of(response: Response, content: bytes) -> bytes:
    """The head of a complete, honest answer."""
    headers = {"Content-Type": response.media_type} if response.media_type else {}
    if may_have_body("GET", response.status):
        headers["Content-Length"] = str(len(content))
    return head(response.status, {**headers, **response.headers})


def whole(response: Response, method: str = "GET") -> bytes:
    """The complete, honest answer to a request by `method` as bytes."""
    return head_of(response, response.content()) + sent_body(response, method)


def sent_body(response: Response, method: str) -> bytes:
    """What follows the head of an answer to `method`."""
    return response.content() if may_have_body(method, response.status) else b""


def may_have_body(method: str, status: int) -> bool:
    """Whether HTTP lets a body follow: never to HEAD, nor after 1xx, 204 and 304."""
    return method != "HEAD" and status >= 200 and status not in (204, 304)


def parse_head(raw: bytes) -> tuple[str, dict[str, str]]:
    """The first line and the headers (names in lower case) of a request or an answer."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return first, headers


def chunk_size(line: bytes) -> int:
    """The size in the first line of a chunk. Raises ValueError."""
    digits = line.partition(b";")[0].strip()
    if not digits or digits.strip(b"0123456789abcdefABCDEF") or len(digits) > 15:
        raise ValueError(f"{line[:40]!r} is no size of a chunk")
    return int(digits, 16)


def request_of(first: str, headers: Mapping[str, str], body: bytes, time: float) -> Request | None:
    """The request that begins with the line `first`; None when that is no HTTP."""
    method, _, rest = first.partition(" ")
    target = rest.rpartition(" ")[0]
    if not target:
        return None
    path, _, query = target.partition("?")
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    return Request(method, unquote(path), pairs, headers, body, time, target)
