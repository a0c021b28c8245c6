"""Dates and moments: any usual spelling in, ISO 8601 out (moments in UTC)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hub.mapping.results import reject
from hub.mapping.text import halfwidth
from hub.sdk.errors import ConfigError

_MOMENT = re.compile(
    r"""([0-9]{4})(?:[-/.年]([0-9]{1,2})[-/.月]([0-9]{1,2})日?|([0-9]{2})([0-9]{2}))
        (?:[T ]?\s*([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?
          |[T ]?([0-9]{2})([0-9]{2})([0-9]{2}))?
        \s*(Z|[+-][0-9]{2}:?(?:[0-9]{2})?)?""",
    re.VERBOSE | re.IGNORECASE,
)
_HOURS = tuple(f"{hour:02d}" for hour in range(24))
_MARKS = frozenset((" :", "T:"))
_EPOCHS = {"epoch_s": 1, "epoch_ms": 1000}


def zone_named(name: str, where: str) -> tzinfo:
    """The time zone. Raises ConfigError naming the place that asked for it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError("mapping.unknown_zone", where=where, name=name) from None


def parsed(text: str) -> datetime:
    """The moment in `text`, with a zone only when the text has one. Raises RecordRejected."""
    found = _MOMENT.fullmatch(halfwidth(text).strip())
    if not found:
        raise reject("mapping.not_a_date", text[:60])
    year, month, day = int(found[1]), int(found[2] or found[4]), int(found[3] or found[5])
    hour, minute, second = (int(found[6 + n] or found[10 + n] or 0) for n in range(3))
    micro = int((found[9] or "0").ljust(6, "0")[:6])
    try:
        return datetime(year, month, day, hour, minute, second, micro, _offset(found[13]))
    except ValueError:
        raise reject("mapping.not_a_date", text[:60]) from None


def _offset(text: str | None) -> tzinfo | None:
    if text is None:
        return None
    if text in "Zz":
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    sign = "-" if text[0] == "-" else "+"
    return datetime.fromisoformat(f"2000-01-01T00:00{sign}{digits[:2]}:{digits[2:]}").tzinfo


class Moments:
    """Converts source values to UTC text like `2026-11-20T02:11:12Z`.

    Text without a zone is local time in `zone`. A local time that a change of clocks skips is
    refused; one that exists twice is the earlier of the two.
    """

    def __init__(self, zone: tzinfo | None, form: str | None = None) -> None:
        self._zone = zone
        self._form = form
        self._offsets: dict[str, tuple[int, timedelta] | None] = {}

    def converter(self) -> Callable[[Any], str | None]:
        """The function a mapping calls per value; the usual spelling takes a short cut."""
        if self._form is not None or self._zone is None:
            return self.text
        offsets, months, parse = self._offsets.get, self._month, datetime.fromisoformat
        slow = self.text

        def convert(value: Any) -> str | None:
            if value.__class__ is not str or len(value) != 19 or value[10:14:3] not in _MARKS:
                return slow(value)
            month = value[:7]
            offset = offsets(month) or months(month)
            if offset is None:
                return slow(value)
            try:
                local = parse(value)
            except ValueError:
                return slow(value)
            # Whole hours move only the hour and perhaps the day; isoformat costs far more.
            hour = local.hour - offset[0]
            day = value[:10] if 0 <= hour < 24 else date.isoformat(local - offset[1])
            return f"{day}T{_HOURS[hour % 24]}{value[13:]}Z"

        return convert

    def text(self, value: Any) -> str | None:
        """The moment as UTC text; blank text is null."""
        moment = self.moment(value)
        if moment is None:
            return None
        try:
            return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
        except OverflowError:
            raise reject("mapping.not_a_date", value) from None

    def moment(self, value: Any) -> datetime | None:
        """The aware moment a source value stands for."""
        found = self._read(value)
        if found is None or found.tzinfo is not None:
            return found
        if self._zone is None:
            raise reject("mapping.zone_needed", value)
        aware = found.replace(tzinfo=self._zone)
        try:
            back = aware.astimezone(UTC).astimezone(self._zone).replace(tzinfo=None)
        except OverflowError:
            raise reject("mapping.not_a_date", value) from None
        if back != found:
            raise reject("mapping.time_skipped", value, zone=str(self._zone))
        return aware

    def _read(self, value: Any) -> datetime | None:
        if isinstance(value, datetime):
            return value
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day)  # noqa: DTZ001 (zone comes later)
        if self._form in _EPOCHS:
            return _epoch(value, _EPOCHS[self._form])
        if not isinstance(value, str):
            raise reject("mapping.not_a_date", value)
        if not value.strip():
            return None
        return parsed(value) if self._form is None else _by_form(value, self._form)

    def _month(self, month: str) -> tuple[int, timedelta] | None:
        """The one offset of a whole month with a day on both sides, None when it changes in it."""
        try:
            first = datetime.fromisoformat(month + "-01")
        except ValueError:
            return None
        if month in self._offsets or not 2 < first.year < 9998 or len(self._offsets) > 5000:
            return self._offsets.get(month)
        found = {
            (first + timedelta(days=day)).replace(tzinfo=self._zone, fold=fold).utcoffset()
            for day in range(-1, 34)
            for fold in (0, 1)
        }
        only = found.pop() if len(found) == 1 else None
        hours = None if only is None else divmod(only, timedelta(hours=1))
        self._offsets[month] = (
            (hours[0], only) if hours and only is not None and not hours[1] else None
        )
        return self._offsets[month]


def _epoch(value: Any, per_second: int) -> datetime | None:
    text = str(value).strip()
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,16}(?:\.[0-9]+)?", text):
        raise reject("mapping.not_a_date", value)
    micros = int(Decimal(text) * (1_000_000 // per_second))
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    except OverflowError:
        raise reject("mapping.not_a_date", value) from None


def _by_form(value: str, form: str) -> datetime:
    try:
        return datetime.strptime(value.strip(), form)  # noqa: DTZ007 (the caller adds the zone)
    except ValueError:
        raise reject("mapping.not_a_date", value[:60]) from None


def day_converter(moments: Moments, zone: tzinfo | None) -> Callable[[Any], str | None]:
    """A converter to `YYYY-MM-DD`; a moment with a zone counts as its day in `zone`."""

    def slow(value: Any) -> str | None:
        found = moments._read(value)
        if found is not None and found.tzinfo is not None and zone is not None:
            found = found.astimezone(zone)
        return None if found is None else found.date().isoformat()

    def convert(value: Any) -> str | None:
        if value.__class__ is not str or len(value) != 10 or value[4:8:3] != "--":
            return slow(value)
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            return slow(value)

    return slow if moments._form is not None else convert
