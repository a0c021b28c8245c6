"""Readings out of the archive, back into their series."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy.engine import Connection

from hub.store.database import Store
from hub.store.telemetry.changes import append_change
from hub.store.telemetry.chunks import read_points
from hub.store.telemetry.days import (
    DAY,
    RESTORED,
    RESTORING,
    complete_hours,
    day_state,
    set_day_state,
)
from hub.store.telemetry.devices import (
    ACTIVE,
    NewDevice,
    create_devices,
    create_series,
    find_devices,
    find_series,
)
from hub.store.telemetry.positions import touch_registry
from hub.store.telemetry.texts import read_texts
from hub.telemetry.archive import Tell, fetch, files_between
from hub.telemetry.archive_files import Key, Rows, read_rows, require_libraries
from hub.telemetry.archive_places import Place
from hub.telemetry.calendar import HOUR as HOUR_MS
from hub.telemetry.rollups import mark_hours
from hub.telemetry.series_writer import SeriesWriter, TextRow, write_texts
from hub.telemetry.turns import archive_turn

_AT_ONCE = 100_000
_WORKING_MS = 6 * HOUR_MS
_ALL_TEXTS = 2**31


@dataclass(slots=True)
class Restored:
    """`readings` were in the files, `written` of them were not there."""

    days: int = 0
    files: int = 0
    readings: int = 0
    written: int = 0


def restore(
    store: Store,
    place: Place,
    since: int,
    until: int,
    *,
    keep_until: int,
    now: int,
    owner: str,
    tell: Tell,
) -> Restored:
    """Bring back the UTC days that touch [since, until); retention leaves them until `keep_until`.

    `owner` names this process. What is there already stays as it is, so doing it again changes
    nothing. A day that is broken off keeps its roll-ups, and counts again once it is done to the
    end.
    """
    require_libraries()
    done = Restored()
    wanted = files_between(place, since - since % DAY, until)
    with archive_turn(store, owner) as renew:

        def told(day: int, readings: int) -> None:
            renew()
            tell(day, readings)

        for day, names in wanted.items():
            _restore_day(store, place, day, names, keep_until, now, done, told)
    return done


def _restore_day(
    store: Store,
    place: Place,
    day: int,
    names: Sequence[str],
    keep_until: int,
    now: int,
    done: Restored,
    tell: Tell,
) -> None:
    with store.transaction() as connection:
        was_removed = bool(day_state(connection, day)[0])
        if was_removed:
            set_day_state(connection, day, RESTORING, now + _WORKING_MS)
    with tempfile.TemporaryDirectory(prefix="hub-archive-") as folder:
        # The newest file first: what an older one says otherwise is left out as known.
        for name in reversed(names):
            path = Path(folder) / "file.parquet"
            fetch(place, name, path)
            _restore_file(store, path, day, now, done, tell, live=not was_removed)
            done.files += 1
    if was_removed:
        with store.transaction() as connection:
            complete = complete_hours(connection, day)
            if complete:
                mark_hours(connection, np.array(complete, dtype=np.int64), now)
            set_day_state(connection, day, RESTORED, keep_until)
    done.days += 1


def _restore_file(
    store: Store, path: Path, day: int, now: int, done: Restored, tell: Tell, *, live: bool
) -> None:
    waiting: list[Rows] = []
    size = 0
    for rows in read_rows(path):
        waiting.append(rows)
        size += len(rows)
        if size >= _AT_ONCE:
            _write(store, waiting, day, now, done, live=live)
            waiting, size = [], 0
            tell(day, done.readings)
    _write(store, waiting, day, now, done, live=live)
    tell(day, done.readings)


def _write(
    store: Store, several: Sequence[Rows], day: int, now: int, done: Restored, *, live: bool
) -> None:
    """Write what is missing."""
    if not several:
        return
    with store.transaction() as connection:
        ids = _series_ids(connection, [rows.key for rows in several], now)
        series, ts, value = [], [], []
        for rows in several:
            series_id = ids[rows.key]
            there, _values = read_points(connection, series_id, day, day + DAY)
            missing = ~np.isin(rows.ts, there)
            series.append(np.full(int(missing.sum()), series_id, dtype=np.int64))
            ts.append(rows.ts[missing])
            value.append(rows.value[missing])
            done.written += _write_texts(connection, series_id, rows, day)
        columns = np.concatenate(series), np.concatenate(ts), np.concatenate(value)
        done.readings += sum(len(rows) for rows in several)
        done.written += len(columns[0])
        if len(columns[0]):
            written = SeriesWriter().write(connection, *columns)
            if live and len(written.hours):
                append_change(connection, written.hours, now)


def _write_texts(connection: Connection, series_id: int, rows: Rows, day: int) -> int:
    if not rows.texts:
        return 0
    there = {ts for ts, _text in read_texts(connection, series_id, day, day + DAY, _ALL_TEXTS)}
    missing = [TextRow(series_id, ts, text) for ts, text in rows.texts if ts not in there]
    if missing:
        write_texts(connection, missing)
    return len(missing)


def _series_ids(connection: Connection, keys: Sequence[Key], now: int) -> dict[Key, int]:
    """Series by name; devices that nobody knows any more are entered again."""
    wanted = sorted({key[:3] for key in keys})
    known = {one.key: one.device_id for one in find_devices(connection, wanted)}
    missing = [key for key in wanted if key not in known]
    if missing:
        new = [NewDevice(*key, "archive", ACTIVE, "", "", now) for key in missing]
        create_devices(connection, new)
        touch_registry(connection)
        known = {one.key: one.device_id for one in find_devices(connection, wanted)}
    pairs = [(known[key[:3]], key[3]) for key in keys]
    found = find_series(connection, pairs)
    unknown = sorted({pair for pair in pairs if pair not in found})
    if unknown:
        create_series(connection, [(*pair, "") for pair in unknown])
        found = find_series(connection, pairs)
    return {key: found[pair] for key, pair in zip(keys, pairs, strict=True)}
