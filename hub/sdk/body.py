"""JSON bodies: exact numbers in and out, and looking a value up by a dotted path."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from decimal import Decimal, DecimalException
from typing import Any, Final

import msgspec

from hub.sdk.errors import ContractBroken


class Missing(enum.Enum):
    """Nothing stands at this path (which differs from `null`)."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_BOM = b"\xef\xbb\xbf"


def dig(body: Any, path: str) -> Any:
    """The value at `path` (`data.items`, `list.0.id`, `list.-1.id` for the last one, `$` for the
    body itself), else MISSING."""
    if path == "$":
        return body
    if isinstance(body, dict) and path in body:
        return body[path]
    current = body
    for part in path.removeprefix("$.").split("."):
        current = _step(current, part)
        if current is MISSING:
            return MISSING
    return current


def key_parts(row: dict[str, Any], fields: Sequence[str]) -> list[Any]:
    """The parts of a row's key, None for one that is missing, empty, an object or a list.

    A field may be a path into nested objects (`product.sku`).
    """
    return [_key_part(row, name) for name in fields]


def _key_part(row: dict[str, Any], name: str) -> Any:
    part = row.get(name)
    if part is None and "." in name:
        part = dig(row, name)
    if part is MISSING or part == "" or part.__class__ in (dict, list):
        return None
    return part


def _step(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part, MISSING)
    if isinstance(value, list) and part.removeprefix("-").isdecimal():
        index = int(part)
        return value[index] if -len(value) <= index < len(value) else MISSING
    return MISSING


def decode(raw: bytes, charset: str, where: str) -> Any:
    """The decoded JSON body; numbers are int or Decimal. Raises ContractBroken.

    Errors name positions and lengths, never content.
    """
    if charset != "utf-8":
        try:
            raw = raw.decode(charset).encode()
        except UnicodeError as error:
            raise _undecodable(error, charset, where) from None
    try:
        return _DECODER.decode(raw.removeprefix(_BOM))
    except RecursionError:
        raise ContractBroken("http.too_deep", where=where) from None
    except UnicodeDecodeError:
        problem = _first_bad_byte(raw, where)
    except msgspec.DecodeError as error:
        problem = ContractBroken("http.not_json", where=where, length=len(raw), problem=error)
    except DecimalException:
        problem = ContractBroken("http.number_range", where=where)
    raise problem


def _first_bad_byte(raw: bytes, where: str) -> ContractBroken:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return _undecodable(error, "utf-8", where)
    return ContractBroken("http.not_json", where=where, length=len(raw), problem="text encoding")


def _undecodable(error: UnicodeError, charset: str, where: str) -> ContractBroken:
    offset = error.start if isinstance(error, UnicodeDecodeError) else "?"
    return ContractBroken("http.undecodable", where=where, charset=charset, offset=offset)


def encode(value: Any) -> bytes:
    """`value` as JSON; a Decimal keeps its digits as a number."""
    return _ENCODER.encode(value)


def as_int(value: Any) -> int | None:
    """A whole number ≥ 0 given as number or text (vendors send counts as `"123"`), else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    if isinstance(value, Decimal):
        small = value.is_finite() and 0 <= value < 10**18
        return int(value) if small and value == value.to_integral_value() else None
    if isinstance(value, str) and len(value) <= 18 and value.strip().isascii():
        text = value.strip()
        return int(text) if text.isdecimal() else None
    return None
