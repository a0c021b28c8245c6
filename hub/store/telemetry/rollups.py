"""Roll-ups of series per UTC hour and local day, and which of them are behind the chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from hub.store.rows import bulk_insert, chunks
from hub.store.tables.telemetry import (
    device,
    removed_day,
    rollup,
    rollup_due,
    rollup_zone,
    series,
)
from hub.store.telemetry.positions import next_number

HOUR, DAY = "h", "d"

_MANY = 500
_TURN = "rollup"
_PLAIN = ("start", "count", "low", "high", "total", "squares", "last_ts", "last_value")


class Due(NamedTuple):
    series_id: int
    span: str
    start: int


class Place(NamedTuple):
    """What says in which zone the days of a series are: its device's own, or its source's."""

    series_id: int
    device_id: int
    zone: str
    source: str


def one_at_a_time(connection: Connection) -> None:
    """To the end of this transaction nobody else changes roll-ups or what is due."""
    next_number(connection, _TURN)


def read_rollups(
    connection: Connection, series_id: int, span: str, since: int, until: int, *, sketches: bool
) -> tuple[NDArray[np.float64], list[bytes]]:
    """Roll-ups that start in [since, until), oldest first.

    One row per roll-up with the columns `start, count, low, high, total, squares, last_ts,
    last_value`; and their sketches when asked for.
    """
    columns = [rollup.c[name] for name in _PLAIN]
    statement = (
        sa.select(*columns, *([rollup.c.sketch] if sketches else []))
        .where(rollup.c.series_id == series_id, rollup.c.span == span)
        .where(rollup.c.start >= since, rollup.c.start < until)
        .order_by(rollup.c.start)
    )
    found = connection.execute(statement).fetchall()
    width = len(_PLAIN)
    numbers = np.array([row[:width] for row in found], dtype=np.float64).reshape(-1, width)
    return numbers, [bytes(row[width]) for row in found] if sketches else []


def replace_rollups(
    connection: Connection, keys: Sequence[Due], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Put `rows` (in the order of the table's columns) where `keys` were."""
    _delete(connection, rollup, keys)
    bulk_insert(connection, rollup, rows)


def starts_of(connection: Connection, series_id: int, span: str) -> list[int]:
    """Where the roll-ups of a series start."""
    statement = sa.select(rollup.c.start).where(
        rollup.c.series_id == series_id, rollup.c.span == span
    )
    return list(connection.execute(statement.order_by(rollup.c.start)).scalars())


def drop_days(connection: Connection, series_ids: Sequence[int]) -> None:
    """Forget the roll-ups per day of these series, and that any are due."""
    for some in chunks(series_ids, _MANY):
        for table in (rollup, rollup_due):
            wanted = (table.c.span == DAY) & table.c.series_id.in_(list(some))
            connection.execute(table.delete().where(wanted))


# --- what is due ------------------------------------------------------------------------------


def mark_due(connection: Connection, rows: Sequence[tuple[Due, int]], now: int, most: int) -> None:
    """Note that roll-ups are behind: `rows` are keys with the time when they may be recomputed.

    A key that is noted already is put off to the new time, at most `most` milliseconds beyond its
    first change (or the earlier time it had).
    """
    known = _due_since(connection, [key for key, _ready in rows])
    written = []
    for key, ready in rows:
        since, before = known.get(key, (now, ready))
        written.append((*key, since, min(ready, max(before, since + most))))
    _delete(connection, rollup_due, [key for key, _ready in rows if key in known])
    bulk_insert(connection, rollup_due, written)


def _due_since(connection: Connection, keys: Sequence[Due]) -> dict[Due, tuple[int, int]]:
    found: dict[Due, tuple[int, int]] = {}
    if not keys:
        return found
    starts = [key.start for key in keys]
    between = (rollup_due.c.start >= min(starts), rollup_due.c.start <= max(starts))
    spans = rollup_due.c.span.in_({key.span for key in keys})
    for some in chunks(sorted({key.series_id for key in keys}), _MANY):
        wanted = (rollup_due.c.series_id.in_(list(some)), spans, *between)
        statement = sa.select(rollup_due).where(*wanted)
        for row in connection.execute(statement):
            found[Due(row.series_id, row.span, row.start)] = (row.since, row.ready_at)
    return found


def due_starts(connection: Connection, series_id: int) -> dict[str, list[int]]:
    """The hours and days of a series that are behind, by span."""
    found: dict[str, list[int]] = {HOUR: [], DAY: []}
    statement = sa.select(rollup_due.c.span, rollup_due.c.start)
    for span, start in connection.execute(statement.where(rollup_due.c.series_id == series_id)):
        found[span].append(start)
    return found


def take_due(connection: Connection, now: int, most: int) -> list[Due]:
    """What can be recomputed now, hours before days; no longer noted once this commits."""
    statement = sa.select(rollup_due.c.series_id, rollup_due.c.span, rollup_due.c.start)
    # Ordered by the index: nothing is sorted that is not taken.
    ready = statement.where(rollup_due.c.ready_at <= now).order_by(rollup_due.c.ready_at)
    found = [Due(*row) for row in connection.execute(ready.limit(most))]
    _delete(connection, rollup_due, found)
    return sorted(found, key=lambda due: (due.span == DAY, due.series_id, due.start))


def is_due(connection: Connection, now: int) -> bool:
    """Whether roll-ups could be recomputed now."""
    statement = sa.select(rollup_due.c.start).where(rollup_due.c.ready_at <= now).limit(1)
    return connection.execute(statement).first() is not None


def _delete(connection: Connection, table: sa.Table, keys: Sequence[Due]) -> None:
    if not keys:
        return
    statement = table.delete().where(
        table.c.series_id == sa.bindparam("of_series"),
        table.c.span == sa.bindparam("of_span"),
        table.c.start == sa.bindparam("of_start"),
    )
    named = [
        {"of_series": key.series_id, "of_span": key.span, "of_start": key.start} for key in keys
    ]
    connection.execute(statement, named)


# --- zones and removed days -------------------------------------------------------------------


def places_of(connection: Connection, series_ids: Sequence[int]) -> dict[int, Place]:
    """Where the series' devices say they are."""
    found: dict[int, Place] = {}
    joined = sa.join(series, device, series.c.device_id == device.c.device_id)
    columns = (series.c.series_id, device.c.device_id, device.c.zone, device.c.source)
    for some in chunks(series_ids, _MANY):
        statement = sa.select(*columns).select_from(joined)
        for row in connection.execute(statement.where(series.c.series_id.in_(list(some)))):
            found[row.series_id] = Place(*row)
    return found


def rolled_zones(connection: Connection) -> list[tuple[str, str, str]]:
    """A device's own zone, its source, and the zone its days are rolled up in: all that occur."""
    joined = sa.join(device, rollup_zone, device.c.device_id == rollup_zone.c.device_id)
    columns = device.c.zone, device.c.source, rollup_zone.c.zone
    found = connection.execute(sa.select(*columns).distinct().select_from(joined))
    return [(row[0], row[1], row[2]) for row in found]


def devices_rolled(connection: Connection, zone: str, source: str, rolled: str) -> list[int]:
    """The devices of which all that is so."""
    joined = sa.join(device, rollup_zone, device.c.device_id == rollup_zone.c.device_id)
    theirs = (device.c.zone == zone, device.c.source == source, rollup_zone.c.zone == rolled)
    statement = sa.select(device.c.device_id).select_from(joined).where(*theirs)
    return list(connection.execute(statement.order_by(device.c.device_id)).scalars())


def rolled_zone(connection: Connection, device_id: int) -> str | None:
    """The zone a device's days are rolled up in; None when there are none yet."""
    statement = sa.select(rollup_zone.c.zone).where(rollup_zone.c.device_id == device_id)
    zone: str | None = connection.execute(statement).scalar_one_or_none()
    return zone


def set_rolled_zone(connection: Connection, device_id: int, zone: str) -> None:
    connection.execute(rollup_zone.delete().where(rollup_zone.c.device_id == device_id))
    connection.execute(rollup_zone.insert().values(device_id=device_id, zone=zone))


def series_of(connection: Connection, device_id: int) -> list[int]:
    """The ids of a device's series."""
    statement = sa.select(series.c.series_id).where(series.c.device_id == device_id)
    return list(connection.execute(statement.order_by(series.c.series_id)).scalars())


def removed_days(connection: Connection, since: int, until: int) -> dict[int, str]:
    """UTC days in [since, until) whose chunks are gone or came back, with their state."""
    statement = sa.select(removed_day.c.day, removed_day.c.state).where(
        removed_day.c.day >= since, removed_day.c.day < until
    )
    return {row.day: row.state for row in connection.execute(statement)}
