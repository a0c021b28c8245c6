"""A hub in a process of its own, to be killed: `python -m bench.fault_cases.child FOLDER FLOW…`.

Prints `ready` when the runs are queued, and ends when all of them have.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.fault_cases import stage
from hub.engine.hub import open_hub

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, *flows: str) -> subprocess.Popen[str]:
    """A child that has begun to work."""
    command = [sys.executable, "-m", "bench.fault_cases.child", str(folder), *flows]
    process = subprocess.Popen(
        command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None  # noqa: S101 (asked for above)
    process.stdout.readline()
    return process


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9, and wait until it is gone."""
    process.kill()
    process.communicate()


def wait_for(happened: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Wait until `happened()` is true; False when it never was."""
    until = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def main() -> None:
    folder, *flows = sys.argv[1:]
    with open_hub(Path(folder), jobs=True) as hub:
        for flow in flows:
            stage.start_run(hub, flow)
        print("ready", flush=True)
        stage.run_all(hub, *flows)


if __name__ == "__main__":
    main()
