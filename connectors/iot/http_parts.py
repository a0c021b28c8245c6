"""What the HTTP faces of this connector share: who sends, answers, refusals, keys of messages."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import orjson

from hub.sdk.errors import AuthError, ConfigError, ContractBroken, HubError, TransientError
from hub.sdk.telemetry import Decode, Decoded, HttpAnswer, HttpRequest, Port, Refused, Sender

LARGEST_BODY = 25_000_000
PROBLEM = "application/problem+json"

_LARGE = 65_536
"""Bodies from this size on are decoded on a worker thread."""
_LISTED = 20
_LONGEST_PATH = 120
T = TypeVar("T")
_STATUS = {
    "telemetry.disk_full": 507,
    "telemetry.encoding": 415,
    "telemetry.event_format": 415,
    "telemetry.headers": 431,
    "telemetry.method": 405,
    "telemetry.no_call": 404,
    "telemetry.no_mapping": 404,
    "telemetry.rate": 429,
    # The message may be good: after a 4xx its sender would throw it away.
    "telemetry.slow": 503,
    "telemetry.too_large": 413,
    "telemetry.too_many": 413,
}


def require_method(request: HttpRequest, *allowed: str) -> None:
    """Raises ContractBroken, which `refusal` answers with 405."""
    if request.method not in allowed:
        raise ContractBroken(
            "telemetry.method",
            path=request.path[:_LONGEST_PATH],
            method=request.method,
            allowed=", ".join(allowed),
        )


async def admit_by_header(port: Port, request: HttpRequest) -> Sender:
    """By `Authorization` or `X-Authorization`: Bearer, Token or Basic. Raises AuthError."""
    header = request.headers.get("authorization") or request.headers.get("x-authorization", "")
    scheme, _, rest = header.strip().partition(" ")
    sender = None
    if scheme.lower() == "basic":
        user, _, password = _unpacked(rest).partition(":")
        sender = await port.admit_password(user, password) if user else None
    elif header.isascii() and header:
        known = scheme.lower() in ("bearer", "token")
        sender = await port.admit_token(rest.strip() if known else header.strip())
    if sender is None:
        raise AuthError("telemetry.unknown_sender")
    return sender


def _unpacked(credentials: str) -> str:
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


async def decode_off_loop(
    decode: Decode, body: bytes, details: Mapping[str, str], now: int
) -> Decoded:
    """What `decode` makes of the body, without holding up the event loop for a large one."""
    return await off_loop(len(body), lambda: decode(body, details, now))


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """What `work` returns; done on a worker thread when the body it is about is large."""
    return await asyncio.to_thread(work) if size >= _LARGE else work()


def json_answer(value: Any, status: int = 200) -> HttpAnswer:
    return HttpAnswer(status, orjson.dumps(value))


def message_key(*parts: str | bytes) -> str:
    """The key of a message that is recognised by all of `parts` together."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode(errors="surrogateescape") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def malformed(refused: Sequence[Refused]) -> ContractBroken:
    """The error that tells a sender what is wrong with the message."""
    said = [
        (f"{one.code} at {one.place}" if one.place >= 0 else one.code)
        + (f" ({one.detail})" if one.detail else "")
        for one in refused[:_LISTED]
    ]
    return ContractBroken("telemetry.malformed", detail="; ".join(said))


def refusal(request: HttpRequest, error: Exception) -> HttpAnswer:
    """Problem details with the status by which a sender knows whether to send again."""
    if not isinstance(error, HubError):
        error = HubError("telemetry.failed", kind=type(error).__name__)
    status = _status_of(error)
    headers = {}
    if isinstance(error, TransientError) or status == 503:
        after = error.retry_after if isinstance(error, TransientError) else None
        headers["Retry-After"] = str(max(1, math.ceil(after or 1)))
    if status == 405:
        headers["Allow"] = str(error.params.get("allowed", ""))
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="telemetry"'
    body = {
        "type": f"urn:hub:problem:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message(_language(request)),
        "code": error.code,
    }
    return HttpAnswer(status, orjson.dumps(body), PROBLEM, headers)


def _status_of(error: HubError) -> int:
    if error.code in _STATUS:
        return _STATUS[error.code]
    if isinstance(error, TransientError):
        return 503
    if isinstance(error, AuthError):
        return 401
    return 400 if isinstance(error, ContractBroken | ConfigError) else 500


def _language(request: HttpRequest) -> str:
    first = request.headers.get("accept-language", "").strip().lower()
    return "zh" if first.startswith("zh") else "en"
