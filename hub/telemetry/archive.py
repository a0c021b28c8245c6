"""Whole UTC days as Parquet files, and back.

    snapshot → file under a temporary name → read back and summed up → published → noted

Nothing is dropped before all of this; a crash on the way leaves a day that is simply done again.
A later file of a day holds only what earlier ones do not, and no file is ever written over.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy.engine import Connection

from hub.sdk.errors import ContractBroken
from hub.store.database import Store
from hub.store.telemetry.chunks import read_points
from hub.store.telemetry.days import (
    DAY,
    ArchiveFile,
    ChunkKey,
    OldSeries,
    TextKey,
    all_series,
    archived_files,
    chunk_keys,
)
from hub.store.telemetry.series_queries import snapshot
from hub.store.telemetry.texts import read_texts
from hub.telemetry.archive_files import (
    Key,
    Rows,
    Sums,
    Writer,
    read_rows,
    sums_of,
    written_checksum,
)
from hub.telemetry.archive_places import Place

MOST_ROWS = 5_000_000
"""Readings of one file; a day with more has several."""

_ALL_TEXTS = 2**31
_MANY = 500

Known = dict[Key, Rows]
Tell = Callable[[int, int], None]
"""Hears the day and how many readings were done so far."""


@dataclass(slots=True)
class Copied:
    """A day as it was read. `news` is what no file had before, by series."""

    day: int
    chunks: list[ChunkKey] = field(default_factory=list)
    texts: list[TextKey] = field(default_factory=list)
    files: list[ArchiveFile] = field(default_factory=list)
    news: dict[int, Rows] = field(default_factory=dict)
    readings: int = 0


def read_day(
    store: Store, day: int, place: Place | None, now: int, *, keep_news: bool, tell: Tell
) -> Copied:
    """Read a day and, with a place, write what is new of it there, verified and published.

    With `keep_news` the new readings are also in the answer. Raises what the place raises.
    """
    copied = Copied(day)
    with tempfile.TemporaryDirectory(prefix="hub-archive-") as name:
        known, output = _before(store, place, day, Path(name), now, copied)
        try:
            # Nothing but reading in here: the server ends a snapshot in which nothing happens.
            with snapshot(store) as connection:
                for one, rows in _rows_of_day(connection, day, copied):
                    new = _without(rows, known.get(one.key))
                    copied.readings += len(rows)
                    tell(day, copied.readings)
                    if len(new) and keep_news:
                        copied.news[one.series_id] = new
                    if len(new) and output is not None:
                        output.add(new)
            if output is not None:
                for file in output.publish():
                    copied.files.append(file)
                    tell(day, copied.readings)
        finally:
            if output is not None:
                output.abandon()
    return copied


def _before(
    store: Store, place: Place | None, day: int, folder: Path, now: int, copied: Copied
) -> tuple[Known, _Output | None]:
    """What the archive has of a day, and what is to take the rest."""
    if place is None:
        return {}, None
    with store.reading() as connection:
        files = archived_files(connection, day, day + DAY)
    copied.files = _unnoted(place, day, files, folder, now)
    files = sorted([*files, *copied.files], key=lambda file: file.part)
    first = files[-1].part + 1 if files else 1
    return _archived(place, files, folder), _Output(place, day, first, folder, now)


def _rows_of_day(
    connection: Connection, day: int, copied: Copied
) -> Iterator[tuple[OldSeries, Rows]]:
    known = all_series(connection)
    copied.chunks = chunk_keys(connection, [one.series_id for one in known], day, day + DAY)
    filled = {key.series_id for key in copied.chunks}
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float64)
    for one in known:
        texts = read_texts(connection, one.series_id, day, day + DAY, _ALL_TEXTS)
        copied.texts += [TextKey(one.series_id, *text) for text in texts]
        ts, value = nothing
        if one.series_id in filled:
            ts, value = read_points(connection, one.series_id, day, day + DAY)
        if len(ts) or texts:
            yield one, Rows(one.key, ts, value, texts)


def _unnoted(
    place: Place, day: int, noted: Sequence[ArchiveFile], folder: Path, now: int
) -> list[ArchiveFile]:
    """Files of a day that the archive has and the store does not know: a crash came before they
    were noted, or the store is new or from a backup. They count like the others, and are never
    written over: they may be all that is left of their readings. Raises ContractBroken for one
    that is damaged.
    """
    known, path = {file.name for file in noted}, folder / "unnoted.parquet"
    found: list[ArchiveFile] = []
    for name in files_between(place, day, day + DAY).get(day, []):
        at = day_of(name)
        if name in known or at is None:
            continue
        fetch(place, name, path)
        sums = sums_of(path)
        size, checksum = path.stat().st_size, sums.checksum()
        found.append(ArchiveFile(*at, name, place.url, sums.readings, size, checksum, now))
    return found


def _archived(place: Place, files: Sequence[ArchiveFile], folder: Path) -> Known:
    """What the files of a day hold; of one time the latest file is right."""
    found: Known = {}
    for file in files:
        path = folder / "known.parquet"
        place.get(file.name, path)
        check(path, file.name, file.checksum)
        for rows in read_rows(path):
            before = found.get(rows.key)
            found[rows.key] = rows if before is None else _overlaid(before, rows)
    return found


def check(path: Path, name: str, checksum: str) -> None:
    """Raises ContractBroken unless the file holds what it held when it was made."""
    if sums_of(path).checksum() != checksum:
        raise ContractBroken("telemetry.archive_damaged", file=name)


def _overlaid(before: Rows, later: Rows) -> Rows:
    kept = ~np.isin(before.ts, later.ts)
    ts = np.concatenate([before.ts[kept], later.ts])
    value = np.concatenate([before.value[kept], later.value])
    order = np.argsort(ts)
    texts = sorted({**dict(before.texts), **dict(later.texts)}.items())
    return Rows(before.key, ts[order], value[order], texts)


def _without(rows: Rows, known: Rows | None) -> Rows:
    """Of `rows` what is not known with the same value."""
    if known is None:
        return rows
    new = np.ones(len(rows.ts), dtype=bool)
    if len(known.ts):
        place = np.minimum(np.searchsorted(known.ts, rows.ts), len(known.ts) - 1)
        new = (known.ts[place] != rows.ts) | (
            known.value[place].view(np.int64) != rows.value.view(np.int64)
        )
    old = set(known.texts)
    return Rows(
        rows.key, rows.ts[new], rows.value[new], [one for one in rows.texts if one not in old]
    )


class _Output:
    """The files of a day: begun when there is something to write, full at `MOST_ROWS`; they are
    written here, and published when all are complete."""

    def __init__(self, place: Place, day: int, part: int, folder: Path, now: int) -> None:
        self._place = place
        self._day = day
        self._part = part
        self._folder = folder
        self._now = now
        self._writer: Writer | None = None
        self._complete: list[tuple[int, Path, Sums]] = []

    def add(self, rows: Rows) -> None:
        if self._writer is None:
            self._writer = Writer(self._path)
        self._writer.add(rows)
        if self._writer.sums.readings >= MOST_ROWS:
            self._close()

    def publish(self) -> Iterator[ArchiveFile]:
        """Bring the files there one by one, each read back before it gets its name."""
        self._close()
        for part, path, sums in self._complete:
            yield self._publish(part, path, sums)

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    @property
    def _path(self) -> Path:
        return self._folder / f"part-{self._part}.parquet"

    def _close(self) -> None:
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        writer.close()
        self._complete.append((self._part, self._path, writer.sums))
        self._part += 1

    def _publish(self, part: int, path: Path, sums: Sums) -> ArchiveFile:
        name, checksum = file_name(self._day, part), sums.checksum()
        self._place.put(name, path)
        again = self._folder / "again.parquet"
        self._place.get_partial(name, again)
        check(again, name, checksum)
        self._place.publish(name)
        size = path.stat().st_size
        path.unlink()
        place = self._place.url
        return ArchiveFile(self._day, part, name, place, sums.readings, size, checksum, self._now)


# --- names ------------------------------------------------------------------------------------


def file_name(day: int, part: int) -> str:
    """Where a day's part is: `2026/06/2026-06-01.0001.parquet`."""
    date = datetime.fromtimestamp(day / 1000, UTC).date()
    return f"{date:%Y/%m}/{date.isoformat()}.{part:04}.parquet"


def day_of(name: str) -> tuple[int, int] | None:
    """Day and part of a file's name; None for a file that is not ours."""
    date, _dot, part = name.rpartition("/")[2].removesuffix(".parquet").partition(".")
    try:
        moment = datetime.fromisoformat(date).replace(tzinfo=UTC)
        found = int(moment.timestamp()) * 1000, int(part)
    except ValueError:
        return None
    return found if file_name(*found) == name else None


def files_between(place: Place, since: int, until: int) -> dict[int, list[str]]:
    """The archive's own list of files by day, in the order of their parts."""
    found: dict[int, list[tuple[int, str]]] = {}
    for name in place.names():
        at = day_of(name)
        if at is not None and since <= at[0] < until:
            found.setdefault(at[0], []).append((at[1], name))
    return {day: [name for _part, name in sorted(parts)] for day, parts in sorted(found.items())}


def fetch(place: Place, name: str, target: Path) -> None:
    """Copy a file here and check it against its own sums. Raises ContractBroken."""
    place.get(name, target)
    check(target, name, written_checksum(target))
