"""How many rows of a size (an event's) a store commits by itself (`-m bench.hooks_ceiling`).

One connection, the driver alone, as many rows in a transaction as there are senders: what group
commit could reach if everything but the store cost nothing. Prints rows per second.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from bench.hooks_load import event

_TABLE = """
CREATE TABLE ceiling (connection_id varchar(120) NOT NULL, event_no bigint NOT NULL,
 event_id varchar(200) NOT NULL, received_at bigint NOT NULL, media_type varchar(120),
 body {binary}, PRIMARY KEY (connection_id, event_no))
"""
_INDEX = "CREATE UNIQUE INDEX ceiling_by_event ON ceiling (connection_id, event_id)"
_INSERT = "INSERT INTO ceiling VALUES {rows}"

Commit = Callable[[tuple[object, ...]], None]


def sqlite_commit(path: str, group: int) -> Commit:
    """Commits rows to a file as the hub's store does: write-ahead log, full sync."""
    opened = sqlite3.connect(path, isolation_level=None)
    opened.execute("PRAGMA journal_mode=WAL")
    opened.execute("PRAGMA synchronous=FULL")
    opened.execute(_TABLE.format(binary="blob") + " WITHOUT ROWID")
    opened.execute(_INDEX)
    insert = _INSERT.format(rows=", ".join(["(?, ?, ?, ?, ?, ?)"] * group))

    def commit(values: tuple[object, ...]) -> None:
        opened.execute("BEGIN IMMEDIATE")
        opened.execute(insert, values)
        opened.execute("COMMIT")

    return commit


def postgres_commit(url: str, group: int) -> Commit:
    """Commits rows to a PostgreSQL."""
    opened = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
    opened.execute(f"DROP TABLE IF EXISTS ceiling; {_TABLE.format(binary='bytea')}; {_INDEX}")
    insert = _INSERT.format(rows=", ".join(["(%s, %s, %s, %s, %s, %s)"] * group))

    def commit(values: tuple[object, ...]) -> None:
        opened.execute(insert, values)

    return commit


def measure(commit: Commit, group: int, seconds: float, body: bytes) -> float:
    """Rows per second."""
    number, began = 0, time.perf_counter()
    until = began + seconds
    while time.perf_counter() < until:
        values: list[object] = []
        for _ in range(group):
            number += 1
            values += ["shop", number, f"ceiling-{number}", 1, "application/json", body]
        commit(tuple(values))
    return number / (time.perf_counter() - began)


def main() -> None:
    store, group, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    body = os.urandom(int(sys.argv[4])) if len(sys.argv) > 4 else event(1, "ceiling")[0]
    if store.startswith("postgresql"):
        commit = postgres_commit(store, group)
    else:
        Path(store).unlink(missing_ok=True)
        commit = sqlite_commit(store, group)
    sys.stdout.write(f"{measure(commit, group, seconds, body):.1f}\n")


if __name__ == "__main__":
    main()
