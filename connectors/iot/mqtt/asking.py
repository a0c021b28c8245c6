"""Answers to what devices and gateways ask: their attributes."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

import orjson

from hub.sdk.telemetry import Port, Sender

Answer = Coroutine[None, None, bytes]
"""What the store knows, once awaited. The question itself is read before: `Unreadable`."""

_MOST_KEYS = 1000


class Unreadable(ValueError):
    """The question is none; the text says what is missing."""


def device_attributes(port: Port, sender: Sender, body: bytes) -> Answer:
    """`{"clientKeys":"a,b","sharedKeys":"c"}`; without either everything is asked for."""
    asked = _object(body)
    client, shared = asked.get("clientKeys"), asked.get("sharedKeys")
    everything = client is None and shared is None
    client_keys, shared_keys = _keys(client), _keys(shared)

    async def answer() -> bytes:
        found: dict[str, Any] = {"client": {}, "shared": {}}
        if everything or client is not None:
            found["client"] = await port.attributes(sender, "", client_keys)
        if everything or shared is not None:
            found["shared"] = await port.shared_attributes(sender, "", shared_keys)
        return orjson.dumps(found)

    return answer()


def attributes_of_a_device(port: Port, sender: Sender, body: bytes) -> Answer:
    """`{"id":1,"device":"A","client":true,"keys":["x"]}`, or `"key":"x"` for a single `value`."""
    asked = _object(body)
    device, single = asked.get("device"), asked.get("key")
    if not isinstance(device, str) or not device:
        raise Unreadable("`device` is missing")
    if single is not None and not isinstance(single, str):
        raise Unreadable("`key` is no name")
    keys = _keys(asked.get("keys")) if single is None else [single]
    look_up = port.attributes if asked.get("client") is True else port.shared_attributes

    async def answer() -> bytes:
        values = await look_up(sender, device, keys)
        found: dict[str, Any] = {"id": asked.get("id"), "device": device}
        if single is None:
            found["values"] = values
        elif single in values:
            found["value"] = values[single]
        return orjson.dumps(found)

    return answer()


def named_device(body: bytes) -> str | None:
    """The device that `v1/gateway/connect` and its like name."""
    try:
        device = _object(body).get("device")
    except Unreadable:
        return None
    return device if isinstance(device, str) and device else None


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"no JSON: {error}") from error
    if not isinstance(found, dict):
        raise Unreadable("not a JSON object")
    return found


def _keys(given: object) -> Sequence[str] | None:
    """Names of attributes out of `a,b` or a list; None asks for all."""
    if isinstance(given, str):
        given = [name.strip() for name in given.split(",")]
    if given is None:
        return None
    if not isinstance(given, list) or len(given) > _MOST_KEYS:
        raise Unreadable("keys are a list of names")
    return [name for name in given if isinstance(name, str) and name]
