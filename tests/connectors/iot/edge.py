"""A hand-made edge node: payloads as its text says them, right or wrong."""

from __future__ import annotations

from typing import Any

from connectors.iot.sparkplug.payload import new_payload, serialize

FIELDS = {float: "double_value", bool: "boolean_value", int: "int_value"}


def payload(
    *metrics: dict[str, Any], seq: int | None = None, timestamp: int | None = 1_700_000_000_000
) -> bytes:
    """`{"name", "alias", "datatype", "value" or a field such as "long_value", …}` per metric."""
    made = new_payload()
    if timestamp is not None:
        made.timestamp = timestamp
    if seq is not None:
        made.seq = seq
    for given in metrics:
        metric = made.metrics.add()
        for key, value in given.items():
            field, content = key, value
            if key == "value":
                field = FIELDS.get(type(value), "string_value")
            if isinstance(content, str):
                content = content.encode()
            setattr(metric, field, content)
    return serialize(made)


def bd_seq(number: int) -> dict[str, Any]:
    return {"name": "bdSeq", "datatype": 8, "long_value": number}
