"""The payload of Sparkplug B as protobuf, from the field numbers of its specification.

What holds no readings (metadata, properties, data sets, templates) is declared as plain bytes: it
travels through unchanged, and nothing nested can be blown up by reading it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, EncodeError

MOST_METRICS = 100_000
_MOST_FIELDS = MOST_METRICS + 100
_SMALL = 128 * 1024
_Field = descriptor_pb2.FieldDescriptorProto
_METRICS = 2

_PAYLOAD = (
    ("timestamp", 1, _Field.TYPE_UINT64),
    ("seq", 3, _Field.TYPE_UINT64),
    ("uuid", 4, _Field.TYPE_BYTES),
    ("body", 5, _Field.TYPE_BYTES),
)
# `name` and the like are bytes in the descriptor: a name that is no UTF-8 spoils its own metric
# only, where a text field would make the whole payload unreadable.
_METRIC = (
    ("name", 1, _Field.TYPE_BYTES),
    ("alias", 2, _Field.TYPE_UINT64),
    ("timestamp", 3, _Field.TYPE_UINT64),
    ("datatype", 4, _Field.TYPE_UINT32),
    ("is_historical", 5, _Field.TYPE_BOOL),
    ("is_transient", 6, _Field.TYPE_BOOL),
    ("is_null", 7, _Field.TYPE_BOOL),
    ("metadata", 8, _Field.TYPE_BYTES),
    ("properties", 9, _Field.TYPE_BYTES),
)
_VALUES = (
    ("int_value", 10, _Field.TYPE_UINT32),
    ("long_value", 11, _Field.TYPE_UINT64),
    ("float_value", 12, _Field.TYPE_FLOAT),
    ("double_value", 13, _Field.TYPE_DOUBLE),
    ("boolean_value", 14, _Field.TYPE_BOOL),
    ("string_value", 15, _Field.TYPE_BYTES),
    ("bytes_value", 16, _Field.TYPE_BYTES),
    ("dataset_value", 17, _Field.TYPE_BYTES),
    ("template_value", 18, _Field.TYPE_BYTES),
)


class Malformed(Exception):
    """Not a payload, or too large; `code` is one of the codes of the hub."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(code, detail)


def parse_payload(body: bytes) -> Any:
    """The payload in `body` (a message made at run time, hence Any). Raises Malformed."""
    if len(body) > _SMALL and _fields_in(body) > _MOST_FIELDS:
        raise Malformed("too_many", f"more than {MOST_METRICS} metrics")
    payload = _classes()[0]()
    try:
        payload.ParseFromString(body)
    except (DecodeError, ValueError) as error:
        raise Malformed("malformed", f"no Sparkplug payload: {error}"[:200]) from error
    return payload


def new_payload() -> Any:
    """An empty payload to fill and `serialize`."""
    return _classes()[0]()


def serialize(payload: Any) -> bytes:
    """Raises Malformed."""
    try:
        return bytes(payload.SerializeToString())
    except (EncodeError, ValueError) as error:
        raise Malformed("malformed", str(error)[:200]) from error


@cache
def _classes() -> tuple[Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="hub_sparkplug.proto", package="hub.sparkplug", syntax="proto2"
    )
    metric = file.message_type.add(name="Metric")
    for name, number, kind in _METRIC:
        _add(metric, name, number, kind)
    metric.oneof_decl.add(name="value")
    for name, number, kind in _VALUES:
        _add(metric, name, number, kind).oneof_index = 0
    payload = file.message_type.add(name="Payload")
    for name, number, kind in _PAYLOAD:
        _add(payload, name, number, kind)
    metrics = _add(payload, "metrics", _METRICS, _Field.TYPE_MESSAGE)
    metrics.label = _Field.LABEL_REPEATED
    metrics.type_name = ".hub.sparkplug.Metric"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("hub.sparkplug.Payload")
    return (message_factory.GetMessageClass(found),)


def _add(holder: Any, name: str, number: int, kind: Any) -> Any:
    return holder.field.add(name=name, number=number, type=kind, label=_Field.LABEL_OPTIONAL)


def _fields_in(body: bytes) -> int:
    """How many fields a payload announces (one per metric), counted without reading them.

    Two bytes are enough for a metric, and each costs a hundred once read. Stops when there are too
    many, or where the bytes make no sense (the real reading says so then).
    """
    place, found, end = 0, 0, len(body)
    while place < end and found <= _MOST_FIELDS:
        found += 1
        tag, place = _varint(body, place)
        kind = tag & 7
        if kind == 2:
            length, place = _varint(body, place)
            place += length
        elif kind == 0:
            _, place = _varint(body, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            break
    return found


def _varint(body: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(body) and shift < 70:
        byte = body[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    return value, len(body)
