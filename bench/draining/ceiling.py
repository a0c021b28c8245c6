"""How often a store commits one small row and nothing else: what no durable hub can pass."""

from __future__ import annotations

import time

import sqlalchemy as sa

from hub.store.database import Store

_SECONDS = 3.0


def commits_per_second(store: Store) -> float:
    """One connection, one insert and one commit at a time, with the hub's own settings."""
    with store.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE bench_commits (number INTEGER PRIMARY KEY)")
    put = sa.text("INSERT INTO bench_commits VALUES (:number)")
    number, began = 0, time.perf_counter()
    while time.perf_counter() - began < _SECONDS:
        with store.transaction() as connection:
            connection.execute(put, {"number": number})
        number += 1
    return number / (time.perf_counter() - began)
