"""A backlog of a million deliveries, drained to a batch sink: rate and memory, beside a bare loop.

For each store, on fresh databases and against a fresh local target: how many commits a second the
store makes, how fast a bare loop (read rows, post them, delete them) empties the same backlog, and
how fast a worker of the hub does, with its intents, ledger and counts. The target counts what it
was told of each key: every key must have come exactly once. Exit code 1 when it did not, or when a
full run misses what is promised.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench import machine
from bench.draining.ceiling import commits_per_second
from bench.draining.figures import GROWTH_MB, RATE, Drained, memory_of, rate_between
from bench.draining.stock import CONNECTION, SAFETY, stock, write_deployment
from bench.killing.cluster import Cluster, NoServer, server_binaries
from hub.engine.deployment import open_deployment
from hub.store.database import open_store
from hub.store.migrate import migrate

ROOT = Path(__file__).resolve().parent.parent
PENDING = 1_000_000
SQLITE, POSTGRES = "sqlite", "postgres"
TIMEOUT = 1800.0


class Broken(Exception):
    """A side could not be measured; the text says why."""


class Measurement:
    """Both sides on one store."""

    def __init__(self, store: str, sink: str, pending: int, folder: Path, console: Console) -> None:
        self._store = store
        self._sink = sink
        self._pending = pending
        self._folder = folder
        self._console = console

    def drained(self) -> Drained:
        """Measure the commits, the bare loop and the hub."""
        with self._databases() as (bare_url, hub_url):
            commits, bare, wrong = self._bare(bare_url)
            hub, wrong_too = self._hub(hub_url)
        samples = tuple((float(at), int(done), float(mb)) for at, done, mb in hub["samples"])
        total = self._pending
        return Drained(
            store=self._store,
            sink=self._sink,
            deliveries=total,
            commits_per_second=round(commits, 1),
            bare_per_second=round(bare["deliveries"] / bare["wall_seconds"], 1),
            per_second=round(total / samples[-1][0], 1),
            first_tenth_per_second=round(rate_between(samples, 0, total / 10), 1),
            last_tenth_per_second=round(rate_between(samples, total * 0.9, total), 1),
            cpu_seconds=round(hub["cpu_seconds"], 2),
            memory=memory_of(samples, total),
            problems=(*wrong, *wrong_too),
            samples=samples,
        )

    def _bare(self, store_url: str | None) -> tuple[float, dict[str, Any], list[str]]:
        with target(self._pending) as url:
            place, _, commits = self._filled("bare", url, store_url, commits=True)
            ref = f"{CONNECTION}/{self._sink}"
            arguments = ["--deployment", str(place), "--url", url, "--sink", ref]
            found = self._watched("bare loop", "bench.draining.bare", arguments, url)
            return commits, found, self._wrong("bare loop", url)

    def _hub(self, store_url: str | None) -> tuple[dict[str, Any], list[str]]:
        with target(self._pending) as url:
            place, run_id, _ = self._filled("hub", url, store_url)
            arguments = ["--deployment", str(place), "--run", str(run_id)]
            found = self._watched("hub", "bench.draining.hub_side", arguments, url)
            return found, self._wrong("hub", url)

    # --- parts --------------------------------------------------------------------------------

    @contextmanager
    def _databases(self) -> Iterator[tuple[str | None, str | None]]:
        """Where each side keeps its deliveries; None is the deployment's own SQLite file."""
        if self._store == SQLITE:
            yield None, None
            return
        cluster = Cluster(self._folder / "server")
        cluster.create()
        try:
            with cluster.connect("postgres") as connection:
                connection.execute("ALTER SYSTEM SET checkpoint_timeout = '5min'")
                connection.execute("SELECT pg_reload_conf()")
                connection.execute("CREATE DATABASE bare")
            yield cluster.url.removesuffix("hub") + "bare", cluster.url
        finally:
            cluster.end()

    def _filled(
        self, name: str, url: str, store_url: str | None, *, commits: bool = False
    ) -> tuple[Path, int, float]:
        """A deployment with its backlog: the folder, the run, and raw commits per second."""
        self._console.print(f"{self._store}: {name}: putting {self._pending:,} deliveries in place")
        place = self._folder / name
        write_deployment(place, url, store_url)
        store = open_store(open_deployment(place).store_url)
        try:
            migrate(store)
            rate = commits_per_second(store) if commits else 0.0
            return place, stock(store, self._sink, self._pending), rate
        finally:
            store.close()

    def _watched(self, name: str, module: str, arguments: list[str], url: str) -> dict[str, Any]:
        """Run one side in a process of its own, with a bar of what its target was told."""
        command = [sys.executable, "-m", module, *arguments]
        log = self._folder / f"{name}.log"
        with log.open("w+", encoding="utf-8") as errors, self._bar(name, url):
            done = subprocess.run(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        if done.returncode:
            said = log.read_text(encoding="utf-8").strip()[-2000:]
            raise Broken(f"{name} ended with {done.returncode}:\n{said}")
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    @contextmanager
    def _bar(self, name: str, url: str) -> Iterator[None]:
        columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        over = threading.Event()
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(name, total=self._pending)

            def follow() -> None:
                while not over.wait(1.0):
                    progress.update(task, completed=book(url)[self._sink]["keys"])

            follower = threading.Thread(target=follow, daemon=True)
            follower.start()
            try:
                yield
            finally:
                over.set()
                follower.join()

    def _wrong(self, name: str, url: str) -> list[str]:
        told = book(url)[self._sink]
        found = []
        if told["keys"] != self._pending:
            found.append(f"{name}: {self._pending - told['keys']:,} keys never came")
        if told["twice"]:
            found.append(f"{name}: {told['twice']:,} keys came twice")
        return found


@contextmanager
def target(keys: int) -> Iterator[str]:
    """The URL of a local target process that knows so many keys."""
    command = [sys.executable, "-m", "bench.draining.target", "--keys", str(keys)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdout is not None  # noqa: S101 (asked for above)
        port = process.stdout.readline().strip()
        if not port:
            raise Broken("the local target did not start")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def book(url: str) -> dict[str, Any]:
    """What the target was told so far."""
    found: dict[str, Any] = httpx.get(f"{url}/state").raise_for_status().json()
    return found


# --- the command ------------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    options = _options(argv)
    console = Console(stderr=options.json, highlight=False)
    before = machine.facts()
    stores = (SQLITE, POSTGRES) if options.store == "both" else (options.store,)
    found: list[Drained] = []
    skipped: dict[str, str] = {}
    for store in stores:
        try:
            found.append(measured(store, options, console))
        except NoServer as reason:
            skipped[store] = str(reason)
            console.print(f"{store}: skipped, {reason}")
        except Broken as problem:
            print(f"bench drain: {store}: {problem}", file=sys.stderr)
            return 1
    usual = options.pending == PENDING and options.sink == "batch"
    kept = usual and options.store == "both" and not skipped
    result = {"pending": options.pending, "stores": [o.summary() for o in found]}
    path = machine.save("drain" if kept else "drain.local", result | {"skipped": skipped}, before)
    if options.json:
        print(json.dumps({"machine": before, **result, "skipped": skipped}, ensure_ascii=False))
    show(found, console)
    console.print(f"saved {path.relative_to(ROOT)}")
    if not usual:
        console.print(f"a trial run: promises count for {PENDING:,} deliveries to the batch sink")
    return int(not found or any(one.problems or (usual and one.missed) for one in found))


def measured(store: str, options: argparse.Namespace, console: Console) -> Drained:
    if store == POSTGRES:
        server_binaries()
    with tempfile.TemporaryDirectory(prefix="hub-drain-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL may run as another user
        return Measurement(store, options.sink, options.pending, folder, console).drained()


def show(found: list[Drained], console: Console) -> None:
    """One column per store."""
    grid = Table(title="drain", title_justify="left")
    grid.add_column("")
    for one in found:
        grid.add_column(one.store, justify="right", no_wrap=True)
    for name, cell in _ROWS:
        grid.add_row(name, *(cell(one) for one in found))
    console.print(grid)
    for one in found:
        for line in one.problems:
            console.print(f"[red]WRONG [/]  {one.store}: {line}")
        for line in one.missed:
            console.print(f"[red]MISSED[/]  {one.store}: {line}")
        if not one.problems and not one.missed:
            kept = f"≥ {RATE:,.0f}/s, every key once, second half + ≤ {GROWTH_MB:.0f} MB"
            console.print(f"[green]met   [/]  {one.store}: {kept}")


_ROWS = (
    ("deliveries", lambda one: f"{one.deliveries:,}"),
    ("raw commits/s", lambda one: f"{one.commits_per_second:,.0f}"),
    ("bare loop, deliveries/s", lambda one: f"{one.bare_per_second:,.0f}"),
    ("hub, deliveries/s", lambda one: f"{one.per_second:,.0f}"),
    ("  of the bare loop", lambda one: f"{one.ratio:.2f}"),
    ("  first tenth", lambda one: f"{one.first_tenth_per_second:,.0f}"),
    ("  last tenth", lambda one: f"{one.last_tenth_per_second:,.0f}"),
    ("  per CPU-second", lambda one: f"{one.deliveries / one.cpu_seconds:,.0f}"),
    ("MB at 10 %", lambda one: f"{one.memory.at_10:.1f}"),
    ("MB at 50 %", lambda one: f"{one.memory.at_50:.1f}"),
    ("MB at 100 %", lambda one: f"{one.memory.at_100:.1f}"),
    ("MB per 100,000, second half", lambda one: f"{one.memory.slope_mb_per_100k:+.2f}"),
)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench drain", description=__doc__)
    parser.add_argument("--store", choices=(SQLITE, POSTGRES, "both"), default="both")
    parser.add_argument("--pending", type=int, default=PENDING, help="fewer make a trial run")
    parser.add_argument("--sink", choices=sorted(SAFETY), default="batch", help="kind of target")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(argv)
    if not 1 <= options.pending <= 10_000_000:
        parser.error("--pending is between 1 and 10,000,000")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
