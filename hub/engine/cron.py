"""When a cron expression of five fields comes due, in a time zone with daylight saving.

A fixed hour comes once a day: an hour that the clock skips counts when it has moved, one that comes
twice counts the first time. An expression for every hour follows the time that really passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

_MOST_STEPS = 200
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ALLOWED = frozenset("0123456789*,-/#" + _LETTERS)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WORDS = frozenset({"l", *_MONTHS, *_WEEKDAYS})


def is_cron(text: str) -> bool:
    """Whether `text` has five fields that say a fixed set of times.

    A sixth field means different things to different programs, and some take random times (`R`).
    """
    fields = text.split()
    if len(fields) != 5 or not croniter.is_valid(text):
        return False
    return all(_is_plain(field) for field in fields)


def ever_comes(text: str) -> bool:
    """Whether there is any such day: the 31st of February passes for valid otherwise."""
    try:
        croniter(text, datetime(2024, 1, 1, tzinfo=UTC)).get_next(datetime)
    except CroniterError:
        return False
    return True


def last_time(text: str, zone: ZoneInfo, after: datetime, until: datetime) -> datetime | None:
    """The newest time in (after, until] at which `text` comes due, in UTC.

    Searched from the end: a flow may have slept for months.
    """
    best: datetime | None = None
    for local in _backwards(text, _latest_local(zone, until)):
        moments = _moments(local, zone, every_hour=_every_hour(text))
        if not moments:
            continue
        passed = [moment for moment in moments if moment <= until]
        best = max([*passed, *([best] if best else [])], default=None)
        # Clock times go back monotonously: nothing earlier on the clock can be later in truth.
        if len(passed) == len(moments) or max(moments) <= after:
            break
    return best if best is not None and best > after else None


def _latest_local(zone: ZoneInfo, until: datetime) -> datetime:
    """The latest clock time that has come at least once by `until`."""
    local = until.astimezone(zone)
    if local.fold:
        first, second = local.replace(fold=0).utcoffset(), local.utcoffset()
        assert first is not None and second is not None  # noqa: S101, PT018 (it has a zone)
        local += first - second
    return local.replace(tzinfo=None, fold=0)


def _backwards(text: str, start: datetime) -> Iterator[datetime]:
    times = croniter(text, start + timedelta(seconds=1), ret_type=datetime)
    for _ in range(_MOST_STEPS):
        yield times.get_prev(datetime).replace(tzinfo=None)


def _moments(local: datetime, zone: ZoneInfo, *, every_hour: bool) -> list[datetime]:
    """When `local` counts: once, twice, or for a fixed hour when the clock has skipped it."""
    first = local.replace(tzinfo=zone).astimezone(UTC)
    second = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if first < second:
        return [first, second] if every_hour else [first]
    if first > second:
        return [] if every_hour else [_end_of_gap(local, zone)]
    return [first]


def _end_of_gap(local: datetime, zone: ZoneInfo) -> datetime:
    """The moment at which the clock was put forward over `local`."""
    low = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    high = local.replace(tzinfo=zone).astimezone(UTC)
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


@lru_cache(maxsize=1000)
def _every_hour(text: str) -> bool:
    hours = croniter(text).expanded[1]
    return hours == ["*"] or len(hours) == 24


def _is_plain(field: str) -> bool:
    words = "".join(letter if letter.isalpha() else " " for letter in field).split()
    return set(field) <= _ALLOWED and {word.lower() for word in words} <= _WORDS
