"""What a Sparkplug metric says, by its datatype."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from connectors.iot.values import cast_value, name_of

SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}
UNSIGNED = {5: 8, 6: 16, 7: 32, 8: 64}
FLOAT, DOUBLE, BOOLEAN, STRING, DATETIME, TEXT, UUID = 9, 10, 11, 12, 13, 14, 15
_RAW = {16: "DataSet", 17: "Bytes", 18: "File", 19: "Template", 20: "PropertySet"}
_RAW |= {21: "PropertySetList"} | dict.fromkeys(range(22, 35), "an array")
_INTEGERS = ("int_value", "long_value")
_REALS = ("float_value", "double_value", *_INTEGERS)


class Unreadable(Exception):
    """`code` is one of the codes of the hub."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(code, detail)


def value_of(metric: Any, datatype: int) -> float | str | bool:
    """The value of a metric. Raises Unreadable.

    A datatype that nobody told (0) is taken from the field that holds the value.
    """
    field = metric.WhichOneof("value")
    if field is None:
        raise Unreadable("malformed", "no value")
    if datatype in _RAW or field in ("bytes_value", "dataset_value", "template_value"):
        kind = _RAW.get(datatype, field.removesuffix("_value"))
        raise Unreadable("unsupported", f"{kind} is kept raw only")
    value = getattr(metric, field)
    if datatype in SIGNED:
        return float(_signed(_of(_INTEGERS, field, value, datatype), SIGNED[datatype], field))
    if datatype in UNSIGNED:
        return float(_unsigned(_of(_INTEGERS, field, value, datatype), UNSIGNED[datatype]))
    if datatype == DATETIME:
        return float(_of(_INTEGERS, field, value, datatype))
    if datatype in (FLOAT, DOUBLE):
        return _finite(_of(_REALS, field, value, datatype))
    if datatype == BOOLEAN:
        return bool(_of(("boolean_value", *_INTEGERS), field, value, datatype))
    if datatype in (STRING, TEXT, UUID):
        return _text(_of(("string_value",), field, value, datatype))
    if datatype != 0:
        raise Unreadable("unsupported", f"datatype {datatype} is unknown")
    return _by_field(field, value)


@lru_cache(maxsize=16384)
def name_of_metric(raw: bytes) -> str:
    """Raises Unreadable."""
    name = name_of(_decoded(raw))
    if not name:
        raise Unreadable("name", "no name, or one that cannot be")
    return name


def _text(raw: bytes) -> float | str:
    """A text, or its number when it looks like one, as in every format of this connector."""
    number, text, code = cast_value(_decoded(raw))
    if number is not None:
        return number
    if text is None:
        raise Unreadable(code, "a text that cannot be kept")
    return text


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("malformed", "a text is not UTF-8") from None


def _by_field(field: str, value: Any) -> float | str | bool:
    if field == "boolean_value":
        return bool(value)
    return _text(value) if field == "string_value" else _finite(value)


def _of(allowed: tuple[str, ...], field: str, value: Any, datatype: int) -> Any:
    if field not in allowed:
        raise Unreadable("malformed", f"datatype {datatype} in {field}")
    return value


def _signed(value: int, width: int, field: str) -> int:
    """Two's complement, whether it fills the field or only its own width."""
    carrier = 32 if field == "int_value" else 64
    half = 1 << (width - 1)
    if value >= (1 << carrier) - half:
        return value - (1 << carrier)
    if value >= 1 << width:
        raise Unreadable("invalid", f"{value} is no signed integer of {width} bits")
    return value - (1 << width) if value >= half else value


def _unsigned(value: int, width: int) -> int:
    if value >= 1 << width:
        raise Unreadable("invalid", f"{value} is no unsigned integer of {width} bits")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise Unreadable("invalid", f"{value} is no number")
    return float(value)
