"""The cursor's promise: whoever reads on from `next` misses nothing while others write."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hub.store.database import Store, open_store
from hub.store.migrate import migrate
from hub.store.records import last_change_no, load_record, records_since
from tests.store.writer import ENTITY, write

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 30


class Reader:
    """Pulls page by page and keeps what a CRM would keep: the last version of each key."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.cursor = 0
        self.numbers: list[int] = []
        self.seen: dict[str, dict[str, Any]] = {}

    def pull(self) -> None:
        with self._store.reading() as connection:
            page = records_since(connection, ENTITY, self.cursor, 7)
        for row in page:
            self.numbers.append(row["change_no"])
            self.seen[row["key"]] = row
        if page:
            self.cursor = page[-1]["change_no"]

    def pull_while(self, going: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while going():
            assert time.monotonic() < deadline
            self.pull()
        before = -1
        while before != self.cursor:
            before = self.cursor
            self.pull()


def check(store: Store, reader: Reader, own: list[str]) -> None:
    assert reader.numbers == sorted(set(reader.numbers))
    assert set(own) == {key for key in reader.seen if not key.startswith("shared-")}
    with store.reading() as connection:
        assert reader.cursor == last_change_no(connection, ENTITY)
        for key, row in reader.seen.items():
            assert load_record(connection, ENTITY, key) == row
    shared = [row for key, row in reader.seen.items() if key.startswith("shared-")]
    assert any(row["deleted"] for row in shared)
    assert all((row["data"] is None) == row["deleted"] for row in shared)


def test_a_reader_misses_nothing_while_several_threads_write(store: Store) -> None:
    reader = Reader(store)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(write, store, f"t{number}", ROUNDS) for number in range(4)]
        reader.pull_while(lambda: not all(job.done() for job in jobs))
        own = [key for job in jobs for key in job.result()]
    assert len(own) > ROUNDS
    check(store, reader, own)


@pytest.mark.postgres
def test_a_reader_misses_nothing_while_several_processes_write(postgres_url: str) -> None:
    store = open_store(postgres_url)
    migrate(store)
    command = [sys.executable, "-m", "tests.store.writer", postgres_url]
    writers = [
        subprocess.Popen(
            [*command, f"p{number}", str(ROUNDS)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for number in range(3)
    ]
    reader = Reader(store)
    reader.pull_while(lambda: any(writer.poll() is None for writer in writers))
    own = [key for writer in writers for key in writer.communicate(timeout=30)[0].split()]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert len(own) > ROUNDS
    check(store, reader, own)
    store.close()
