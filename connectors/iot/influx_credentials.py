"""Where Influx clients put their credentials, and all that they may mean.

Authorization: Token T      a token, or `user:password` as clients of 1.8 write it
Authorization: Bearer T     a token
Authorization: Basic …      user and password; the password may be a token
?u=…&p=…                    the same, in the query
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from hub.sdk.telemetry import HttpRequest


@dataclass(frozen=True, slots=True)
class Credentials:
    """`tokens` are tried first (that is quick), then user and password."""

    tokens: tuple[str, ...]
    password: tuple[str, str] | None = None


def credentials_of(request: HttpRequest) -> Credentials | None:
    """What the request shows; None when it shows nothing that could be a credential."""
    scheme, _, rest = request.headers.get("authorization", "").strip().partition(" ")
    rest = rest.strip()
    if scheme.lower() == "basic":
        return _of_pair(_decoded(rest))
    if scheme.lower() in ("token", "bearer"):
        return _of_token(rest)
    if "u" in request.query or "p" in request.query:
        return _of_pair(f"{request.query.get('u', '')}:{request.query.get('p', '')}")
    return None


def _of_pair(pair: str) -> Credentials | None:
    user, colon, password = pair.partition(":")
    if not colon or not password:
        return None
    return Credentials((password,), (user, password) if user else None)


def _of_token(token: str) -> Credentials | None:
    if not token:
        return None
    user, _, password = token.partition(":")
    return Credentials((token,), (user, password) if user and password else None)


def _decoded(encoded: str) -> str:
    """`user:password` of Basic; "" when it is no base64 of text."""
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
