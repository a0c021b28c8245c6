"""The last quiet while: no more faults, what is owed gets done, the store is examined."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.killing.asking import Api
from bench.killing.cluster import Cluster
from bench.killing.deployment import KEPT, PULLED
from bench.killing.fleet import HUB
from bench.killing.journal import lines_of
from bench.killing.referee import judge
from bench.killing.world import World
from demo.world import ROOT

REST_SECONDS = 180.0
"""How long what is owed may take once nothing disturbs it any more."""

LATE_SECONDS = 4.0
"""How long we go on looking for effects that come too late or twice."""

_ODD = ("run.unbalanced", "run.counts_differ", "run.internal")


def come_to_rest(world: World) -> list[str]:
    """End the load and wait until nothing is owed; what did not come to rest."""
    for fake in (world.u8, world.crm):
        fake.behave()
    world.u8.do("calm")
    world.fleet.wait(world.fleet.is_ready, "ready at the end")
    world.end_writers()
    with closing(Api(world.fleet.deployment, world.fleet.port)) as api:
        until = time.monotonic() + REST_SECONDS
        problems = _run_anew(api, until)
        while time.monotonic() < until and not _at_rest(api, world.journal):
            time.sleep(0.5)
        time.sleep(LATE_SECONDS)
        problems += _books(api)
    return problems


def _run_anew(api: Api, until: float) -> list[str]:
    """Run every flow twice: the second run surely began after the last edit."""
    flows = (*PULLED, f"keep_{KEPT}")
    for _ in range(2):
        started = {flow: api.start(flow) for flow in flows}
        problems = [_ended(api, flow, number, until) for flow, number in started.items()]
    return [problem for problem in problems if problem is not None]


def _ended(api: Api, flow: str, number: int, until: float) -> str | None:
    """Wait for the run; what is wrong with its end."""
    while (run := api.get(f"/runs/{number}"))["state"] not in ("done", "failed"):
        if time.monotonic() > until:
            return f"run {number} of {flow} is still {run['state']}: {run['counts']}"
        time.sleep(0.2)
    return None if run["state"] == "done" else f"run {number} of {flow}: {run['error']}"


def _at_rest(api: Api, journal: Path) -> bool:
    report = api.get("/doctor")
    waiting = report["unfinished_runs"] or report["sinks_with_work"]
    return not waiting and judge(lines_of(journal)).lost == 0


def _books(api: Api) -> list[str]:
    """What the hub itself says is wrong."""
    runs = api.get("/runs", limit=1000)["items"]
    odd = [one for one in runs if one["error"] and one["error"]["code"] in _ODD]
    letters = api.get("/dead-letters", state="open", limit=10)["items"]
    report = api.get("/doctor")
    found = [f"run {one['id']} of {one['flow']}: {one['error']}" for one in odd]
    found += [
        f"dead letter: {one['flow_id']} {one['source_key']}: {one['problems']}" for one in letters
    ]
    found += [
        f"still unfinished: run {one['id']} {one['flow']}" for one in report["unfinished_runs"]
    ]
    found += [f"still work for {name}" for name in report["sinks_with_work"]]
    return found


def examine(deployment: Path, cluster: Cluster | None) -> list[str]:
    """What is damaged in a store that nobody has open, and what the doctor says of it."""
    damage = damaged_file(deployment / "hub.db") if cluster is None else cluster.check()
    done = subprocess.run(
        [str(HUB), "--dir", str(deployment), "doctor", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        damage.append(f"hub doctor: {(done.stdout + done.stderr).strip()[-500:]}")
    return damage


def damaged_file(path: Path) -> list[str]:
    """What SQLite's own check finds in the file and its log."""
    with closing(sqlite3.connect(path)) as connection:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    return [] if found == ["ok"] else [f"{path.name}: {text}" for text in found[:5]]


def verdict_on(journal: Path) -> dict[str, Any]:
    """What the referee says, asked in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.killing.referee", str(journal)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
