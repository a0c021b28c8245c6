"""Text as it may be stored: NFC, bounded, no NUL and no lone surrogates."""

from __future__ import annotations

import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from hub.mapping.results import Unusable, reject

MAX_TEXT = 65_536
MAX_DEPTH = 20
INT64 = 2**63 - 1

_HALF = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


def sound(text: str) -> bool:
    """Whether `text` may be stored as it is. Raises UnicodeEncodeError for a lone surrogate."""
    if len(text) > MAX_TEXT or "\0" in text:
        return False
    if text.isascii():
        return True
    text.encode()
    return unicodedata.normalize("NFC", text) == text  # quicker than is_normalized


def clean(text: str) -> str:
    """`text` in NFC. Raises RecordRejected for what no store can hold."""
    if len(text) > MAX_TEXT:
        raise reject("mapping.text_too_long", text[:60], length=len(text), limit=MAX_TEXT)
    if "\0" in text:
        raise reject("mapping.text_nul", text[:60])
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise reject("mapping.text_surrogate", ascii(text[:60])) from None
    normal = unicodedata.normalize("NFC", text)
    if len(normal) > MAX_TEXT:
        raise reject("mapping.text_too_long", text[:60], length=len(normal), limit=MAX_TEXT)
    return normal


def copied(value: Any, depth: int = 0) -> Any:
    """`value` as an output: str, int, bool, None, Decimal, list or dict of these."""
    kind = value.__class__
    if kind is str:
        return clean(value)
    if value is None or kind is bool:
        return value
    if isinstance(value, int | float | Decimal):
        return _number(value)
    if isinstance(value, list | tuple | dict):
        return _collection(value, depth)
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return clean(str(value))
    if isinstance(value, Unusable):
        raise reject("mapping.group_not_a_number", value.value)
    raise reject("mapping.not_plain", repr(value)[:60], found=kind.__name__)


def _number(value: float | Decimal) -> int | Decimal:
    if isinstance(value, int):
        if abs(value) > INT64:
            raise reject("mapping.number_too_large", _short_int(value), limit="64 bits")
        return int(value)
    number = value if isinstance(value, Decimal) else Decimal(repr(value))
    if not number.is_finite():
        raise reject("mapping.not_a_number", str(value))
    return number


def _short_int(value: int) -> str:
    return str(value) if value.bit_length() < 400 else f"a {value.bit_length()}-bit integer"


def _collection(value: Any, depth: int) -> Any:
    if depth >= MAX_DEPTH:
        raise reject("mapping.too_deep", "…", limit=MAX_DEPTH)
    if isinstance(value, dict):
        return {clean(shown(name)): copied(item, depth + 1) for name, item in value.items()}
    return [copied(item, depth + 1) for item in value]


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        raise reject("mapping.zone_needed", value.isoformat())
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def shown(value: Any) -> str:
    """A value as text: numbers without exponent, booleans as true/false, null as nothing."""
    kind = value.__class__
    if kind is str:
        return value  # type: ignore[no-any-return]  # narrowed by kind
    if value is None:
        return ""
    if kind is bool:
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return _plain(value)
    if isinstance(value, list | tuple | dict):
        raise reject("mapping.not_text", repr(value)[:60], found=kind.__name__)
    return str(copied(value))


def _plain(number: Decimal) -> str:
    if not number.is_finite():
        raise reject("mapping.not_a_number", str(number))
    if abs(number.adjusted()) > 1000:
        raise reject("mapping.number_too_large", str(number), limit="1000 digits")
    return format(number, "f")


def halfwidth(text: str) -> str:
    """Full-width letters, digits, punctuation and spaces as their ASCII forms."""
    return text if text.isascii() else text.translate(_HALF)


def filled(value: object) -> bool:
    """Whether a value counts as present: not null and not blank text (0 and false are present)."""
    return bool(value.strip()) if isinstance(value, str) else value is not None


def required(value: Any) -> Any:
    """`value`, or RecordRejected when it is null or blank."""
    if filled(value):
        return value
    raise reject("mapping.required", value)
