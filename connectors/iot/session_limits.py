"""What a ThingsBoard client is told of our limits.

thingsboard-gateway sends no data before it has this answer, and then keeps to 80 % of the limits;
an empty limit is none. Our own throttle is the acknowledgement that comes late.
"""

from __future__ import annotations

from typing import Any

import orjson

SESSION_LIMITS = "getSessionLimits"


def rpc_answer(body: bytes, *, largest: int = 65_536, in_flight: int = 100) -> bytes | None:
    """The answer to a call `{"method", "params"}` of a device; None when it is no call.

    `largest` is the payload, in bytes, and `in_flight` the number of unacknowledged messages that
    a client may send. Methods that the hub does not know are answered `{}`.
    """
    method = _method(body)
    if method == SESSION_LIMITS:
        return orjson.dumps(_limits(largest, in_flight))
    return None if method is None else b"{}"


def _method(body: bytes) -> str | None:
    try:
        call = orjson.loads(body)
    except ValueError:
        return None
    method = call.get("method") if isinstance(call, dict) else None
    return method if isinstance(method, str) else None


def _limits(largest: int, in_flight: int) -> dict[str, Any]:
    return {
        "maxPayloadSize": largest,
        "maxInflightMessages": in_flight,
        "payloadType": "JSON",
        "rateLimits": {},
        "gatewayRateLimits": {},
    }
