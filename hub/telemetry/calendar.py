"""Local days of a zone in UTC milliseconds, and the edges of buckets of a chosen width."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from hub.sdk.errors import ConfigError

Millis = NDArray[np.int64]

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000

_EVERY = re.compile(r"([1-9][0-9]{0,6})(ms|s|m|h|d|w|mo)")
_WIDEST = 7305 * DAY
"""Of readings from 2000 on no bucket begins before the first year that is looked at."""

_FIXED = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR}


@dataclass(frozen=True, slots=True)
class Zones:
    """In which zone a device's days are: its own, else its source's, else the deployment's."""

    default: str = "UTC"
    sources: Mapping[str, str | None] = field(default_factory=dict)

    def of(self, zone: str, source: str) -> str:
        for name in (zone, self.sources.get(source) or "", self.default):
            if name and is_zone(name):
                return name
        return "UTC"


@lru_cache(maxsize=1024)
def is_zone(name: str) -> bool:
    """Whether the machine knows the zone."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        return False
    except KeyError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Every:
    """A bucket's width: a number of ms, s, m, h, local days, weeks (Monday) or months."""

    number: int
    unit: str

    @property
    def millis(self) -> int:
        """The width, as a rule; days, weeks and months vary."""
        days = {"d": DAY, "w": 7 * DAY, "mo": 30 * DAY}
        return self.number * (_FIXED.get(self.unit) or days[self.unit])

    def __str__(self) -> str:
        return f"{self.number}{self.unit}"


def parse_every(text: str) -> Every:
    """Raises ConfigError for what is no width, or more than 20 years."""
    found = _EVERY.fullmatch(text.strip())
    every = None if found is None else Every(int(found[1]), found[2])
    if every is None or every.millis > _WIDEST:
        raise ConfigError("telemetry.every", value=text)
    return every


def edges_of(every: Every, zone: str, since: int, until: int) -> Millis:
    """The edges of all buckets that touch [since, until), ascending; the last ends them.

    Up to an hour, buckets stand on the UTC clock. Wider ones that divide a day start at local
    midnight; days, weeks (Monday) and months are local. The rest stands on the UTC clock.
    """
    width = every.millis
    if every.unit in _FIXED and (width <= HOUR or DAY % width):
        first = since - since % width
        return np.arange(first, until + width, width, dtype=np.int64)[
            : _buckets(first, until, width)
        ]
    if every.unit in _FIXED:
        edges = _wall_edges(zone, since, until, width)
    else:
        edges = _date_edges(every, zone, since, until)
    first = int(np.searchsorted(edges, since, side="right")) - 1
    last = int(np.searchsorted(edges, until, side="left"))
    return edges[first : last + 1]


def _buckets(first: int, until: int, width: int) -> int:
    return -(-(until - first) // width) + 1


def days_between(zone: str, since: int, until: int) -> Millis:
    """The starts of the local days that touch [since, until), and the end of the last."""
    return edges_of(Every(1, "d"), zone, since, until)


@lru_cache(maxsize=512)
def _days_of_year(zone: str, year: int) -> Millis:
    """Starts of local days of a year. A date that a zone left out does not count."""
    place, day = ZoneInfo(zone), date(year, 1, 1)
    starts = []
    while day.year == year:
        # In a gap at midnight this is the moment after it, in a repeated hour the first.
        starts.append(_wall(day, 0, place))
        day += timedelta(days=1)
    return np.unique(np.array(starts, dtype=np.int64))


def _wall(day: date, minutes: int, place: ZoneInfo) -> int:
    moment = datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, tzinfo=place)
    return round(moment.timestamp() * 1000)


def _years(since: int, until: int) -> range:
    first = datetime.fromtimestamp(since / 1000, UTC).year
    last = datetime.fromtimestamp(until / 1000, UTC).year
    return range(max(first - 1, 1971), last + 2)


def _all_days(zone: str, since: int, until: int) -> Millis:
    return np.unique(np.concatenate([_days_of_year(zone, year) for year in _years(since, until)]))


def _wall_edges(zone: str, since: int, until: int, width: int) -> Millis:
    place = ZoneInfo(zone)
    days = _all_days(zone, since, until)
    low = max(int(np.searchsorted(days, since, side="right")) - 1, 0)
    high = int(np.searchsorted(days, until, side="left")) + 1
    edges = []
    for start in days[low:high].tolist():
        # Noon of a local day is on its date, however its midnight came about.
        local = datetime.fromtimestamp(start / 1000 + 3600 * 2, place).date()
        edges.append(start)
        edges += [_wall(local, step // MINUTE, place) for step in range(width, DAY, width)]
    return np.unique(np.array(edges, dtype=np.int64))


def _date_edges(every: Every, zone: str, since: int, until: int) -> Millis:
    """Counted from 1970-01-01, weeks from Monday 1970-01-05, so that they stay where they are."""
    place = ZoneInfo(zone)
    if every.unit == "mo":
        first = datetime.fromtimestamp(since / 1000, place)
        month = first.year * 12 + first.month - 1
        month -= month % every.number
        starts: list[int] = []
        while not starts or starts[-1] < until:
            starts.append(_wall(date(month // 12, month % 12 + 1, 1), 0, place))
            month += every.number
        return np.unique(np.array(starts, dtype=np.int64))
    step, origin = (every.number * 7, 4) if every.unit == "w" else (every.number, 0)
    days = _all_days(zone, since - step * DAY, until + step * DAY)
    if step == 1:
        return days
    numbers = [_day_number(start, place) for start in days.tolist()]
    chosen = [
        start
        for start, number in zip(days.tolist(), numbers, strict=True)
        if (number - origin) % step == 0
    ]
    return np.array(chosen, dtype=np.int64)


def _day_number(start: int, place: ZoneInfo) -> int:
    return datetime.fromtimestamp(start / 1000 + 7200, place).date().toordinal() - _EPOCH


_EPOCH = date(1970, 1, 1).toordinal()
