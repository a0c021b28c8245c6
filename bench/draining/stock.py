"""The deployment of `bench drain`, and the pending deliveries that it begins with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml
from sqlalchemy.engine import Connection

from bench.draining.target import KEY
from hub.engine.deployment import create_deployment
from hub.store.database import Store
from hub.store.rows import bulk_insert
from hub.store.runs import RunState
from hub.store.tables import delivery, link, run

FLOW = "bench_drain"
CONNECTION = "target"
BATCH = 200
CONCURRENT = 4
SAFETY = {"batch": "upsert", "order": "idempotency_key", "ticket": "look_up"}

_PAGE = 1_000
_CHUNK = 10_000
_DAY = 1_780_000_000_000


def sinks() -> dict[str, Any]:
    """One sink of each kind of safety."""
    one = {"key": "key", "id": "id"}
    receipts = {"items": "results", "key": "key", "ok": {"path": "ok", "in": [1]}, "id": "id"}
    find = {
        "request": {"get": "/ticket", "params": {"key": "{key}"}},
        "data": "items",
        "match": "key",
        "id": "id",
    }
    return {
        "batch": {
            "safety": SAFETY["batch"],
            "key": "key",
            "request": {"post": "/batch", "body": {"items": "@records"}},
            "batch": BATCH,
            "receipts": receipts,
        },
        "order": {**one, "safety": SAFETY["order"], "request": {"post": "/order"}},
        "ticket": {**one, "safety": SAFETY["ticket"], "request": {"post": "/ticket"}, "find": find},
    }


def write_deployment(folder: Path, target_url: str, store_url: str | None) -> None:
    """A deployment with one connection to the target."""
    create_deployment(folder)
    if store_url is not None:
        (folder / "hub.toml").write_text(f'[store]\nurl = "{store_url}"\n', encoding="utf-8")
    entry = {
        "connector": "rest",
        "config": {"base_url": target_url},
        "limits": {"rate": None, "concurrent": CONCURRENT},
        "envelope": {"ok": {"path": "code", "in": [0]}, "errors": [{"else": "reject"}]},
        "sinks": sinks(),
    }
    text = yaml.safe_dump({CONNECTION: entry})
    (folder / "connections.yaml").write_text(text, encoding="utf-8")


def stock(store: Store, sink: str, number: int) -> int:
    """Put a run with `number` pending deliveries into the tables; the run's id."""
    with store.transaction() as connection:
        values = {
            "flow_id": FLOW,
            "kind": "full",
            "flow_version": "1",
            "state": RunState.DELIVERING.value,
            "queued_at": _DAY,
            "mapped": number,
            "rows_read": number,
            "pending": number,
        }
        made = connection.execute(run.insert().values(values)).inserted_primary_key
        assert made is not None  # noqa: S101 (narrows the type)
        run_id = int(made[0])
    for start in range(0, number, _CHUNK):
        numbers = range(start, min(start + _CHUNK, number))
        with store.transaction() as connection:
            _put(connection, link, (_link(n, run_id) for n in numbers))
            _put(connection, delivery, (_delivery(n, run_id, sink) for n in numbers))
    if not store.embedded:
        _analyze(store)
    return run_id


def payload(number: int) -> str:
    """One order as the mapping leaves it, about 300 bytes."""
    document = {
        "amount": f"{number % 90_000}.50",
        "closed": number % 2 == 0,
        "created_at": "2026-02-05T06:37:20Z",
        "customer_code": f"C{number % 5_000:06d}",
        "key": KEY.format(number),
        "quantity": number % 500,
        "region": "苏州工业园区",
        "status": "open",
        "summary": f"华盛精密机械有限公司 M8×40 × {number % 500}个",
        "unit": "个",
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _link(number: int, run_id: int) -> tuple[Any, ...]:
    key = KEY.format(number)
    digest = number.to_bytes(16, "big")
    return (FLOW, key, key, None, digest, digest, 1, 0, "pending", run_id * 3)


def _delivery(number: int, run_id: int, sink: str) -> tuple[Any, ...]:
    key, due = KEY.format(number), _DAY + number // _PAGE
    ref = f"{CONNECTION}/{sink}"
    return (ref, key, FLOW, key, run_id, "upsert", 1, payload(number), 0, due, None)


def _put(connection: Connection, table: sa.Table, rows: Iterator[tuple[Any, ...]]) -> None:
    if connection.dialect.name == "sqlite":
        bulk_insert(connection, table, list(rows))
        return
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _analyze(store: Store) -> None:
    """What PostgreSQL's own upkeep does in a database that is not made for one measurement."""
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in (link, delivery):
            connection.execute(sa.text(f"ANALYZE {table.name}"))
