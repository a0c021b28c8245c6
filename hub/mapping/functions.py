"""What an expression may call, and the operators on values whose kind is only known at run time."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any

from hub.mapping import numbers, phones, pipes, text, times
from hub.mapping.pipes import Kind
from hub.mapping.results import reject
from hub.sdk.errors import RecordRejected

CONTEXT = numbers.exact_context()
_NUMBERS = (Decimal, int)
_NAN = Decimal("NaN")


def as_number(value: Any, label: str) -> Decimal | int:
    """A number for arithmetic; numeric text is converted exactly. Raises RecordRejected."""
    kind = value.__class__
    if (kind is Decimal and value.is_finite()) or kind is int:
        return value  # type: ignore[no-any-return]  # narrowed by kind
    if kind is str and value[-1:].isdigit() and "_" not in value:
        try:
            quick = Decimal(value)
        except InvalidOperation:
            quick = _NAN
        if quick.is_finite():
            return quick
    found = numbers.number(value) if kind is not bool else None
    if found is None:
        raise reject("mapping.null_in_arithmetic", value, source=label)
    return found


def as_text(value: Any, label: str) -> str:
    """Text for joining and comparing; null is refused."""
    if value is None:
        raise reject("mapping.null_in_arithmetic", value, source=label)
    return text.shown(value)


def concat(left: Any, right: Any, left_label: str, right_label: str) -> str:
    """Two texts one after the other."""
    joined = as_text(left, left_label) + as_text(right, right_label)
    if len(joined) > text.MAX_TEXT:
        raise reject("mapping.text_too_long", joined[:60], length=len(joined), limit=text.MAX_TEXT)
    return joined


def same(left: Any, right: Any) -> bool:
    """Equality; text that spells a number equals that number."""
    if left == right:
        return True
    if isinstance(left, str):
        left, right = right, left
    if left.__class__ in _NUMBERS and isinstance(right, str):
        try:
            return bool(numbers.number(right) == left)
        except RecordRejected:
            return False
    return False


def ordering(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any, str, str], bool]:
    """`<` and its kin for values that are numbers, numeric text, or both text."""

    def ordered(left: Any, right: Any, left_label: str, right_label: str) -> bool:
        if left.__class__ is str and right.__class__ is str:
            if "_" not in left and "_" not in right:
                try:
                    return compare(Decimal(left), Decimal(right))
                except InvalidOperation:
                    pass
            return texts(left, right, left_label, right_label)
        return compare(as_number(left, left_label), as_number(right, right_label))

    def texts(left: str, right: str, left_label: str, right_label: str) -> bool:
        try:
            numeric = as_number(left, left_label), as_number(right, right_label)
        except RecordRejected as error:
            if error.code == "mapping.not_a_number":
                return compare(left, right)
            raise
        return compare(*numeric)

    return ordered


ORDER = {"Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt, "GtE": operator.ge}


def member(value: Any, choices: tuple[Any, ...]) -> bool:
    """`in` over literal choices, by the rule of `same`."""
    return any(same(value, choice) for choice in choices)


def contains(value: Any, part: Any) -> bool:
    """Whether text contains text, or a list an item; null contains nothing."""
    if value is None or part is None:
        return False
    if isinstance(value, list | tuple):
        return any(same(item, part) for item in value)
    return text.shown(part) in text.shown(value)


def found_in(part: Any, value: Any) -> bool:
    """`part in value`."""
    return contains(value, part)


def divide(left: Any, right: Any) -> Decimal:
    """Division to fifty digits; a zero on the right is an error, 0/0 too."""
    if not right:
        raise ZeroDivisionError
    return CONTEXT.divide(left, right)


def floor_divide(left: Any, right: Any) -> Decimal:
    """`//` as Python means it: towards minus infinity."""
    whole = CONTEXT.subtract(Decimal(left), modulo(left, right))
    return CONTEXT.divide(whole, Decimal(right)).to_integral_value(context=CONTEXT)


def modulo(left: Any, right: Any) -> Decimal:
    """`%` as Python means it: the sign of the right side."""
    if not right:
        raise ZeroDivisionError
    rest = CONTEXT.remainder(Decimal(left), Decimal(right))
    return CONTEXT.add(rest, Decimal(right)) if rest and (rest < 0) != (right < 0) else rest


def dig(value: Any, parts: tuple[str, ...]) -> Any:
    """What stands at a path of keys and list positions; null when anything on it is missing."""
    for part in parts:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list | tuple) and part.lstrip("-").isdecimal() and len(part) < 10:
            position = int(part)
            value = value[position] if -len(value) <= position < len(value) else None
        else:
            return None
    return value


# --- functions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Function:
    """One callable of the expression language; `numeric` arguments are converted before."""

    call: Callable[..., Any]
    low: int
    high: int
    kind: Kind
    numeric: bool = False


def _number_or_null(value: Any) -> Decimal | None:
    found = numbers.number(value)
    return None if found is None else Decimal(found)


def _round(value: Any, places: Any = 0) -> Decimal:
    if not 0 <= places <= 20:
        raise reject("mapping.bad_argument", str(places), function="round")
    rounded = numbers.rounded(value, int(places))
    return rounded if rounded is not None else Decimal(0)


def _whole(mode: str) -> Callable[[Any], Decimal]:
    return lambda value: Decimal(value).to_integral_value(mode, CONTEXT)


def _length(value: Any) -> int:
    if value is None:
        return 0
    return len(value) if isinstance(value, list | dict | tuple) else len(text.shown(value))


def _on_text(change: Callable[..., Any]) -> Callable[..., Any]:
    def call(value: Any, *rest: Any) -> Any:
        return None if value is None else change(text.shown(value), *map(text.shown, rest))

    return call


def _coalesce(*values: Any) -> Any:
    return next((value for value in values if text.filled(value)), None)


def _slice(value: Any, start: Any, length: Any = None) -> str | None:
    if value is None:
        return None
    first = max(int(as_number(start, "start")), 0)
    count = text.MAX_TEXT if length is None else max(int(as_number(length, "length")), 0)
    return text.shown(value)[first : first + count]


def _any_of(test: Callable[[str, str], bool]) -> Callable[..., bool]:
    def call(value: Any, *parts: Any) -> bool:
        return value is not None and any(test(text.shown(value), text.shown(p)) for p in parts)

    return call


def _day(value: Any) -> date | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return times.parsed(text.shown(value)).date()


def _part(name: str) -> Callable[[Any], int | None]:
    def call(value: Any) -> int | None:
        day = _day(value)
        return None if day is None else int(getattr(day, name))

    return call


def _date(value: Any) -> str | None:
    day = _day(value)
    return None if day is None else day.isoformat()


def _days_between(start: Any, end: Any) -> int | None:
    first, last = _day(start), _day(end)
    return None if first is None or last is None else (last - first).days


def _add_days(value: Any, days: Any) -> str | None:
    day = _day(value)
    if day is None:
        return None
    ordinal = day.toordinal() + int(as_number(days, "days"))
    if not 1 <= ordinal <= date.max.toordinal():
        raise reject("mapping.bad_argument", str(days), function="add_days")
    return date.fromordinal(ordinal).isoformat()


def functions() -> dict[str, Function]:
    """Every function by name."""
    return {
        "min": Function(lambda *values: Decimal(min(values)), 1, 20, "number", numeric=True),
        "max": Function(lambda *values: Decimal(max(values)), 1, 20, "number", numeric=True),
        "abs": Function(lambda value: Decimal(abs(value)), 1, 1, "number", numeric=True),
        "round": Function(_round, 1, 2, "number", numeric=True),
        "floor": Function(_whole(ROUND_FLOOR), 1, 1, "number", numeric=True),
        "ceil": Function(_whole(ROUND_CEILING), 1, 1, "number", numeric=True),
        "int": Function(_to_int, 1, 1, "plain"),
        "decimal": Function(_number_or_null, 1, 1, "plain"),
        "bool": Function(pipes.boolean, 1, 1, "plain"),
        "str": Function(text.shown, 1, 1, "text"),
        "len": Function(_length, 1, 1, "number"),
        "lower": Function(_on_text(str.lower), 1, 1, "text"),
        "upper": Function(_on_text(str.upper), 1, 1, "text"),
        "trim": Function(_on_text(str.strip), 1, 1, "text"),
        "halfwidth": Function(_on_text(text.halfwidth), 1, 1, "text"),
        "digits": Function(_on_text(pipes.digits), 1, 1, "text"),
        "replace": Function(_on_text(pipes.replaced), 3, 3, "text"),
        "slice": Function(_slice, 2, 3, "text"),
        "contains": Function(
            lambda value, *parts: any(contains(value, p) for p in parts), 2, 20, "bool"
        ),
        "startswith": Function(_any_of(str.startswith), 2, 20, "bool"),
        "endswith": Function(_any_of(str.endswith), 2, 20, "bool"),
        "coalesce": Function(_coalesce, 1, 20, "any"),
        "empty": Function(lambda value: not text.filled(value), 1, 1, "bool"),
        "phone": Function(
            lambda value: None if value is None else phones.phone(value), 1, 1, "plain"
        ),
        "cny": Function(
            lambda value: None if value is None else numbers.capital_amount(value), 1, 1, "plain"
        ),
        "date": Function(_date, 1, 1, "text"),
        "year": Function(_part("year"), 1, 1, "plain"),
        "month": Function(_part("month"), 1, 1, "plain"),
        "day": Function(_part("day"), 1, 1, "plain"),
        "days_between": Function(_days_between, 2, 2, "plain"),
        "add_days": Function(_add_days, 2, 2, "text"),
    }


def _to_int(value: Any) -> int | None:
    """Cut off towards zero, as Python's int does with a number."""
    found = numbers.number(value)
    if found is None:
        return None
    if not -text.INT64 <= found <= text.INT64:
        raise reject("mapping.number_too_large", value, limit="64 bits")
    return int(found)
