"""Roll-ups per UTC hour and local day, recomputed from the chunks for what has changed.

    change log → due (quiet for a minute, and over) → hours from chunks → days from hours

Every step is one small transaction that does the same when it is done again. Queries look at what
is due as well: they never depend on how far this is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from hub.store.database import Store
from hub.store.telemetry import rollups as rows
from hub.store.telemetry.changes import read_changes, trim_changes
from hub.store.telemetry.chunks import read_points
from hub.store.telemetry.positions import advance, position, positions
from hub.store.telemetry.rollups import DAY, HOUR, Due
from hub.telemetry.buckets import Parts, combined, of_points, of_rollups
from hub.telemetry.calendar import DAY as DAY_MS
from hub.telemetry.calendar import HOUR as HOUR_MS
from hub.telemetry.calendar import Zones, days_between

CONSUMER = "changes:rollup"
_CONSUMERS = "changes:"

QUIET_MS = 60_000
"""An hour is recomputed when nothing has come for it for so long,"""

LONGEST_MS = 600_000
"""or when its first change is so long ago."""

_CHANGES = 50
_BUCKETS = 20_000  # changed hours noted in one transaction
_HOURS = 250  # recomputed in one transaction: a fraction of a second
_RUN = 48  # hours of a series read at once
_WIDEST_DAY = 26 * HOUR_MS


def roll_up(store: Store, now: int, zones: Zones | None = None) -> int:
    """One turn: note what has changed, recompute some of what is due; 0 when nothing is.

    Three short write transactions at most. Several processes may call it: they take turns.
    """
    zones = zones or Zones()
    _enter(store, now)
    return _note_changes(store, now) + _recompute(store, now, zones)


def follow_zones(store: Store, now: int, zones: Zones) -> int:
    """Roll up anew the days of devices whose zone has changed; how many devices these were.

    One transaction per device. To be called now and then.
    """
    moved: list[tuple[int, str]] = []
    with store.reading() as connection:
        for zone, source, rolled in rows.rolled_zones(connection):
            if (wanted := zones.of(zone, source)) != rolled:
                ids = rows.devices_rolled(connection, zone, source, rolled)
                moved += [(device_id, wanted) for device_id in ids]
    for device_id, zone in moved:
        with store.transaction() as connection:
            _rezone(connection, device_id, zone, now)
    return len(moved)


def _enter(store: Store, now: int) -> None:
    """Be known as a consumer: changes are kept from now on until they are noted here."""
    with store.reading() as connection:
        known = CONSUMER in positions(connection)
    if not known:
        with store.transaction() as connection:
            advance(connection, CONSUMER, position(connection, CONSUMER), now)


# --- noting what has changed ------------------------------------------------------------------


def _note_changes(store: Store, now: int) -> int:
    with store.reading() as connection:
        at = position(connection, CONSUMER)
        waiting = bool(read_changes(connection, at, 1))
    if not waiting:
        return 0
    with store.transaction() as connection:
        rows.one_at_a_time(connection)
        changes = read_changes(connection, position(connection, CONSUMER), _CHANGES)
        taken, hours = 0, 0
        for change in changes:
            if taken and hours + len(change.hours) > _BUCKETS:
                break
            taken, hours = taken + 1, hours + len(change.hours)
        if not taken:
            return 0
        mark_hours(connection, np.concatenate([one.hours for one in changes[:taken]]), now)
        advance(connection, CONSUMER, changes[taken - 1].tick, now)
        _forget_changes(connection)
    return taken


def _forget_changes(connection: Connection) -> None:
    passed = [tick for name, tick in positions(connection).items() if name.startswith(_CONSUMERS)]
    trim_changes(connection, min(passed))


def mark_hours(connection: Connection, hours: NDArray[np.int64], now: int) -> None:
    """Note that the (series, hour) have changed; each is recomputed once it is over and quiet."""
    unique = np.unique(hours, axis=0)
    due = [
        (Due(series_id, HOUR, start), max(start + HOUR_MS, now) + QUIET_MS)
        for series_id, start in unique.tolist()
    ]
    rows.mark_due(connection, due, now, LONGEST_MS)


# --- recomputing ------------------------------------------------------------------------------


def _recompute(store: Store, now: int, zones: Zones) -> int:
    with store.reading() as connection:
        if not rows.is_due(connection, now):
            return 0
    with store.transaction() as connection:
        rows.one_at_a_time(connection)
        due = rows.take_due(connection, now, _HOURS)
        places = rows.places_of(connection, sorted({one.series_id for one in due}))
        removed = _removed(connection, due)
        for (series_id, span), group in groupby(due, key=lambda one: (one.series_id, one.span)):
            starts = [one.start for one in group]
            place = places.get(series_id)
            if place is None:
                continue  # the series is gone
            zone = _zone_of(connection, place, zones)
            if span == HOUR:
                kept = [start for start in starts if start - start % DAY_MS not in removed]
                roll_hours(connection, series_id, kept)
                mark_days(connection, series_id, starts, zone, now)
            else:
                _roll_days(connection, series_id, starts, zone)
    return len(due)


def _removed(connection: Connection, due: Sequence[Due]) -> set[int]:
    """Days whose chunks are not all there: the roll-ups say more than the chunks."""
    if not due:
        return set()
    first = min(one.start for one in due)
    found = rows.removed_days(connection, first - first % DAY_MS, max(one.start for one in due) + 1)
    return {day for day, state in found.items() if state != "restored"}


def roll_hours(connection: Connection, series_id: int, starts: Sequence[int]) -> None:
    """Put roll-ups of these hours (ascending) as the chunks have them; none for an empty hour."""
    written = []
    for run in _runs(starts):
        edges = np.array([*run, run[-1] + HOUR_MS], dtype=np.int64)
        ts, value = read_points(connection, series_id, run[0], run[-1] + HOUR_MS)
        written += of_points(ts, value, edges, sketches=True).rows(series_id, HOUR)
    keys = [Due(series_id, HOUR, start) for start in starts]
    rows.replace_rollups(connection, keys, written)


def _runs(starts: Sequence[int]) -> Iterator[list[int]]:
    """Hours that follow each other, a few dozen at most."""
    run: list[int] = []
    for start in starts:
        if run and (start != run[-1] + HOUR_MS or len(run) == _RUN):
            yield run
            run = []
        run.append(start)
    if run:
        yield run


def mark_days(
    connection: Connection, series_id: int, hours: Sequence[int], zone: str, now: int
) -> None:
    """The local days that the hours touch are due, once they are over."""
    days = days_between(zone, hours[0], hours[-1] + HOUR_MS)
    due = []
    for start, end in pairwise(days.tolist()):
        if any(hour < end and hour + HOUR_MS > start for hour in hours):
            due.append((Due(series_id, DAY, start), max(end + QUIET_MS, now)))
    rows.mark_due(connection, due, now, LONGEST_MS)


def _roll_days(connection: Connection, series_id: int, starts: Sequence[int], zone: str) -> None:
    written = []
    for start in starts:
        day = days_between(zone, start, start + 1)
        if int(day[0]) == start:  # otherwise noted under another zone
            parts = hourly(connection, series_id, start, int(day[1]), sketches=True)
            written += combined(parts, day).rows(series_id, DAY)
    rows.replace_rollups(connection, [Due(series_id, DAY, start) for start in starts], written)


def hourly(
    connection: Connection, series_id: int, since: int, until: int, *, sketches: bool
) -> list[Parts]:
    """[since, until) from roll-ups of whole hours, and from points at its ends."""
    first, last = -(-since // HOUR_MS) * HOUR_MS, until // HOUR_MS * HOUR_MS
    numbers, packed = rows.read_rollups(connection, series_id, HOUR, first, last, sketches=sketches)
    parts = [of_rollups(numbers, packed)]
    for begin, end in ((since, first), (last, until)):
        if begin < end:
            ts, value = read_points(connection, series_id, begin, end)
            edges = np.array([begin, end], dtype=np.int64)
            parts.append(of_points(ts, value, edges, sketches=sketches))
    return parts


def _zone_of(connection: Connection, place: rows.Place, zones: Zones) -> str:
    """The zone the device's days are rolled up in, set when these are its first."""
    rolled = rows.rolled_zone(connection, place.device_id)
    if rolled is None:
        rolled = zones.of(place.zone, place.source)
        rows.set_rolled_zone(connection, place.device_id, rolled)
    return rolled


def _rezone(connection: Connection, device_id: int, zone: str, now: int) -> None:
    rows.one_at_a_time(connection)
    series_ids = rows.series_of(connection, device_id)
    rows.drop_days(connection, series_ids)
    rows.set_rolled_zone(connection, device_id, zone)
    for series_id in series_ids:
        hours = rows.starts_of(connection, series_id, HOUR)
        if hours:
            mark_days(connection, series_id, hours, zone, now)
