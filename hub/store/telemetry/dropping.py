"""Room that dropped readings leave: weeks without a row on PostgreSQL, free pages on SQLite."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from hub.store.telemetry.partitions import drop_empty_weeks

_PAGES_AT_ONCE = 2_000


def give_back(connection: Connection, before: int) -> int:
    """Give room back; how many weeks or pages it was, 0 when there is nothing (more) to give.

    `before` (ms): weeks that end later stay. To be called again, a transaction each, until it
    returns 0: so writers wait for a short time only.
    """
    if connection.dialect.name == "postgresql":
        return drop_empty_weeks(connection, before)
    return shrink(connection)


def shrink(connection: Connection, spare: int = 0) -> int:
    """Give free pages of an SQLite file back to the disk, and how many; a quarter of the file (or
    `spare` pages) stays for what is to come."""
    free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    for _ in range(min(free - max(pages // 4, spare), _PAGES_AT_ONCE)):
        # Page by page, because the driver takes one step only however many pages are named.
        connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")
    # None went: the file is of a kind that does not shrink.
    return int(pages - connection.exec_driver_sql("PRAGMA page_count").scalar_one())
