"""ThingsBoard's payloads: telemetry and attributes of a device, or of many by way of a gateway.

An object is timed only when it has both `ts` and `values`; otherwise every key is a metric. The
place of a refusal is the position of its object; in a gateway's message, objects are counted over
all of its devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from connectors.iot.values import (
    add_attributes,
    add_values,
    bounded,
    loads,
    name_of,
    shown,
    time_ms,
)
from hub.sdk.telemetry import Decoded, Details, Refused, State


def decode_telemetry(body: bytes, details: Details, received_at: int) -> Decoded:
    """`{metric: value}`, `{"ts": ms, "values": {…}}`, or an array of either, mixed."""
    parsed = loads(body)
    decoded = Decoded()
    if isinstance(parsed, Refused):
        decoded.refused.append(parsed)
    elif isinstance(parsed, dict | list):
        _add_entries(decoded, "", parsed if isinstance(parsed, list) else [parsed], received_at, 0)
    else:
        decoded.refused.append(_not("an object or an array"))
    return bounded(decoded)


def decode_gateway_telemetry(body: bytes, details: Details, received_at: int) -> Decoded:
    """`{device: [entry, …]}`; `metadata` beside `ts` and `values` is left out."""
    place = 0

    def add(decoded: Decoded, device: str, entries: Any) -> None:
        nonlocal place
        listed = entries if isinstance(entries, list) else [entries]
        _add_entries(decoded, device, listed, received_at, place)
        place += len(listed)

    return _each_device(body, add)


def decode_attributes(body: bytes, details: Details, received_at: int) -> Decoded:
    """`{key: value}` of the sender."""
    parsed = loads(body)
    decoded = Decoded()
    if isinstance(parsed, dict):
        add_attributes(decoded, "", parsed, 0)
    else:
        decoded.refused.append(parsed if isinstance(parsed, Refused) else _not("an object"))
    return bounded(decoded)


def decode_gateway_attributes(body: bytes, details: Details, received_at: int) -> Decoded:
    """`{device: {key: value}}`."""
    place = -1

    def add(decoded: Decoded, device: str, values: Any) -> None:
        nonlocal place
        place += 1
        if isinstance(values, dict):
            add_attributes(decoded, device, values, place)
        else:
            decoded.refused.append(Refused(place, "malformed", shown(values), device))

    return _each_device(body, add)


def decode_connect(body: bytes, details: Details, received_at: int) -> Decoded:
    """`{"device": name, "type": class}`: a device is there."""
    return _device_state(body, "online", received_at)


def decode_disconnect(body: bytes, details: Details, received_at: int) -> Decoded:
    """`{"device": name}`: a device has left."""
    return _device_state(body, "offline", received_at)


def _device_state(body: bytes, state: str, received_at: int) -> Decoded:
    parsed = loads(body)
    if not isinstance(parsed, dict):
        return Decoded(refused=[parsed if isinstance(parsed, Refused) else _not("an object")])
    raw = parsed.get("device")
    device, kind = name_of(raw), name_of(parsed.get("type"))
    if not device:
        code = "no_device" if raw is None else "name"
        return Decoded(refused=[Refused(-1, code, shown(raw))])
    kinds = {device: kind} if kind else {}
    return Decoded(states=[State(device, state, received_at)], kinds=kinds)


def _each_device(body: bytes, add: Callable[[Decoded, str, Any], None]) -> Decoded:
    parsed = loads(body)
    decoded = Decoded()
    if not isinstance(parsed, dict):
        decoded.refused.append(parsed if isinstance(parsed, Refused) else _not("an object"))
        return decoded
    for raw, content in parsed.items():
        device = name_of(raw)
        if device:
            add(decoded, device, content)
        else:
            decoded.refused.append(Refused(-1, "name", shown(raw)))
    return bounded(decoded)


def _add_entries(
    decoded: Decoded, device: str, entries: list[Any], received_at: int, place: int
) -> None:
    for at, entry in enumerate(entries, place):
        if not isinstance(entry, dict):
            decoded.refused.append(Refused(at, "malformed", shown(entry), device))
        elif "ts" in entry and "values" in entry:
            _add_timed(decoded, device, entry["ts"], entry["values"], received_at, at)
        else:
            add_values(decoded, device, received_at, entry, at)


def _add_timed(
    decoded: Decoded, device: str, raw: object, values: object, received_at: int, place: int
) -> None:
    ts = received_at if raw is None else time_ms(raw)
    if not isinstance(values, dict):
        decoded.refused.append(Refused(place, "malformed", "values is no object", device))
    elif ts is None:
        decoded.refused.append(Refused(place, "bad_time", shown(raw), device))
    else:
        add_values(decoded, device, ts, values, place)


def _not(wanted: str) -> Refused:
    return Refused(-1, "malformed", f"the message is not {wanted}")
