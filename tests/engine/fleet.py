"""Several `hub worker` processes of one deployment, and looks at them from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connectors.crm.fake import FakeCrm
from hub.engine.hub import Hub, open_hub
from hub.engine.jobs import RUNNING
from hub.engine.operations import LocalOperations
from hub.engine.watchdog import look
from hub.store.runs import Run, load_run
from tests.engine.conftest import Rig
from tests.engine.durables import wait_for

ROOT = Path(__file__).resolve().parents[2]


class Fleet:
    """Workers that are killed at the end whatever happened, and a hub that only looks."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, number: int = 1) -> None:
        command = [sys.executable, "-m", "hub.cli", "--dir", str(self._rig.folder), "worker"]
        for _ in range(number):
            process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
            self.processes.append(process)

    def running(self) -> set[int]:
        """The processes that have not ended, whether others know it yet or not."""
        return {one.pid for one in self.processes if one.poll() is None}

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()

    @contextmanager
    def manned(self, number: int) -> Iterator[Hub]:
        """So many living workers, and a hub that queues and looks but runs no jobs."""
        with open_hub(self._rig.folder) as hub:
            hub.durable.connect()
            self.start(number)
            wait_for(lambda: len(alive(hub)) == number, seconds=60)
            yield hub


def alive(hub: Hub) -> list[dict[str, Any]]:
    """The workers with a fresh heartbeat."""
    return [one for one in LocalOperations(hub).workers() if one["alive"]]


def holder(hub: Hub, prefix: str) -> dict[str, Any] | None:
    """The worker that has the job in hand, by the engine's own record."""
    running = [job for job in look(hub).jobs if job.state == RUNNING and job.id.startswith(prefix)]
    by_id = {one["id"]: one for one in LocalOperations(hub).workers()}
    return by_id.get(running[0].executor_id or "") if running else None


def the_one_at(hub: Hub, prefix: str) -> dict[str, Any]:
    """The worker at the job; waits until there is one."""
    wait_for(lambda: holder(hub, prefix) is not None, seconds=60)
    found = holder(hub, prefix)
    assert found is not None
    return found


def send_signal(worker: dict[str, Any], number: signal.Signals) -> None:
    os.kill(worker["pid"], number)


def seconds_until(condition: Callable[[], bool], limit: float = 60) -> float:
    """How long it took until the condition held."""
    began = time.monotonic()
    wait_for(condition, seconds=limit)
    return time.monotonic() - began


def found(hub: Hub, run: Run) -> Run:
    """The run as it stands now."""
    with hub.store.reading() as connection:
        now = load_run(connection, run.id)
    assert now is not None
    return now


def limit(rig: Rig, connection: str, **limits: str) -> None:
    """Other limits for a connection."""
    rig.connections[connection]["limits"] |= limits
    rig.write_connections()


def set_grace(rig: Rig, grace: str) -> None:
    """When a silent process is taken for dead."""
    path = rig.folder / "hub.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(f'{text}\n[engine]\ngrace = "{grace}"\n', encoding="utf-8")


def assert_one_effect_each(crm: FakeCrm, sink: str, keys: set[str]) -> None:
    """Every key has arrived, once."""
    effects = crm.effects_of(sink)
    assert set(effects) == keys
    assert set(effects.values()) == {1}
    assert crm.duplicates(sink) == []
