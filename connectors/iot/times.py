"""Times as text and in other units than milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import TypeGuard
from zoneinfo import ZoneInfo

from connectors.iot.values import cast_value, time_ms
from hub.sdk.telemetry_source import TimeUnit

_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,20}))?"
    r"(?:([Zz])|([+-])([0-9]{2}):([0-9]{2}))?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_PER_MS = {"ns": 1_000_000, "us": 1_000}
_LONGEST_WHOLE = 40


def read_time(value: object, zone: str, unit: TimeUnit = "ms") -> int | str:
    """Milliseconds since 1970, or the code of a refusal: `bad_time`, `no_zone`.

    A number is in `unit`. Text is RFC 3339, whatever the unit, or looks like a number. `zone` is
    what a time without offset is in, "" when nothing is declared.
    """
    if isinstance(value, str) and (found := _RFC3339.fullmatch(value.strip())):
        return _from_text(found, zone)
    ms = None if unit == "rfc3339" else _from_number(value, unit)
    return "bad_time" if ms is None else ms


def _from_number(value: object, unit: str) -> int | None:
    if unit == "ms" or isinstance(value, bool):
        return time_ms(value)
    if unit in _PER_MS and _is_whole(value):
        return time_ms(int(value) // _PER_MS[unit])  # exact: nanoseconds do not fit a float
    number = cast_value(value).number
    if number is None or not 0 <= number < 1e20:
        return None
    # Seconds by way of microseconds: 1.001 s times 1000 is a little less than 1001.
    return time_ms(round(number * 1e6) // 1000 if unit == "s" else number / _PER_MS[unit])


def _is_whole(value: object) -> TypeGuard[int | str]:
    if isinstance(value, str):
        return len(value) < _LONGEST_WHOLE and value.isascii() and value.isdecimal()
    return isinstance(value, int)


def _from_text(found: re.Match[str], zone: str) -> int | str:
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    leap = second == 60
    try:
        wall = datetime(year, month, day, hour, minute, 59 if leap else second)  # noqa: DTZ001
        offset = _offset(found)
        if offset is None and not zone:
            return "no_zone"
        at = wall.replace(tzinfo=offset or _zone(zone))
        ms = (at - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        return "bad_time"
    ms += 1000 if leap else int((found[7] or "0")[:3].ljust(3, "0"))
    return "bad_time" if time_ms(ms) is None else ms


def _offset(found: re.Match[str]) -> timezone | None:
    if found[8] is not None:
        return UTC
    if found[9] is None:
        return None
    hours, minutes = int(found[10]), int(found[11])
    if hours > 23 or minutes > 59:
        raise ValueError("offset")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if found[9] == "-" else offset)


@lru_cache(maxsize=32)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
