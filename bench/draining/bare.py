"""The loop somebody would write for this one job: read rows, post them, delete them.

No intent, no ledger, no counts, no second try: `python -m bench.draining.bare`. A crash between
the answer and the delete sends again, an error loses its place: this is the ceiling, not a rival.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from bench.draining.stock import BATCH, CONCURRENT
from hub.engine.deployment import open_deployment
from hub.store.database import Store, open_store
from hub.store.rows import key_filters
from hub.store.tables import delivery


def drained(store: Store, url: str, ref: str) -> dict[str, object]:
    """Empty the queue of one sink."""
    sink = ref.partition("/")[2]
    batch = BATCH if sink == "batch" else 16
    number = 0
    began, cpu = time.perf_counter(), time.process_time()
    with httpx.Client(base_url=url) as client, ThreadPoolExecutor(CONCURRENT) as pool:
        while rows := _next(store, ref, batch * CONCURRENT):
            parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
            list(pool.map(lambda part: _post(client, sink, part), parts))
            _delete(store, ref, [key for key, _ in rows])
            number += len(rows)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"deliveries": number, "wall_seconds": wall, "cpu_seconds": cpu}


def _next(store: Store, ref: str, limit: int) -> list[tuple[str, str]]:
    statement = sa.select(delivery.c.target_key, delivery.c.payload_text)
    statement = statement.where(delivery.c.sink_ref == ref).order_by(delivery.c.due_at)
    with store.reading() as connection:
        return [(key, text) for key, text in connection.execute(statement.limit(limit))]


def _post(client: httpx.Client, sink: str, rows: list[tuple[str, str]]) -> None:
    bodies: list[Any] = [json.loads(text) for _, text in rows]
    for body in [{"items": bodies}] if sink == "batch" else bodies:
        answer = client.post(f"/{sink}", json=body).raise_for_status().json()
        if answer["code"] != 0:
            raise SystemExit(f"the target refused: {answer}")


def _delete(store: Store, ref: str, keys: list[str]) -> None:
    with store.transaction() as connection:
        for condition, params in key_filters(connection, delivery.c.target_key, keys):
            this = delivery.delete().where(delivery.c.sink_ref == ref, condition)
            connection.execute(this, params)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deployment", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--sink", required=True, help="CONNECTION/SINK")
    options = parser.parse_args()
    store = open_store(open_deployment(options.deployment).store_url)
    print(json.dumps(drained(store, options.url, options.sink)), flush=True)
    store.close()


if __name__ == "__main__":
    main()
