"""The hub's side of `bench drain`: a worker that drains until the run's deliveries are settled.

`python -m bench.draining.hub_side --deployment FOLDER --run ID` prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import sqlalchemy as sa

from hub.engine.hub import Hub, open_hub
from hub.store.tables import run

_EVERY = 0.25


def pending(hub: Hub, run_id: int) -> int:
    with hub.store.reading() as connection:
        left = sa.select(run.c.pending).where(run.c.id == run_id)
        return int(connection.execute(left).scalar_one())


def resident_mb() -> float:
    """The memory this process holds now, in MB (10⁶ bytes)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def drained(folder: Path, run_id: int) -> dict[str, object]:
    """Work until nothing of the run is pending; (seconds, settled, MB) on the way."""
    samples: list[tuple[float, int, float]] = []
    with open_hub(folder) as hub:
        todo = pending(hub, run_id)
        cpu, began = time.process_time(), time.perf_counter()
        hub.start_jobs()
        settled = 0
        while settled < todo:
            time.sleep(_EVERY)
            settled = todo - pending(hub, run_id)
            seconds = round(time.perf_counter() - began, 2)
            samples.append((seconds, settled, round(resident_mb(), 1)))
        cpu = time.process_time() - cpu
    return {"deliveries": todo, "cpu_seconds": cpu, "samples": samples}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deployment", type=Path, required=True)
    parser.add_argument("--run", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(drained(options.deployment, options.run)), flush=True)


if __name__ == "__main__":
    main()
