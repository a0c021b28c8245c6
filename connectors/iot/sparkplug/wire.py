"""Between the wire and the state machine: topics, arrivals, and payloads with their names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from connectors.iot.sparkplug.births import Metric
from connectors.iot.sparkplug.payload import new_payload, parse_payload, serialize
from connectors.iot.sparkplug.state import Arrival, Keep

NAMESPACE = "spBv1.0"
_OF_NODE = ("NBIRTH", "NDEATH", "NDATA")
_OF_DEVICE = ("DBIRTH", "DDEATH", "DDATA")


class Place(NamedTuple):
    """What a Sparkplug topic says."""

    group: str
    kind: str
    edge: str
    device: str = ""


def place_of(topic: str) -> Place | None:
    """None for what is no message of an edge node: commands, states, topics of others."""
    parts = topic.split("/")
    if not 4 <= len(parts) <= 5 or parts[0] != NAMESPACE or not all(parts):
        return None
    place = Place(*parts[1:])
    kinds = _OF_DEVICE if place.device else _OF_NODE
    return place if place.kind in kinds else None


def arrival_of(place: Place, body: bytes, received_at: int) -> Arrival:
    """Raises Malformed."""
    payload = parse_payload(body)
    metrics = [
        Metric(
            one.name.decode("utf-8", "replace"),
            one.alias if one.HasField("alias") else None,
            one.datatype,
        )
        for one in payload.metrics
    ]
    seq = payload.seq if payload.HasField("seq") and payload.seq <= 255 else None
    return Arrival(
        place.kind,
        place.device,
        seq,
        payload.timestamp if payload.HasField("timestamp") else None,
        _bd_seq(payload) if place.kind in ("NBIRTH", "NDEATH") else None,
        metrics,
        len(body) + 200 * len(metrics),
        (payload, body, received_at),
    )


def details_of(place: Place, devices: Sequence[str] = ()) -> dict[str, str]:
    """What the decoder needs to read the message by itself."""
    details = {"group": place.group, "edge": place.edge, "type": place.kind}
    if place.device:
        details["device"] = place.device
    if devices:
        details["devices"] = json.dumps(list(devices), ensure_ascii=False)
    return details


def body_of(keep: Keep) -> bytes:
    """The payload with names and datatypes filled in. Raises Malformed."""
    payload, body, _ = keep.arrival.raw
    changed = False
    for metric, known in zip(payload.metrics, keep.known, strict=False):
        if known.name and not metric.name:
            metric.name = known.name.encode()
            changed = True
        if known.datatype and not metric.datatype:
            metric.datatype = known.datatype
            changed = True
    return serialize(payload) if changed else bytes(body)


def rebirth_body(now_ms: int) -> bytes:
    """NCMD: be born again."""
    payload = new_payload()
    payload.timestamp = now_ms
    metric = payload.metrics.add()
    metric.name = b"Node Control/Rebirth"
    metric.timestamp = now_ms
    metric.datatype = 11
    metric.boolean_value = True
    return serialize(payload)


def _bd_seq(payload: Any) -> int | None:
    for metric in payload.metrics:
        if metric.name == b"bdSeq" and metric.WhichOneof("value") in ("int_value", "long_value"):
            return int(getattr(metric, metric.WhichOneof("value")))
    return None
