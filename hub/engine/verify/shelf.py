"""What both sides have, on disk: millions of records never stand in memory together."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from enum import IntEnum
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hub.store.rows import decode_json, encode_json

_CACHE_KB = 32_000


class Side(IntEnum):
    """Where an item comes from; items of one key are met in this order."""

    WANTED = 0
    THERE = 1
    LINKED = 2
    WAITING = 3


class Item(NamedTuple):
    """One record of one side.

    `row_key` is its key in the stream it was read from, `state` the outcome of its mapping, the
    state of its link or its id in the target; `marks` are digests of its fields; `seen` is the
    digest of the row as it came.
    """

    key: str | None
    side: Side
    row_key: str
    state: str
    flow_id: str = ""
    seen: bytes | None = None
    marks: bytes | None = None


class Difference(NamedTuple):
    """One record that is not the same on both sides."""

    kind: str
    key: str
    source_key: str | None
    reason: str
    fields: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        return {**self._asdict(), "fields": list(self.fields)}


class Shelf:
    """A scratch database in a folder of its own, gone when it is closed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hub-verify-")
        self._path = Path(self._folder.name) / "verify.db"
        self._database = sqlite3.connect(self._path, check_same_thread=False)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KB}"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(_TABLES)

    def close(self) -> None:
        """Forget everything."""
        self._database.close()
        self._folder.cleanup()

    def put(self, items: Iterable[Item]) -> None:
        self._database.executemany("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?)", items)

    def drop(self, side: Side) -> None:
        """Forget one side, to read it again."""
        self._database.execute("DELETE FROM item WHERE side = ?", (side,))

    def distinct(self, side: Side) -> int:
        """How many different rows of a side there are."""
        query = "SELECT COUNT(DISTINCT row_key) FROM item WHERE side = ?"
        return int(self._database.execute(query, (side,)).fetchone()[0])

    def by_key(self) -> Iterator[tuple[str, list[Item]]]:
        """The items of every key, in the order of keys and sides, sorted on disk."""
        query = "SELECT * FROM item WHERE key IS NOT NULL ORDER BY key, side, rowid"
        rows = (Item._make(row) for row in self._database.execute(query))
        for key, items in groupby(rows, key=lambda one: one.key):
            yield str(key), list(items)

    def wanted_keys(self) -> Iterator[tuple[str, str]]:
        """(target key, source key) of every record the target should have."""
        query = (
            "SELECT DISTINCT key, row_key FROM item WHERE side = 0 AND state = 'ok' ORDER BY key"
        )
        yield from self._database.execute(query)

    # --- rows of a grouping flow ----------------------------------------------------------------

    def stage(self, rows: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
        """Keep (row key, group key, row) until the read is complete."""
        texts = [(group, key, _stage(row)) for key, group, row in rows]
        self._database.executemany("INSERT OR REPLACE INTO staged VALUES (?, ?, ?)", texts)

    def unstage(self) -> None:
        self._database.execute("DELETE FROM staged")

    def staged(self) -> int:
        return int(self._database.execute("SELECT COUNT(*) FROM staged").fetchone()[0])

    def groups(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The rows of every group."""
        rows = self._database.execute("SELECT * FROM staged ORDER BY group_key, row_key")
        for group, members in groupby(rows, key=lambda row: row[0]):
            yield str(group), [_unstage(text) for _, _, text in members]

    # --- findings -------------------------------------------------------------------------------

    def note(self, found: Sequence[Difference]) -> None:
        """Keep differences for whoever asks, in the order of their keys."""
        rows = [(*one[:4], encode_json(list(one.fields)).decode()) for one in found]
        self._database.executemany(
            "INSERT INTO difference (kind, key, source_key, reason, fields) VALUES (?, ?, ?, ?, ?)",
            rows,
        )

    def differences(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Up to `limit` differences behind number `after`, each with its number."""
        with sqlite3.connect(self._path) as reader:
            query = "SELECT rowid, * FROM difference WHERE rowid > ? ORDER BY rowid LIMIT ?"
            rows = reader.execute(query, (after, limit)).fetchall()
        reader.close()
        names = ("no", *Difference._fields)
        return [dict(zip(names, [*row[:-1], decode_json(row[-1])], strict=True)) for row in rows]

    def repairable(self, kinds: Sequence[str], reasons: Sequence[str]) -> Iterator[tuple[str, str]]:
        """(kind, source key) of the differences of these kinds that have one of these reasons."""
        query = "SELECT kind, source_key, reason FROM difference WHERE source_key IS NOT NULL"
        for kind, source_key, reason in self._database.execute(query):
            if kind in kinds and reason in reasons:
                yield kind, source_key

    def commit(self) -> None:
        self._database.commit()


_stage = msgspec.json.Encoder(decimal_format="number").encode
_unstage = msgspec.json.Decoder(float_hook=Decimal).decode
_TABLES = """
CREATE TABLE item (key TEXT, side INTEGER, row_key TEXT, state TEXT, flow_id TEXT,
                   seen BLOB, marks BLOB);
CREATE TABLE staged (group_key TEXT, row_key TEXT, doc BLOB, PRIMARY KEY (group_key, row_key))
    WITHOUT ROWID;
CREATE TABLE difference (kind TEXT, key TEXT, source_key TEXT, reason TEXT, fields TEXT);
"""
