"""The hub's side of `bench sync`: one run of the bench flow in a process of its own."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import sqlalchemy as sa

from bench.machine import peak_mb
from bench.outcome import Outcome, digest
from hub.engine.hub import Hub, open_hub
from hub.engine.planning import start_run
from hub.store.runs import Run, load_run
from hub.store.tables import record

FLOW = "bench_sync"


def run_to_end(hub: Hub) -> Run:
    """Start the flow and wait until it is done."""
    run = start_run(hub, FLOW)
    while not run.finished:
        time.sleep(0.25)
        with hub.store.reading() as connection:
            found = load_run(connection, run.id)
        assert found is not None  # noqa: S101 (just created)
        run = found
    if run.error_text:
        raise SystemExit(run.error_text)
    return run


def stored(hub: Hub) -> list[dict[str, object]]:
    """The mapped records as the store holds them."""
    with hub.store.reading() as connection:
        texts = connection.execute(sa.select(record.c.doc_text)).scalars()
        return [json.loads(text) for text in texts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deployment", type=Path, required=True)
    options = parser.parse_args()
    started = time.perf_counter()
    with open_hub(options.deployment, jobs=True) as hub:
        hub.catalogue.flow(FLOW)
        startup_cpu, startup_wall = time.process_time(), time.perf_counter() - started
        cpu, wall = time.process_time(), time.perf_counter()
        run = run_to_end(hub)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        peak = peak_mb()
        rows = stored(hub)
    Outcome(
        side="hub",
        records=run.counts["rows_read"],
        cpu_seconds=cpu,
        wall_seconds=wall,
        startup_cpu_seconds=startup_cpu,
        startup_wall_seconds=startup_wall,
        peak_mb=peak,
        rows=len(rows),
        written=run.counts["written"],
        digest=digest(rows),
    ).report()


if __name__ == "__main__":
    main()
