"""JSON values as readings: the casting rules that every format of this connector shares.

    number          → a sample; NaN, infinity and what float64 cannot hold are refused `invalid`
    true, false     → a sample 1 or 0, and the text
    "3.3"           → a sample: text that looks like a number is one ("NaN" is refused `invalid`)
    other text      → a text
    object, array   → its JSON as text
    null            → nothing

JSON is read strictly (UTF-8 without a mark, no lone surrogates, at most 1024 levels), except that
`NaN`, `Infinity` and numbers as large as 1e400 spoil their own value only (in bodies up to 4 MB).
Of two equal keys the last one counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple, cast

import orjson

from hub.sdk.telemetry import Decoded, Refused, Text
from hub.sdk.telemetry_names import LONGEST_NAME, plain_name

LONGEST_TEXT = 65_536
MOST_PARTS = 400_000
"""Values in one message. Small JSON values take 27 times their size in memory, so a limit of bytes
alone would not bound it."""
MOST_REFUSED = 10_000
LARGEST_MENDED = 4_000_000
"""Bytes of a body that is read again for the sake of a `NaN`."""
LAST_MS = 253_402_300_799_999
"""The end of year 9999."""

_LONGEST_NUMBER = 400
_LONGEST_DETAIL = 120
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_FIRST = frozenset("0123456789+-. \t\r\nnNiI")
_NO_NUMBER = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SUSPECT = re.compile(rb"NaN|Infinity|[0-9][eE]\+?[0-9]{3}|[0-9]{300}")
# A string that lacks its end reaches to the end of the body: looked at once, not once per quote.
_TOKEN = re.compile(
    rb'"(?:[^"\\]++|\\.)*+"?|(-?(?:NaN|Infinity))|(-?[0-9]++(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)',
    re.DOTALL,
)

_Row = Callable[[tuple[str, str, int, float]], None]


def loads(body: bytes) -> Any:
    """The JSON in `body`, or a `Refused` for all of it. NaN and infinities come back as text."""
    if has_too_many_parts(body):
        return Refused(-1, "too_many", f"more than {MOST_PARTS} values")
    try:
        return orjson.loads(body)
    except ValueError as error:
        problem = str(error)
    if len(body) <= LARGEST_MENDED and _SUSPECT.search(body) is not None:
        try:
            return orjson.loads(_TOKEN.sub(_quoted, body))
        except ValueError as error:
            problem = str(error)
    return Refused(-1, "malformed", problem[:_LONGEST_DETAIL])


def has_too_many_parts(body: bytes) -> bool:
    """Whether there may be more than `MOST_PARTS` values in it, by a count that costs little."""
    if len(body) <= MOST_PARTS:
        return False
    return body.count(b",") + body.count(b"[") + body.count(b"{") > MOST_PARTS


def _quoted(token: re.Match[bytes]) -> bytes:
    """A number outside of float64 as text, which is refused where it stands."""
    if token[1] is not None:
        return b'"%b"' % token[1]
    if token[2] is not None and not isfinite(float(token[2])):
        return b'"-Infinity"' if token[2].startswith(b"-") else b'"Infinity"'
    return token[0]


def dumps(value: Any) -> str | None:
    """JSON text of a value; None when it is nested too deeply (254 levels)."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return None


# --- names ------------------------------------------------------------------------------------


def name_of(raw: object) -> str:
    """The name of a device or metric, see `plain_name`; "" when it cannot be one."""
    return _name(raw) if isinstance(raw, str) and len(raw) <= LONGEST_NAME else ""


@lru_cache(maxsize=8192)
def _name(raw: str) -> str:
    return plain_name(raw)


# --- values -----------------------------------------------------------------------------------


class Cast(NamedTuple):
    """What a value becomes: a number, a text, both, or neither with the `code` of a refusal."""

    number: float | None = None
    text: str | None = None
    code: str = ""


_NOTHING = Cast()
_INVALID = Cast(code="invalid")
_UNSUPPORTED = Cast(code="unsupported")


def cast_value(value: object) -> Cast:
    """See the module. `null` gives an empty `Cast`."""
    if value is None:
        return _NOTHING
    if isinstance(value, bool):
        return Cast(float(value), "true" if value else "false")
    if isinstance(value, float):
        return Cast(value) if isfinite(value) else _INVALID
    if isinstance(value, int):
        return _cast_integer(value)
    return _cast_text(value) if isinstance(value, str) else _cast_nested(value)


def _cast_integer(value: int) -> Cast:
    try:
        return Cast(float(value))
    except OverflowError:
        return _INVALID


def _cast_text(text: str) -> Cast:
    if text[:1] in _FIRST and len(text) <= _LONGEST_NUMBER:
        bare = text.strip(" \t\r\n")
        if _NUMBER.fullmatch(bare):
            number = float(bare)
            return Cast(number) if isfinite(number) else _INVALID
        if _NO_NUMBER.fullmatch(bare):
            return _INVALID
    if len(text) > LONGEST_TEXT:
        return _UNSUPPORTED
    # PostgreSQL has no text with a NUL in it, UTF-8 no lone surrogates.
    return _INVALID if "\0" in text or not _is_unicode(text) else Cast(text=text)


def _is_unicode(text: str) -> bool:
    return text.isascii() or not _SURROGATE.search(text)


def _cast_nested(value: object) -> Cast:
    text = dumps(value)
    return _UNSUPPORTED if text is None or len(text) > LONGEST_TEXT else Cast(text=text)


def add_values(
    decoded: Decoded, device: str, ts: int, values: Mapping[str, Any], place: int
) -> None:
    """Add the readings in `values` (metric → value); what cannot be one is refused at `place`."""
    add = cast("_Row", decoded.samples.append)
    for metric, value in values.items():
        name = _name(metric) if len(metric) <= LONGEST_NAME else ""
        kind = value.__class__
        if name and kind is float and isfinite(value):
            add((device, name, ts, value))
        elif name and kind is int and -_EXACT <= value <= _EXACT:
            add((device, name, ts, float(value)))
        elif name and kind is bool:
            add((device, name, ts, float(value)))
            decoded.texts.append(Text(device, name, ts, "true" if value else "false"))
        elif not name:
            decoded.refused.append(Refused(place, "name", shown(metric), device))
        elif value is not None:
            _add_cast(decoded, device, name, ts, value, place)


_EXACT = 2**64
"""Integers up to here need no second look; all of JSON's are within."""


def _add_cast(
    decoded: Decoded, device: str, metric: str, ts: int, value: object, place: int
) -> None:
    number, text, code = cast_value(value)
    if number is not None:
        cast("_Row", decoded.samples.append)((device, metric, ts, number))
    if text is not None:
        decoded.texts.append(Text(device, metric, ts, text))
    if code:
        decoded.refused.append(Refused(place, code, shown(value), device, metric))


def add_attributes(decoded: Decoded, device: str, values: Mapping[str, Any], place: int) -> None:
    """What is known of a device. Values stay as they are; `null` says nothing."""
    known = decoded.attributes.setdefault(device, {})
    for key, value in values.items():
        name = name_of(key)
        text = "" if value is None else dumps(value)
        if not name:
            decoded.refused.append(Refused(place, "name", shown(key), device))
        elif text is None or len(text) > LONGEST_TEXT:
            decoded.refused.append(Refused(place, "unsupported", shown(value), device, name))
        elif value is not None:
            known[name] = value


def shown(value: object) -> str:
    """A short form of a refused value, for people."""
    text = value if isinstance(value, str) else type(value).__name__
    if isinstance(value, int | float) and abs(value) < 1e300:
        text = str(value)
    short = text[:_LONGEST_DETAIL]
    return short if short.isprintable() else ascii(short)[1:-1][:_LONGEST_DETAIL]


def bounded(decoded: Decoded) -> Decoded:
    """The same with at most 10,000 refusals, and one more that says how many there were."""
    left = len(decoded.refused) - MOST_REFUSED
    if left > 0:
        del decoded.refused[MOST_REFUSED:]
        decoded.refused.append(Refused(-1, "too_many", f"{left} more parts were refused"))
    return decoded


# --- times ------------------------------------------------------------------------------------


def time_ms(value: object) -> int | None:
    """Milliseconds since 1970, fractions cut off; None when it is no time.

    A number, or text that looks like one. Years up to 9999; whether a time can be true is the
    hub's to say.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if 0 <= value <= LAST_MS else None
    if isinstance(value, str):
        value = cast_value(value).number
    if isinstance(value, float) and 0 <= value < LAST_MS + 1:
        return int(value)
    return None
