"""A face asked as the hub asks it: credentials, then the answer, then the refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson

from hub.sdk.errors import HubError
from hub.sdk.telemetry import HttpAnswer, HttpFace, HttpRequest, Sender
from hub.sdk.telemetry_source import TelemetrySource
from hub.sdk.testing.telemetry import MemoryPort

NOW = 1_795_593_600_000
PUMP = Sender("iot", "pump-7")
GATEWAY = Sender("iot", "gw", gateway=True)


class StillPort(MemoryPort):
    """A port whose clock stands still."""

    def now_ms(self) -> int:
        return NOW


def port_with(**source: Any) -> StillPort:
    """A port that knows the tokens PUMP (a device) and GW (a gateway), and a password."""
    port = StillPort([TelemetrySource(**source)])
    port.tokens = {"PUMP": PUMP, "GW": GATEWAY}
    port.passwords = {"gw:se:cret": GATEWAY}
    return port


async def ask_async(
    face: HttpFace,
    address: str,
    body: bytes = b"",
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> HttpAnswer:
    path, _, query = address.partition("?")
    assert face.takes(method, path)
    given = {"authorization": "Bearer GW"} if headers is None else headers
    request = HttpRequest(method, path, dict(parse_qsl(query)), given)
    try:
        sender = await face.admit(request)
        full = HttpRequest(method, path, dict(parse_qsl(query)), given, body)
        return await face.answer(full, sender)
    except HubError as error:
        return face.refuse(request, error)


def ask(face: HttpFace, address: str, body: Any = b"", **how: Any) -> HttpAnswer:
    """One request. A body that is not bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return asyncio.run(ask_async(face, address, raw, **how))


def told(answer: HttpAnswer) -> Any:
    """The JSON of an answer."""
    return orjson.loads(answer.body)
