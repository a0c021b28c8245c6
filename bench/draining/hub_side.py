"""The hub's side of `bench drain`: a worker that drains until the run's deliveries are settled."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path

import sqlalchemy as sa

from bench.draining.memory import Memory
from hub.engine.hub import Hub, open_hub
from hub.store.tables import run


def pending(hub: Hub, run_id: int) -> int:
    with hub.store.reading() as connection:
        left = sa.select(run.c.pending).where(run.c.id == run_id)
        return int(connection.execute(left).scalar_one())


def drained(folder: Path, run_id: int) -> dict[str, object]:
    """Work until the run has nothing pending; what it took."""
    with open_hub(folder) as hub:
        todo = pending(hub, run_id)
        cpu, wall = time.process_time(), time.perf_counter()
        hub.start_jobs()
        with Memory() as memory:
            while (left := pending(hub, run_id)) > 0:
                time.sleep(0.1)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "deliveries": todo - left,
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "memory": memory.samples,
    }


def helped(folder: Path) -> None:
    """A further worker: it takes what comes until its input closes."""
    with open_hub(folder, jobs=True):
        print("ready", flush=True)
        done = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
        done.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deployment", type=Path, required=True)
    parser.add_argument("--run", type=int, help="report when this run is drained")
    options = parser.parse_args()
    if options.run is None:
        helped(options.deployment)
    else:
        print(json.dumps(drained(options.deployment, options.run)), flush=True)


if __name__ == "__main__":
    main()
