"""Where a series' buckets come from: roll-ups, and points where these say too little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from hub.store.telemetry import rollups as rows
from hub.store.telemetry.changes import read_changes
from hub.store.telemetry.chunks import read_points
from hub.store.telemetry.positions import position
from hub.store.telemetry.rollups import DAY, HOUR
from hub.telemetry.buckets import Parts, of_points, of_rollups
from hub.telemetry.calendar import DAY as DAY_MS
from hub.telemetry.calendar import HOUR as HOUR_MS
from hub.telemetry.calendar import days_between
from hub.telemetry.rollups import CONSUMER

Millis = NDArray[np.int64]

_ALL_CHANGES = 100_000


@dataclass(frozen=True, slots=True)
class Fresh:
    """What the roll-ups do not say yet (`hours` by series), and which UTC days are gone."""

    hours: dict[int, set[int]] = field(default_factory=dict)
    days: dict[int, set[int]] = field(default_factory=dict)
    removed: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, connection: Connection, wanted: set[int], since: int, until: int) -> Fresh:
        """For the series `wanted`, of [since, until)."""
        fresh = cls(removed=rows.removed_days(connection, since - DAY_MS, until))
        gone = {day for day, state in fresh.removed.items() if state != "restored"}
        for series_id in wanted:
            due = rows.due_starts(connection, series_id)
            fresh.hours[series_id] = set(due[HOUR])
            fresh.days[series_id] = set(due[DAY])
        changes = read_changes(connection, position(connection, CONSUMER), _ALL_CHANGES)
        for change in changes:
            mine = change.hours[np.isin(change.hours[:, 0], list(wanted))]
            for series_id, hour in mine.tolist():
                fresh.hours[series_id].add(hour)
        for series_id, hours in fresh.hours.items():
            fresh.hours[series_id] = {one for one in hours if one - one % DAY_MS not in gone}
        return fresh


class Reader:
    """Parts of one series that together are its readings between the first and last edge."""

    def __init__(
        self, connection: Connection, series_id: int, edges: Millis, sketches: bool, fresh: Fresh
    ) -> None:
        self._connection = connection
        self._series_id = series_id
        self._edges = edges
        self._sketches = sketches
        self._stale = np.array(sorted(fresh.hours.get(series_id, ())), dtype=np.int64)
        self._stale_days = np.array(sorted(fresh.days.get(series_id, ())), dtype=np.int64)
        self._removed = fresh.removed

    def parts(self, zone: str) -> Iterator[Parts]:
        """`zone`: in which days are rolled up, "" when these are of no use."""
        gaps = [(int(self._edges[0]), int(self._edges[-1]))]
        if zone and np.diff(self._edges).max() >= DAY_MS - 2 * HOUR_MS:
            whole, gaps = self._days(zone)
            yield whole
        for since, until in gaps:
            yield from self._hours(since, until)
        yield from self._late_points()

    def _days(self, zone: str) -> tuple[Parts, list[tuple[int, int]]]:
        """Local days within one bucket whose roll-ups are fresh, and what they leave over."""
        since, until = int(self._edges[0]), int(self._edges[-1])
        days = days_between(zone, since, until)
        starts, ends = days[:-1], days[1:]
        good = (starts >= since) & (ends <= until)
        good &= np.searchsorted(self._edges, starts, "right") == np.searchsorted(
            self._edges, ends, "left"
        )
        good &= ~np.isin(starts, self._stale_days)
        first = np.searchsorted(self._stale, starts - HOUR_MS, "right")
        good &= np.searchsorted(self._stale, ends, "left") == first
        numbers, packed = rows.read_rollups(
            self._connection, self._series_id, DAY, since, until, sketches=self._sketches
        )
        whole = of_rollups(numbers, packed)
        return whole.select(np.isin(whole.start, starts[good])), _gaps(
            starts, ends, good, self._edges
        )

    def _hours(self, since: int, until: int) -> Iterator[Parts]:
        first, last = -(-since // HOUR_MS) * HOUR_MS, until // HOUR_MS * HOUR_MS
        if first > last:
            first = last = until  # within one hour: points only
        numbers, packed = rows.read_rollups(
            self._connection, self._series_id, HOUR, first, last, sketches=self._sketches
        )
        whole = of_rollups(numbers, packed)
        split = self._split_hours(first, last)
        inner = self._stale[(self._stale >= first) & (self._stale < last)]
        points = np.union1d(inner, split)
        yield whole.select(~np.isin(whole.start, points))
        ranges = [(hour, hour + HOUR_MS) for hour in points.tolist()]
        for begin, end in _joined([(since, first), *ranges, (last, until)]):
            yield self._points(begin, end)

    def _split_hours(self, first: int, last: int) -> Millis:
        """Whole hours in which an edge lies; those of removed days count where they begin."""
        inner = self._edges[(self._edges > first) & (self._edges < last)]
        hours = np.unique(inner[inner % HOUR_MS != 0] // HOUR_MS * HOUR_MS)
        gone = [hour for hour in hours.tolist() if self._is_gone(hour)]
        return np.setdiff1d(hours, np.array(gone, dtype=np.int64))

    def _is_gone(self, hour: int) -> bool:
        return self._removed.get(hour - hour % DAY_MS, "restored") != "restored"

    def _late_points(self) -> Iterator[Parts]:
        """What came for days after their chunks had gone; the roll-ups do not have it."""
        since, until = int(self._edges[0]), int(self._edges[-1])
        gone = [day for day, state in sorted(self._removed.items()) if state == "dropped"]
        first, last = -(-since // HOUR_MS) * HOUR_MS, until // HOUR_MS * HOUR_MS
        for begin, end in _joined([(day, day + DAY_MS) for day in gone]):
            # The ends of the range have been read as points already.
            if max(begin, first) < min(end, last):
                yield self._points(max(begin, first), min(end, last))

    def _points(self, since: int, until: int) -> Parts:
        ts, value = read_points(self._connection, self._series_id, since, until)
        return of_points(ts, value, self._edges, sketches=self._sketches)


def _gaps(
    starts: Millis, ends: Millis, good: NDArray[np.bool_], edges: Millis
) -> list[tuple[int, int]]:
    since, until = int(edges[0]), int(edges[-1])
    bad = [
        (max(int(start), since), min(int(end), until))
        for start, end in zip(starts[~good], ends[~good], strict=True)
    ]
    return _joined(bad)


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges (ascending) without the empty ones; neighbours become one."""
    found: list[tuple[int, int]] = []
    for begin, end in ranges:
        if begin >= end:
            continue
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found
