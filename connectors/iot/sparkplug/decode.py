"""`iot.sparkplug`: a Sparkplug message, with its aliases resolved, as readings.

The host writes names and datatypes into each payload before it is kept, so a message can be read
by itself, in any process and at any time. `details`: group, edge, device ("" for the node), type,
and `devices` (JSON list) with a node's death.

A historical metric is a reading like others: it has its own time, and the last value of a series
goes by time, so it never displaces a newer one.
"""

from __future__ import annotations

import json
from typing import Any

from connectors.iot.sparkplug.payload import Malformed, parse_payload
from connectors.iot.sparkplug.values import Unreadable, name_of_metric, value_of
from connectors.iot.values import LAST_MS, name_of
from hub.sdk.telemetry import Decoded, Details, Refused, Sample, State, Text

_MOST_REFUSED = 1000


def decode_sparkplug(body: bytes, details: Details, received_at: int) -> Decoded:
    """See `hub.sdk.telemetry.Decode`."""
    decoded = Decoded()
    try:
        payload = parse_payload(body)
    except Malformed as error:
        decoded.refused.append(Refused(-1, error.code, error.detail))
        return decoded
    if not details.get("group") or not details.get("edge"):
        decoded.refused.append(Refused(-1, "no_device", "no group or edge node"))
        return decoded
    node = f"{details['group']}/{details['edge']}"
    device = f"{node}/{details['device']}" if details.get("device") else node
    if not name_of(device):
        decoded.refused.append(Refused(-1, "name", device[:120]))
        return decoded
    kind = details.get("type", "")
    fallback = payload.timestamp if payload.HasField("timestamp") else received_at
    if kind == "NDEATH":
        # A will was written when the node connected, so its time says nothing of the death.
        decoded.states.append(State(node, "offline", received_at))
        decoded.states += [
            State(f"{node}/{one}", "stale", received_at) for one in _devices(details)
        ]
        return decoded
    if kind == "DDEATH":
        decoded.states.append(State(device, "offline", min(fallback, LAST_MS)))
        return decoded
    if kind in ("NBIRTH", "DBIRTH"):
        decoded.states.append(State(device, "online", min(fallback, LAST_MS)))
    _read_metrics(payload, device, fallback, decoded)
    return decoded


def _read_metrics(payload: Any, device: str, fallback: int, decoded: Decoded) -> None:
    samples, texts = decoded.samples, decoded.texts
    for place, metric in enumerate(payload.metrics):
        if metric.is_null or metric.is_transient:
            continue
        name = ""
        try:
            name = name_of_metric(metric.name)
            value = value_of(metric, metric.datatype)
            ts = metric.timestamp if metric.HasField("timestamp") else fallback
            if ts > LAST_MS:
                raise Unreadable("bad_time", f"{ts} ms is after the year 9999")
        except Unreadable as error:
            _refuse(decoded, Refused(place, error.code, error.detail, device, name[:255]))
            continue
        if isinstance(value, str):
            texts.append(Text(device, name, ts, value))
            continue
        if isinstance(value, bool):
            texts.append(Text(device, name, ts, "true" if value else "false"))
        samples.append(Sample(device, name, ts, float(value)))


def _refuse(decoded: Decoded, refused: Refused) -> None:
    """At most a thousand one by one: a message full of nonsense must not fill the quarantine."""
    if len(decoded.refused) < _MOST_REFUSED:
        decoded.refused.append(refused)
    elif len(decoded.refused) == _MOST_REFUSED:
        detail = f"and more of this message; only the first {_MOST_REFUSED} are listed"
        decoded.refused.append(refused._replace(detail=detail))


def _devices(details: Details) -> list[str]:
    try:
        found = json.loads(details.get("devices", "[]"))
    except (ValueError, RecursionError):
        return []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
