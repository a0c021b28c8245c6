"""What a copy of a store must hold, and where the log of SQLite may be cut off."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.killing.journal import Journal
from bench.killing.owed import Owed, owed_by
from bench.killing.wal import moved_frames, read_log

Tables = dict[str, list[tuple[Any, ...]]]


def asking(tables: Tables) -> Any:
    def rows(query: str) -> Sequence[tuple[Any, ...]]:
        return next((found for name, found in tables.items() if f"FROM {name}" in query), [])

    return rows


def full() -> Tables:
    return {
        "hub_inbox": [("e1",), ("e2",)],
        "hub_run": [(1,)],
        "hub_link": [("take_ticket", "K", 2)],
        "hub_intent": [("ticket", "N", 1)],
        "hub_record": [("R", 7)],
    }


@pytest.fixture
def owed(tmp_path: Path) -> Owed:
    journal = Journal(tmp_path / "journal.jsonl")
    for event in ("e1", "e2"):
        journal.sending("ticket", "K", event, event)
        journal.thanked(event, 0.0)
    journal.effect("ticket", "K", "e1", "T1")
    journal.effect("ticket", "K", "e2", "T1")
    journal.effect("ticket", "N", "n1", "T2")
    journal.close()
    answers = Owed(records={"R": 7}, done={1})
    return owed_by(journal.path, float("inf"), answers)


def test_a_copy_that_holds_all_of_it_lacks_nothing(owed: Owed) -> None:
    assert owed.missing_in(asking(full())) == []


@pytest.mark.parametrize(
    ("table", "rows", "problem"),
    [
        ("hub_inbox", [("e1",)], "missing thanked event, 1 of them: e2"),
        ("hub_run", [], "missing reported run, 1 of them: 1"),
        (
            "hub_link",
            [("take_ticket", "K", 1)],
            "missing effect unknown to the ledger, 1 of them: "
            "ticket K: 2 versions took effect, 1 are known",
        ),
        (
            "hub_intent",
            [],
            "missing effect unknown to the ledger, 1 of them: "
            "ticket N: 1 versions took effect, 0 are known",
        ),
        ("hub_record", [("R", 6)], "missing record given out, 1 of them: R"),
    ],
)
def test_a_copy_that_lacks_something_acknowledged_is_found_out(
    owed: Owed, table: str, rows: list[tuple[Any, ...]], problem: str
) -> None:
    assert owed.missing_in(asking({**full(), table: rows})) == [problem]


def test_what_came_after_the_instant_is_not_owed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.sending("ticket", "K", "v1", "e1")
    journal.thanked("e1", 0.0)
    journal.close()
    assert owed_by(journal.path, 0.0, Owed()).events == set()


# --- the log ----------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "hub.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE one (number INTEGER)")
        connection.execute("INSERT INTO one VALUES (1)")
        yield connection


def copied(folder: Path, cut_at: int) -> list[int]:
    """What a copy holds whose log ends at a byte."""
    target = folder / "copy"
    target.mkdir()
    for name in ("hub.db", "hub.db-wal"):
        shutil.copyfile(folder / name, target / name)
    with (target / "hub.db-wal").open("r+b") as log:
        log.truncate(cut_at)
    with closing(sqlite3.connect(target / "hub.db")) as connection:
        return [row[0] for row in connection.execute("SELECT number FROM one ORDER BY 1")]


@pytest.mark.parametrize(("less", "held"), [(0, [1, 2]), (1, [1])])
def test_a_log_cut_off_at_the_end_of_a_commit_holds_it_and_one_byte_less_does_not(
    tmp_path: Path, database: sqlite3.Connection, less: int, held: list[int]
) -> None:
    database.execute("INSERT INTO one VALUES (2)")
    end = read_log(tmp_path / "hub.db-wal").commit_end
    database.execute("INSERT INTO one VALUES (3)")
    assert copied(tmp_path, end - less) == held


def test_the_index_says_how_much_of_the_log_a_checkpoint_has_moved(
    tmp_path: Path, database: sqlite3.Connection
) -> None:
    log = read_log(tmp_path / "hub.db-wal")
    assert moved_frames(tmp_path / "hub.db-shm") == 0
    database.execute("PRAGMA wal_checkpoint(PASSIVE)")
    assert log.end_of(moved_frames(tmp_path / "hub.db-shm")) == log.commit_end


def test_a_log_that_begins_anew_is_another_generation(
    tmp_path: Path, database: sqlite3.Connection
) -> None:
    before = read_log(tmp_path / "hub.db-wal")
    database.execute("PRAGMA wal_checkpoint(RESTART)")
    database.execute("INSERT INTO one VALUES (2)")
    assert read_log(tmp_path / "hub.db-wal").generation != before.generation
