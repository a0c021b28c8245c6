"""When two values say the same, although one went through another system.

Numbers are equal whatever their zeros, moments whatever their spelling (to the second), text but
for blanks at its ends; nothing and blank text are the same; the order of a list does not count.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

_NUMBER = re.compile(r"-?(0|[1-9]\d{0,37})(\.\d{1,38})?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)")
_NOTHING = "-"
_encode = msgspec.json.Encoder(order="sorted").encode


def form(value: Any) -> str:
    """What a value of ours says, in one spelling; its type tells numbers from text."""
    if value is None or value == "":
        return _NOTHING
    if isinstance(value, bool):
        return f"b{int(value)}"
    if isinstance(value, int | float | Decimal):
        return f"n{_number(value)}"
    if isinstance(value, str):
        return _text(value)
    return f"j{_encode(_nested(value)).decode()}"


def forms(value: Any) -> tuple[str, ...]:
    """What a value of another system may say: some give numbers as text, truth as numbers."""
    first = form(value)
    if first[0] == "n":
        shown = first[1:]
        return (first, f"t{shown}", *((f"b{shown}",) if shown in ("0", "1") else ()))
    if first[0] != "t":
        return (first,)
    shown = first[1:]
    if _NUMBER.fullmatch(shown):
        return (first, f"n{_number(Decimal(shown))}")
    truth = {"true": "b1", "false": "b0"}.get(shown.lower())
    return (first, truth) if truth else (first,)


def same(ours: Any, theirs: Any) -> bool:
    """Whether a value of another system says what ours says."""
    return form(ours) in forms(theirs) or form(theirs) in forms(ours)


def _text(value: str) -> str:
    shown = unicodedata.normalize("NFC", value).strip()
    if not shown:
        return _NOTHING
    return f"d{_seconds(shown)}" if _MOMENT.fullmatch(shown) else f"t{shown}"


def _seconds(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).replace(microsecond=0).isoformat()
    except (ValueError, OverflowError):
        return text


def _number(value: float | Decimal) -> str:
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        return str(value)
    if not exact.is_finite() or abs(exact.adjusted()) > 100:
        return str(exact)
    shown = f"{exact:f}"
    shown = shown.rstrip("0").rstrip(".") if "." in shown else shown
    return "0" if shown in ("-0", "") else shown


def _nested(value: Any) -> Any:
    """Lists without their order, records without empty fields, scalars as text."""
    if isinstance(value, dict):
        inner = {str(name): _nested(one) for name, one in value.items()}
        return {name: one for name, one in inner.items() if one != _NOTHING}
    if isinstance(value, list | tuple):
        return sorted((_nested(one) for one in value), key=_encode)
    spelled = form(value)
    number = spelled[0] == "t" and _NUMBER.fullmatch(spelled[1:])
    return f"n{_number(Decimal(spelled[1:]))}" if number else spelled
