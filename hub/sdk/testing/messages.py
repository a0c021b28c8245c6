"""Requests and responses of a fake server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from typing import Any

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
    headers = {"Content-Type": response.media_type, "Content-Length": str(len(content))}
    return head(response.status, {**headers, **response.headers})
