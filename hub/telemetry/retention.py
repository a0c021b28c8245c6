"""Readings of days that are old enough: into the archive, if there is one, and dropped.

Roll-ups stay. A day on its way has the state `dropping`: its chunks do not count any more, its
roll-ups do. What comes for a dropped day later is added to its roll-ups when it is dropped in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sqlalchemy.engine import Connection

from hub.store.database import Store
from hub.store.telemetry import days as table
from hub.store.telemetry import rollups as rows
from hub.store.telemetry.days import DAY, DROPPED, DROPPING, RESTORED, RESTORING
from hub.store.telemetry.dropping import give_back
from hub.store.telemetry.rollups import HOUR, Due
from hub.store.telemetry.series_queries import snapshot
from hub.telemetry.archive import Copied, Tell, read_day
from hub.telemetry.archive_files import Rows, require_libraries
from hub.telemetry.archive_places import Place
from hub.telemetry.buckets import combined, of_points, of_rollups
from hub.telemetry.calendar import HOUR as HOUR_MS
from hub.telemetry.calendar import Zones
from hub.telemetry.rollups import mark_days, roll_up
from hub.telemetry.turns import archive_turn

_BATCH = 2_000  # chunks deleted in one transaction
_AGAIN = 3


@dataclass(slots=True)
class Retained:
    """What was done (or, in a dry run, would be)."""

    days: int = 0
    readings: int = 0
    files: int = 0
    bytes: int = 0


def _silent(_day: int, _done: int) -> None:
    return


def keep_house(
    store: Store,
    keep_days: int,
    place: Place | None,
    now: int,
    *,
    owner: str,
    zones: Zones | None = None,
    tell: Tell = _silent,
    stopping: Callable[[], bool] = lambda: False,
) -> Retained:
    """Archive and drop every whole UTC day older than `keep_days`, oldest first; give room back.

    `owner` names this process. Raises TransientError or ConfigError of the archive; the day it was
    at is then as it was.
    """
    if place is not None:
        require_libraries()
    done, cutoff, since = Retained(), cutoff_of(keep_days, now), 0
    with archive_turn(store, owner) as renew:

        def told(day: int, readings: int) -> None:
            renew()
            tell(day, readings)

        while not stopping():
            day = _next_day(store, since, cutoff, now)
            if day is None:
                break
            _remove_day(store, day, place, now, zones or Zones(), done, told)
            since = day + DAY
        _give_back(store, cutoff, stopping)
    return done


def _give_back(store: Store, cutoff: int, stopping: Callable[[], bool]) -> None:
    while not stopping():
        with store.transaction() as connection:
            if not give_back(connection, cutoff):
                return


def plan(store: Store, keep_days: int, now: int) -> list[tuple[int, int]]:
    """The days that `keep_house` would take, with their readings."""
    found, since, cutoff = [], 0, cutoff_of(keep_days, now)
    while (day := _next_day(store, since, cutoff, now)) is not None:
        with snapshot(store) as connection:
            ids = [one.series_id for one in table.all_series(connection)]
            found.append((day, table.count_day(connection, ids, day)))
        since = day + DAY
    return found


def cutoff_of(keep_days: int, now: int) -> int:
    """Days that end before this are old."""
    return (now // DAY - keep_days) * DAY


def _next_day(store: Store, since: int, cutoff: int, now: int) -> int | None:
    while True:
        with store.reading() as connection:
            day = table.oldest_day(connection, since)
            if day is None or day >= cutoff:
                return None
            state, until = table.day_state(connection, day)
        if state not in (RESTORED, RESTORING) or until <= now:
            return day
        since = day + DAY


def _remove_day(
    store: Store,
    day: int,
    place: Place | None,
    now: int,
    zones: Zones,
    done: Retained,
    tell: Tell,
) -> None:
    done.days += 1
    for _try in range(_AGAIN):
        _settle(store, day, now, zones, tell)
        with store.reading() as connection:
            state, _until = table.day_state(connection, day)
        # Without an archive nobody knows what of a half dropped day is new.
        late = state in (DROPPED, RESTORING) or (state == DROPPING and place is not None)
        copied = read_day(store, day, place, now, keep_news=late, tell=tell)
        _begin(store, copied, now, zones, late=late)
        left = _drop(store, copied, tell)
        done.readings += copied.readings
        done.files += len(copied.files)
        done.bytes += sum(file.bytes for file in copied.files)
        if not left:
            break  # otherwise readings came meanwhile: they are archived in turn


def _settle(store: Store, day: int, now: int, zones: Zones, tell: Tell) -> None:
    """Roll-ups of the day say what its chunks say."""
    while roll_up(store, now, zones):
        tell(day, 0)
    # Twice: hours make their local days due. These reach into the days around.
    for _round in range(2):
        with store.transaction() as connection:
            hurried = table.hurry_due(connection, day - DAY, day + DAY)
        if not hurried:
            return
        while roll_up(store, now, zones):
            tell(day, 0)


def _begin(store: Store, copied: Copied, now: int, zones: Zones, *, late: bool) -> None:
    """In one transaction: the files count, the chunks do not, late readings join the roll-ups."""
    with store.transaction() as connection:
        rows.one_at_a_time(connection)
        table.add_files(connection, copied.files)
        table.set_day_state(connection, copied.day, DROPPING)
        if late:
            places = rows.places_of(connection, list(copied.news))
            for series_id, news in copied.news.items():
                if len(news.ts):
                    _fold(connection, series_id, news)
                    hours = np.unique(news.ts // HOUR_MS * HOUR_MS).tolist()
                    place = places[series_id]
                    zone = rows.rolled_zone(connection, place.device_id) or zones.of(
                        place.zone, place.source
                    )
                    mark_days(connection, series_id, hours, zone, now)


def _fold(connection: Connection, series_id: int, news: Rows) -> None:
    first = int(news.ts[0]) // HOUR_MS * HOUR_MS
    end = int(news.ts[-1]) // HOUR_MS * HOUR_MS + HOUR_MS
    edges = np.arange(first, end + 1, HOUR_MS, dtype=np.int64)
    known = of_rollups(*rows.read_rollups(connection, series_id, HOUR, first, end, sketches=True))
    added = of_points(news.ts, news.value, edges, sketches=True)
    together = combined([known, added], edges)
    keys = [Due(series_id, HOUR, start) for start in edges[:-1].tolist()]
    rows.replace_rollups(connection, keys, together.rows(series_id, HOUR))


def _drop(store: Store, copied: Copied, tell: Tell) -> int:
    """Drop what was read; how many chunks have changed since."""
    left = 0
    for some in table.in_batches(copied.chunks, _BATCH):
        with store.transaction() as connection:
            left += table.drop_chunks(connection, some)
        tell(copied.day, copied.readings)
    with store.transaction() as connection:
        table.drop_texts(connection, copied.texts)
        table.set_day_state(connection, copied.day, DROPPED)
    return left
