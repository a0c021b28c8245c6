"""Webhook events accepted durably, beside an endpoint that keeps nothing and the bare store.

Every round measures three things, in turns and in the same minutes: a no-op endpoint on the same
server stack with the same settings, the hub (`hub serve`, signature verified, event committed
before the 2xx), and the rows that the store alone commits in groups of the same size. The senders
are one other process. Figures are medians over the rounds, ratios medians of the ratios of each
round. Afterwards the inbox must hold every event that a sender was thanked for.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.hooks_load import BODY_BYTES, SECRET, Load
from bench.killing.cluster import Cluster, NoServer
from hub.engine.deployment import create_deployment
from hub.store.database import open_store
from hub.store.tables import inbox

ROOT = Path(__file__).resolve().parent.parent
STORES = ("sqlite", "postgres")
SENDERS = 24
SECONDS = 8.0
ROUNDS = 3
LEAST_RATIO = 0.4
MOST_P99_MS = 200.0

_CONNECTION = {
    "shop": {
        "connector": "rest",
        "config": {"base_url": "http://127.0.0.1:9", "hook_secret": "env:BENCH_HOOK_SECRET"},
        "envelope": {"ok": {"path": "$", "is": "present"}},
        "hook": {
            "verify": {"kind": "hmac", "header": "X-Signature"},
            "event_id": {"path": "id"},
            "rate": 1_000_000,
            "events": {"order": {"data": "order", "key": ["no"]}},
        },
    }
}
_URL = re.compile(r"http://127\.0\.0\.1:\d+")
_START_SECONDS = 30


class Broken(Exception):
    """A side could not be measured; the text says why."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round saw. Rates are per second; CPU is the server's own, per event."""

    noop: Load
    hub: Load
    ceiling: float
    noop_cpu_us: float
    hub_cpu_us: float

    @property
    def ratio(self) -> float:
        return self.hub.rate / self.noop.rate


# --- the sides --------------------------------------------------------------------------------


class Senders:
    """The process that sends."""

    def __init__(self, connections: int, seconds: float) -> None:
        self._asked = {"connections": connections, "seconds": seconds}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.hooks_load"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def load(self, url: str) -> Load:
        """One measurement against this address."""
        assert self._process.stdin is not None  # noqa: S101 (asked for above)
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(json.dumps({"url": url, **self._asked}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise Broken("the senders gave up")
        found = Load(**json.loads(line))
        if found.refused or found.broken or not found.accepted:
            raise Broken(f"{url}: {found.refused} refused, {found.broken} connections broken")
        return found


@contextmanager
def server(command: list[str], log: Path) -> Iterator[tuple[int, str]]:
    """A server's process id and address."""
    environment = {**os.environ, "BENCH_HOOK_SECRET": SECRET}
    with log.open("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment
        )
        try:
            yield process.pid, _address(process, log)
        finally:
            process.terminate()
            process.wait(20)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        if found := _URL.search(log.read_text(encoding="utf-8")):
            return found[0] + "/hooks/shop"
        time.sleep(0.02)
    raise Broken(f"a server did not start: {log.read_text(encoding='utf-8')[-1000:]}")


def sides(folder: Path, store_url: str) -> tuple[list[str], list[str]]:
    """The commands that serve the no-op endpoint and the hub."""
    place = folder / "hub"
    create_deployment(place)
    (place / "hub.toml").write_text(f'[store]\nurl = "{store_url}"\n', encoding="utf-8")
    (place / "connections.yaml").write_text(json.dumps(_CONNECTION), encoding="utf-8")
    hub = [sys.executable, "-m", "hub.cli", "--dir", str(place), "serve", "--port", "0"]
    return [sys.executable, "-m", "bench.hooks_noop"], hub


def cpu_seconds(process: int) -> float:
    """CPU time that a process has used so far; NaN where the system does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    except OSError:
        return float("nan")
    return sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")


def ceiling(store: str, group: int, seconds: float) -> float:
    """Rows per second that the store alone commits."""
    command = [sys.executable, "-m", "bench.hooks_ceiling", store, str(group), str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Broken(f"the bare store: {done.stderr.strip()[-500:]}")
    return float(done.stdout)


# --- measuring --------------------------------------------------------------------------------


@contextmanager
def store_at(name: str, folder: Path) -> Iterator[tuple[str, str]]:
    """The URL of an empty store, and what the bare store is measured on."""
    if name == "sqlite":
        yield f"sqlite:///{folder / 'hub.db'}", str(folder / "ceiling.db")
        return
    folder.chmod(0o711)  # the database server may be another user
    cluster = Cluster(folder / "cluster")
    try:
        cluster.create()
        yield cluster.url, cluster.url
    finally:
        cluster.end()


def measure(name: str, options: argparse.Namespace, console: Console) -> list[Round]:
    """All rounds on one store. Raises Broken; NoServer where PostgreSQL is not installed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-bench-")))
        url, bare = stack.enter_context(store_at(name, folder))
        senders = stack.enter_context(Senders(options.senders, options.seconds))
        noop, hub = sides(folder, url)
        rounds, thanked = [], 0
        for number in range(options.rounds):
            results: dict[str, tuple[Load, float]] = {}
            order = [("noop", noop), ("hub", hub)]
            for side, command in order if number % 2 == 0 else reversed(order):
                results[side] = _one(side, command, folder, senders)
            most = ceiling(bare, options.senders, min(options.seconds, 4.0))
            (noop_load, noop_cpu), (hub_load, hub_cpu) = results["noop"], results["hub"]
            rounds.append(Round(noop_load, hub_load, most, noop_cpu, hub_cpu))
            thanked += hub_load.thanked
            console.print(f"  {name} {number + 1} of {options.rounds}: {line(rounds[-1])}")
        _check_kept(url, thanked)
    return rounds


def _one(side: str, command: list[str], folder: Path, senders: Senders) -> tuple[Load, float]:
    """One measurement of one side by a server that is started for it."""
    with server(command, folder / f"{side}.log") as (process, address):
        before = cpu_seconds(process)
        load = senders.load(address)
        return load, (cpu_seconds(process) - before) / load.thanked * 1e6


def _check_kept(url: str, thanked: int) -> None:
    store = open_store(url)
    try:
        with store.reading() as connection:
            kept = connection.execute(sa.select(sa.func.count()).select_from(inbox)).scalar_one()
    finally:
        store.close()
    if kept < thanked:
        raise Broken(f"{thanked} events were thanked for, {kept} are in the inbox")


def line(one: Round) -> str:
    return (
        f"no-op {one.noop.rate:,.0f}/s, hub {one.hub.rate:,.0f}/s ({one.ratio:.2f}), "
        f"p99 {one.hub.p99 * 1000:.0f} ms, bare store {one.ceiling:,.0f}/s"
    )


# --- judging ----------------------------------------------------------------------------------


def summary(rounds: list[Round]) -> dict[str, Any]:
    """Medians; p99 and the slowest are the worst of all rounds."""

    def side(loads: list[Load], cpu: list[float]) -> dict[str, float]:
        return {
            "per_second": round(median(one.rate for one in loads)),
            "p50_ms": round(median(one.p50 for one in loads) * 1000, 2),
            "p99_ms": round(max(one.p99 for one in loads) * 1000, 2),
            "slowest_ms": round(max(one.slowest for one in loads) * 1000, 1),
            "server_cpu_us": round(median(cpu)),
        }

    return {
        "noop": side([one.noop for one in rounds], [one.noop_cpu_us for one in rounds]),
        "hub": side([one.hub for one in rounds], [one.hub_cpu_us for one in rounds]),
        "ceiling_per_second": round(median(one.ceiling for one in rounds)),
        "of_noop": round(median(one.ratio for one in rounds), 3),
        "of_ceiling": round(median(one.hub.rate / one.ceiling for one in rounds), 3),
    }


def missed(figures: dict[str, Any]) -> list[str]:
    """What a store does not reach."""
    found = []
    if figures["of_noop"] < LEAST_RATIO:
        found.append(f"{figures['of_noop']:.2f} of the no-op endpoint (target ≥ {LEAST_RATIO})")
    if not figures["hub"]["p99_ms"] < MOST_P99_MS:
        found.append(f"p99 {figures['hub']['p99_ms']:.0f} ms (target < {MOST_P99_MS:.0f} ms)")
    return found


def table(stores: dict[str, Any], title: str) -> Table:
    grid = Table(title=title, title_justify="left")
    grid.add_column("side", no_wrap=True)
    for heading in ("events/s", "p50 ms", "p99 ms", "slowest", "CPU µs", "× no-op"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for name, one in stores.items():
        for side in ("noop", "hub"):
            found = one[side]
            cells = [f"{found['per_second']:,}", f"{found['p50_ms']:.1f}", f"{found['p99_ms']:.1f}"]
            cells += [f"{found['slowest_ms']:.0f}", f"{found['server_cpu_us']:.0f}"]
            share = found["per_second"] / one["noop"]["per_second"]
            shown = one["of_noop"] if side == "hub" else share
            grid.add_row(f"{name}, {side}", *cells, f"{shown:.2f}")
        bare = one["ceiling_per_second"]
        ratio = f"{bare / one['noop']['per_second']:.2f}"
        grid.add_row(f"{name}, bare store", f"{bare:,}", "", "", "", "", ratio)
    return grid


# --- the command ------------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    options = _options(argv)
    console = Console(stderr=options.json, highlight=False)
    before = machine.facts()
    stores: dict[str, Any] = {}
    try:
        for name in options.store or STORES:
            rounds = measure(name, options, console)
            stores[name] = {**summary(rounds), "rounds": [asdict(one) for one in rounds]}
    except (Broken, NoServer) as problem:
        print(f"bench hooks: {problem}", file=sys.stderr)
        return 1
    wrong = {name: missed(one) for name, one in stores.items()}
    met = not any(wrong.values())
    full = not options.store and options.seconds >= SECONDS and options.rounds >= ROUNDS
    settings = {"senders": options.senders, "seconds": options.seconds, "body_bytes": BODY_BYTES}
    result = {**settings, "met": met, "missed": wrong, "stores": stores}
    path = machine.save("hooks" if full else "hooks.local", result, before)
    if options.json:
        print(json.dumps({"machine": before, **result}, ensure_ascii=False))
    console.print(table(stores, f"{options.senders} senders, {BODY_BYTES} bytes, medians"))
    for name, lines in wrong.items():
        shown = [f"[red]MISSED[/]  {name}: {one}" for one in lines]
        console.print("\n".join(shown or [f"[green]met   [/]  {name}"]))
    console.print(f"{before['cpu']}, {before['cores']} cores, load {before['load_average']}")
    console.print(f"saved {path.relative_to(ROOT)}")
    if not met and not full:
        console.print(f"a trial run: targets count for both stores, {ROUNDS} × {SECONDS:g} s")
    return int(not met and full and not options.no_fail)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench hooks", description=__doc__)
    parser.add_argument("--store", action="append", choices=STORES, help="only on this store")
    parser.add_argument("--senders", type=int, default=SENDERS, help="connections at a time")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--no-fail", action="store_true", help="exit 0 when a target is missed")
    options = parser.parse_args(argv)
    if min(options.senders, options.rounds) < 1 or options.seconds <= 0:
        parser.error("--senders, --rounds and --seconds are at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
