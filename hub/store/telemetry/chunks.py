"""Chunks of readings: found and kept many at a time, read by series and time.

Two dialects have a way of their own to find and to keep many chunks; the portable way is beside
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.sdk.errors import Clash
from hub.store.tables.telemetry import chunk
from hub.store.telemetry.codec import Floats, Ints, decode_many
from hub.store.telemetry.partitions import ensure_weeks, week_of

HOUR_MS = 3_600_000


class Span(NamedTuple):
    """Readings of one series in one UTC hour: the earliest and the latest time of interest."""

    series_id: int
    hour: int
    first: int
    last: int


class Found(NamedTuple):
    """A chunk that may hold readings of the span with this position."""

    span: int
    start: int
    version: int
    points: bytes


class Kept(NamedTuple):
    """A chunk to be kept; version 1 is a new one, others replace the version before."""

    series_id: int
    start: int
    version: int
    size: int
    last_ts: int
    low: float
    high: float
    total: float
    points: bytes


class Summary(NamedTuple):
    """What is known of a chunk without unpacking it; `size` is the number of its readings."""

    start: int
    size: int
    last_ts: int
    low: float
    high: float
    total: float


_COLUMNS = tuple(column.name for column in chunk.columns)
_CHANGING = _COLUMNS[2:]


# --- finding ----------------------------------------------------------------------------------


def find_chunks(connection: Connection, spans: Sequence[Span]) -> list[Found]:
    """The chunks that readings of these spans belong to, by span and start."""
    if not spans:
        return []
    if connection.dialect.name == "sqlite":
        return _find_sqlite(connection, spans)
    if connection.dialect.name == "postgresql":
        return _find_postgres(connection, spans)
    return find_portably(connection, spans)


_FIND_SQLITE = """
    SELECT start, version, points FROM hub_chunk
    WHERE series_id = ?1 AND start <= ?4 AND start >= coalesce(
        (SELECT max(start) FROM hub_chunk WHERE series_id = ?1 AND start >= ?2 AND start <= ?3), ?2)
    ORDER BY start
"""


def _find_sqlite(connection: Connection, spans: Sequence[Span]) -> list[Found]:
    cursor = connection.connection.cursor()
    try:
        return [
            Found(place, *row)
            for place, span in enumerate(spans)
            for row in cursor.execute(_FIND_SQLITE, span)
        ]
    finally:
        cursor.close()


_FIND_POSTGRES = """
    SELECT s.place - 1, c.start, c.version, c.points
    FROM unnest(%(series)s::bigint[], %(hour)s::bigint[], %(first)s::bigint[], %(last)s::bigint[])
        WITH ORDINALITY AS s (series_id, hour, first, last, place)
    CROSS JOIN LATERAL (
        SELECT start, version, points FROM hub_chunk
        WHERE series_id = s.series_id AND start <= s.last AND start >= coalesce(
            (SELECT n.start FROM hub_chunk n
             WHERE n.series_id = s.series_id AND n.start >= s.hour AND n.start <= s.first
               AND n.start >= %(from)s AND n.start <= %(to)s
             ORDER BY n.start DESC LIMIT 1), s.hour)
          AND start >= %(from)s AND start <= %(to)s
    ) c
    ORDER BY s.place, c.start
"""


def _find_postgres(connection: Connection, spans: Sequence[Span]) -> list[Found]:
    names = ("series", "hour", "first", "last")
    # Text, because a list of numbers takes the driver longer than the query takes the server.
    arrays = {
        name: f"{{{','.join(map(str, column))}}}"
        for name, column in zip(names, zip(*spans, strict=True), strict=True)
    }
    bounds = {"from": min(span.hour for span in spans), "to": max(span.last for span in spans)}
    with _cursor(connection) as cursor:
        cursor.execute(_FIND_POSTGRES, {**arrays, **bounds})
        return [Found(*row) for row in cursor]


def _cursor(connection: Connection) -> Any:
    """A cursor of psycopg whose answers are binary."""
    driver: Any = connection.connection.driver_connection
    return driver.cursor(binary=True)


def find_portably(connection: Connection, spans: Sequence[Span]) -> list[Found]:
    """`find_chunks` for any database."""
    number = sa.BigInteger()
    first, last = sa.bindparam("first", type_=number), sa.bindparam("last", type_=number)
    hour, of = sa.bindparam("hour", type_=number), sa.bindparam("of", type_=number)
    nearest = (
        sa.select(sa.func.max(chunk.c.start))
        .where(chunk.c.series_id == of, chunk.c.start >= hour, chunk.c.start <= first)
        .scalar_subquery()
    )
    query = (
        sa.select(chunk.c.start, chunk.c.version, chunk.c.points)
        .where(chunk.c.series_id == of, chunk.c.start <= last)
        .where(chunk.c.start >= sa.func.coalesce(nearest, hour))
        .order_by(chunk.c.start)
    )
    return [
        Found(place, *row)
        for place, span in enumerate(spans)
        for row in connection.execute(
            query,
            {"of": span.series_id, "hour": span.hour, "first": span.first, "last": span.last},
        )
    ]


# --- keeping ----------------------------------------------------------------------------------


def keep_chunks(connection: Connection, kept: Sequence[Kept]) -> None:
    """Insert the new ones and replace the others.

    Raises Clash when another process was faster with one of them; the transaction is then undone.
    """
    new = [one for one in kept if one.version == 1]
    changed = [one for one in kept if one.version > 1]
    if connection.dialect.name == "sqlite":
        done = _keep_sqlite(connection, kept)
    elif connection.dialect.name == "postgresql":
        done = _keep_postgres(connection, new, changed)
    else:
        done = keep_portably(connection, new, changed)
    if done != len(kept):
        raise Clash(chunks=len(kept) - done)


_UPSERT = f"""
    ON CONFLICT (series_id, start) DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in _CHANGING)}
    WHERE kept.version = excluded.version - 1
"""  # noqa: S608 (constants)
_KEEP_SQLITE = f"INSERT INTO hub_chunk AS kept VALUES (?,?,?,?,?,?,?,?,?) {_UPSERT}"  # noqa: S608 (constants)
_KEEP_POSTGRES = f"INSERT INTO hub_chunk AS kept SELECT * FROM hub_chunk_staged {_UPSERT}"  # noqa: S608 (constants)
_STAGED = """
    CREATE TEMPORARY TABLE IF NOT EXISTS hub_chunk_staged (LIKE hub_chunk) ON COMMIT DELETE ROWS
"""
_TYPES = ("int8", "int8", "int4", "int4", "int8", "float8", "float8", "float8", "bytea")


def _keep_sqlite(connection: Connection, kept: Sequence[Kept]) -> int:
    cursor = connection.connection.cursor()
    try:
        cursor.executemany(_KEEP_SQLITE, kept)
        return cursor.rowcount
    finally:
        cursor.close()


def _keep_postgres(connection: Connection, new: Sequence[Kept], changed: Sequence[Kept]) -> int:
    ensure_weeks(connection, {week_of(one.start) for one in new})
    done = 0
    with _cursor(connection) as cursor:
        try:
            if new:
                _copy(cursor, "hub_chunk", new)
                done += len(new)
            if changed:
                cursor.execute(_STAGED)
                _copy(cursor, "hub_chunk_staged", changed)
                cursor.execute(_KEEP_POSTGRES)
                done += cursor.rowcount
                cursor.execute("TRUNCATE hub_chunk_staged")
        except psycopg.errors.IntegrityError as error:  # it is there already, or its week is not
            raise Clash(chunks=len(new)) from error
    return done


def _copy(cursor: Any, table: str, rows: Sequence[Kept]) -> None:
    with cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(_TYPES)
        for row in rows:
            copy.write_row(row)


def keep_portably(connection: Connection, new: Sequence[Kept], changed: Sequence[Kept]) -> int:
    """How many could be kept, on any database."""
    done = 0
    for one in changed:
        values = dict(zip(_CHANGING, one[2:], strict=True))
        update = (
            chunk.update()
            .where(chunk.c.series_id == one.series_id, chunk.c.start == one.start)
            .where(chunk.c.version == one.version - 1)
            .values(values)
        )
        done += connection.execute(update).rowcount
    if new:
        try:
            connection.execute(
                chunk.insert(), [dict(zip(_COLUMNS, one, strict=True)) for one in new]
            )
        except sa.exc.IntegrityError as error:
            raise Clash(chunks=len(new)) from error
    return done + len(new)


# --- reading ----------------------------------------------------------------------------------


def read_points(
    connection: Connection, series_id: int, since_ms: int, until_ms: int
) -> tuple[Ints, Floats]:
    """Times and values of a series, since ≤ time < until, in order of time."""
    query = sa.select(chunk.c.points).where(*_within(series_id, since_ms, until_ms))
    packed = connection.execute(query.order_by(chunk.c.start)).scalars().all()
    _, ts, values = decode_many([bytes(one) for one in packed])
    begin, end = np.searchsorted(ts, [since_ms, until_ms])
    return ts[begin:end], values[begin:end]


def read_chunks(
    connection: Connection, series_id: int, since_ms: int, until_ms: int
) -> list[Summary]:
    """The chunks that have, or may have, readings with since ≤ time < until, by start."""
    columns = (
        chunk.c.start,
        chunk.c.count,
        chunk.c.last_ts,
        chunk.c.low,
        chunk.c.high,
        chunk.c.total,
    )
    query = sa.select(*columns).where(*_within(series_id, since_ms, until_ms))
    return [Summary(*row) for row in connection.execute(query.order_by(chunk.c.start))]


def _within(series_id: int, since_ms: int, until_ms: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        chunk.c.series_id == series_id,
        chunk.c.start >= since_ms // HOUR_MS * HOUR_MS,  # a chunk ends with its hour
        chunk.c.start < until_ms,
        chunk.c.last_ts >= since_ms,
    )
