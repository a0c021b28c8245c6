"""Chunks and texts by UTC day: finding the old ones, and dropping exactly what was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import chunks
from hub.store.tables.telemetry import (
    archive_file,
    chunk,
    device,
    removed_day,
    rollup,
    rollup_due,
    series,
    text_reading,
)

DAY = 86_400_000
DROPPING, DROPPED, RESTORING, RESTORED = "dropping", "dropped", "restoring", "restored"

_HOUR = 3_600_000
_MANY = 500


class OldSeries(NamedTuple):
    """A series by the names that outlive its id."""

    series_id: int
    tenant: str
    gateway: str
    device: str
    metric: str
    source: str
    unit: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.tenant, self.gateway, self.device, self.metric


class ChunkKey(NamedTuple):
    """A chunk as it was when it was read."""

    series_id: int
    start: int
    version: int


class TextKey(NamedTuple):
    series_id: int
    ts: int
    text: str


class ArchiveFile(NamedTuple):
    """A verified file of the archive."""

    day: int
    part: int
    name: str
    place: str
    readings: int
    bytes: int
    checksum: str
    made_at: int


def oldest_day(connection: Connection, since: int) -> int | None:
    """The first UTC day from `since` on that has readings or texts."""
    times = [
        connection.execute(_first(connection, table, column, since)).scalar()
        for table, column in ((chunk, chunk.c.start), (text_reading, text_reading.c.ts))
    ]
    known = [time for time in times if time is not None]
    return min(known) // DAY * DAY if known else None


def _first(
    connection: Connection, table: sa.Table, column: sa.Column[int], since: int
) -> sa.Select[tuple[int]]:
    if connection.dialect.name == "sqlite":
        return sa.select(sa.func.min(column)).where(column >= since)
    # One look into the key per series: no partition is walked through.
    per_series = (
        sa.select(sa.func.min(column))
        .where(table.c.series_id == series.c.series_id, column >= since)
        .scalar_subquery()
    )
    firsts = sa.select(per_series.label("first")).select_from(series).subquery()
    return sa.select(sa.func.min(firsts.c.first))


def all_series(connection: Connection) -> list[OldSeries]:
    """Every series, in the order of the archive."""
    columns = (
        series.c.series_id,
        device.c.tenant,
        device.c.gateway,
        device.c.name,
        series.c.metric,
        device.c.source,
        series.c.unit,
    )
    joined = sa.join(series, device, series.c.device_id == device.c.device_id)
    rows = [OldSeries(*row) for row in connection.execute(sa.select(*columns).select_from(joined))]
    return sorted(rows, key=lambda row: row.key)  # not the database's collation


def chunk_keys(
    connection: Connection, series_ids: Sequence[int], since: int, until: int
) -> list[ChunkKey]:
    """The chunks of these series that start in [since, until)."""
    found: list[ChunkKey] = []
    for some in chunks(series_ids, _MANY):
        statement = sa.select(chunk.c.series_id, chunk.c.start, chunk.c.version).where(
            chunk.c.series_id.in_(list(some)), chunk.c.start >= since, chunk.c.start < until
        )
        found += [ChunkKey(*row) for row in connection.execute(statement)]
    return found


def count_day(connection: Connection, series_ids: Sequence[int], day: int) -> int:
    """How many readings the chunks of a day hold."""
    total = 0
    for some in chunks(series_ids, _MANY):
        statement = sa.select(sa.func.coalesce(sa.func.sum(chunk.c.count), 0)).where(
            chunk.c.series_id.in_(list(some)), chunk.c.start >= day, chunk.c.start < day + DAY
        )
        total += int(connection.execute(statement).scalar_one())
    return total


def drop_chunks(connection: Connection, keys: Sequence[ChunkKey]) -> int:
    """Delete chunks that are still as they were read; how many were not."""
    if not keys:
        return 0
    statement = chunk.delete().where(
        chunk.c.series_id == sa.bindparam("of_series"),
        chunk.c.start == sa.bindparam("of_start"),
        chunk.c.version == sa.bindparam("of_version"),
    )
    named = [
        {"of_series": key.series_id, "of_start": key.start, "of_version": key.version}
        for key in keys
    ]
    return len(keys) - connection.execute(statement, named).rowcount


def drop_texts(connection: Connection, keys: Sequence[TextKey]) -> None:
    """Delete texts that are still as they were read."""
    if not keys:
        return
    statement = text_reading.delete().where(
        text_reading.c.series_id == sa.bindparam("of_series"),
        text_reading.c.ts == sa.bindparam("of_ts"),
        text_reading.c.text == sa.bindparam("of_text"),
    )
    named = [{"of_series": key.series_id, "of_ts": key.ts, "of_text": key.text} for key in keys]
    connection.execute(statement, named)


def hurry_due(connection: Connection, since: int, until: int) -> int:
    """What is due of [since, until) may be recomputed at once; how much that is."""
    chosen = (rollup_due.c.start >= since, rollup_due.c.start < until)
    return connection.execute(rollup_due.update().where(*chosen).values(ready_at=0)).rowcount


def complete_hours(connection: Connection, day: int) -> list[tuple[int, int]]:
    """(series, hour) of a day of which the chunks hold no less than the roll-ups."""
    counts: Counter[tuple[int, int]] = Counter()
    rolled: dict[tuple[int, int], int] = {}
    ids = [one.series_id for one in all_series(connection)]
    for some in chunks(ids, _MANY):
        for table, found in ((chunk, counts), (rollup, rolled)):
            statement = sa.select(table.c.series_id, table.c.start, table.c.count).where(
                table.c.series_id.in_(list(some)), table.c.start >= day, table.c.start < day + DAY
            )
            if table is rollup:
                statement = statement.where(rollup.c.span == "h")
            for series_id, start, count in connection.execute(statement):
                hour = series_id, start - start % _HOUR
                found[hour] = found.get(hour, 0) + count
    return sorted(hour for hour, count in counts.items() if count >= rolled.get(hour, 0))


# --- days and files ---------------------------------------------------------------------------


def day_state(connection: Connection, day: int) -> tuple[str, int]:
    """The state of a day with its `until`; "" for one whose readings were never dropped."""
    statement = sa.select(removed_day.c.state, removed_day.c.until)
    row = connection.execute(statement.where(removed_day.c.day == day)).first()
    return ("", 0) if row is None else (row.state, row.until)


def set_day_state(connection: Connection, day: int, state: str, until: int = 0) -> None:
    connection.execute(removed_day.delete().where(removed_day.c.day == day))
    connection.execute(removed_day.insert().values(day=day, state=state, until=until))


def archived_files(connection: Connection, since: int, until: int) -> list[ArchiveFile]:
    """The files of the days in [since, until), in their order."""
    statement = sa.select(archive_file).where(
        archive_file.c.day >= since, archive_file.c.day < until
    )
    ordered = statement.order_by(archive_file.c.day, archive_file.c.part)
    return [ArchiveFile(*row) for row in connection.execute(ordered)]


def add_files(connection: Connection, files: Sequence[ArchiveFile]) -> None:
    """Note verified files."""
    if files:
        connection.execute(archive_file.insert(), [one._asdict() for one in files])


def in_batches(keys: Sequence[ChunkKey], size: int) -> Iterator[Sequence[ChunkKey]]:
    """Slices for transactions of a bearable length."""
    return chunks(keys, size)
