"""The weeks of chunks on PostgreSQL: made before the first reading of a week, dropped whole."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection

WEEK_MS = 7 * 86_400_000
_MONDAY_MS = 4 * 86_400_000  # 1970-01-05
_LOCK = 7_165_003
_PREFIX = "hub_chunk_w"
_WAIT_MS = 500

# Chunks of the present hour are rewritten again and again: room beside each keeps the new version
# on the same page, and no index has to know of it.
_OPTIONS = "fillfactor = 60, toast_tuple_target = 4080"


def week_of(ms: int) -> int:
    """The number of the UTC week (from Monday) of a time."""
    return (ms - _MONDAY_MS) // WEEK_MS


def week_start(week: int) -> int:
    """Its first millisecond."""
    return week * WEEK_MS + _MONDAY_MS


def weeks_kept(connection: Connection) -> set[int]:
    """The weeks that have a partition."""
    found = connection.execute(
        sa.text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'hub_chunk'::regclass"
        )
    )
    return {int(name.removeprefix(_PREFIX)) for name in found.scalars()}


def ensure_weeks(connection: Connection, weeks: Iterable[int]) -> None:
    """Partitions for these weeks.

    Made in a transaction apart, so that other writers wait for this statement only; one that stays
    empty because the caller's transaction is undone does no harm.
    """
    wanted = set(weeks)
    if not wanted - weeks_kept(connection):
        return
    with connection.engine.begin() as apart:
        apart.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        for week in sorted(wanted - weeks_kept(apart)):
            _make(apart, week)


def _make(connection: Connection, week: int) -> None:
    # Attached rather than created as a part: readers and writers of other weeks go on meanwhile.
    name, start = f'"{_PREFIX}{week}"', week_start(week)
    connection.exec_driver_sql(
        f"CREATE TABLE {name} (LIKE hub_chunk INCLUDING STORAGE INCLUDING DEFAULTS)"
        f" WITH ({_OPTIONS})"
    )
    connection.exec_driver_sql(
        f"ALTER TABLE hub_chunk ATTACH PARTITION {name}"
        f" FOR VALUES FROM ({start}) TO ({start + WEEK_MS})"
    )


def drop_empty_weeks(connection: Connection, before: int) -> int:
    """Drop the partitions without a row that end at or before `before` (ms); how many went.

    One that somebody works with stays for the next time: who waits for such a lock makes all
    others wait.
    """
    old = [week for week in weeks_kept(connection) if week_start(week + 1) <= before]
    return sum(_dropped(connection, week) for week in sorted(old) if _is_empty(connection, week))


def _is_empty(connection: Connection, week: int) -> bool:
    some = sa.select(sa.literal(1)).select_from(sa.table(f"{_PREFIX}{week}")).limit(1)
    return connection.execute(some).first() is None


def _dropped(connection: Connection, week: int) -> bool:
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_WAIT_MS}")
            connection.exec_driver_sql(f'LOCK TABLE "{_PREFIX}{week}" IN ACCESS EXCLUSIVE MODE')
            empty = _is_empty(connection, week)  # a late reading may have come meanwhile
            if empty:
                connection.exec_driver_sql(f'DROP TABLE "{_PREFIX}{week}"')
            connection.exec_driver_sql("SET LOCAL lock_timeout TO DEFAULT")
            return empty
    except sa.exc.OperationalError as error:
        if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise
        return False
