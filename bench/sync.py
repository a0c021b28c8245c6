"""The whole sync path beside a hand-written program: speed, memory, a run with nothing new.

Every side runs as its own process against the same local source. Each round uses fresh databases
and alternates who goes first; figures are medians over the rounds, ratios medians of the ratios of
each round. Both sides must end with the same mapped records.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import machine
from bench.outcome import FIELDS, Outcome, read_outcome
from hub.engine.deployment import open_deployment
from hub.store.database import open_store
from hub.store.migrate import migrate

ROOT = Path(__file__).resolve().parent.parent
DEPLOYMENT = ROOT / "bench" / "sync_deployment"
PLACEHOLDER = "http://127.0.0.1:8765"
RECORDS = 100_000
ROUNDS = 3
TIMEOUT = 900
HAND, FIRST, SECOND = "hand-written", "hub, first run", "hub, unchanged run"

Round = dict[str, Outcome]


class Broken(Exception):
    """A side could not be measured; the text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """One promise and what was measured."""

    name: str
    measured: float
    limit: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.measured < self.limit if self.at_most else self.measured >= self.limit

    def line(self) -> str:
        sign = "<" if self.at_most else "≥"
        return f"{self.name}: {self.measured:,.2f} (target {sign} {self.limit:,.2f})"


# --- measuring --------------------------------------------------------------------------------


@contextmanager
def source(records: int) -> Iterator[str]:
    """The URL of a local source process that serves `records` records."""
    command = [sys.executable, "-m", "bench.source", "--records", str(records)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdout is not None  # noqa: S101 (asked for above)
        port = process.stdout.readline().strip()
        if not port:
            raise Broken("the local source did not start")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def measured(module: str, side: str, *arguments: str) -> Outcome:
    """Run one side in a process of its own."""
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise Broken(f"{side} did not end within {TIMEOUT} s") from None
    if done.returncode:
        raise Broken(f"{side} ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    try:
        return read_outcome(done.stdout)
    except (ValueError, TypeError, IndexError) as error:
        raise Broken(f"{side} reported nothing usable: {error}") from error


def deployment(folder: Path, url: str) -> Path:
    """A copy of the bench's deployment that reads from `url`."""
    shutil.copytree(DEPLOYMENT, folder)
    connections = folder / "connections.yaml"
    text = connections.read_text(encoding="utf-8")
    if PLACEHOLDER not in text:
        raise Broken(f"{DEPLOYMENT.name}/connections.yaml does not name {PLACEHOLDER}")
    connections.write_text(text.replace(PLACEHOLDER, url), encoding="utf-8")
    create_store(folder)
    return folder


def create_store(folder: Path) -> None:
    """The empty store that `hub init` leaves behind."""
    store = open_store(open_deployment(folder).store_url)
    migrate(store)
    store.close()


def one_round(url: str, folder: Path, hand_first: bool, console: Console) -> Round:
    """Each side once, on fresh databases; the unchanged run follows the first on its store."""
    place = str(deployment(folder / "deployment", url))
    hand = (HAND, "bench.handwritten", ["--url", url, "--db", str(folder / "hand.db")])
    first = (FIRST, "bench.hub_sync", ["--deployment", place])
    second = (SECOND, "bench.hub_sync", ["--deployment", place])
    order = [hand, first, second] if hand_first else [first, hand, second]
    results: Round = {}
    for side, module, arguments in order:
        results[side] = measured(module, side, *arguments)
        console.print(f"  {side:<22} {results[side].per_cpu_second:>9,.0f} records per CPU-second")
    return results


def all_rounds(records: int, rounds: int, console: Console) -> list[Round]:
    results = []
    with source(records) as url, tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        for number in range(rounds):
            console.print(f"round {number + 1} of {rounds}")
            place = Path(folder) / str(number)
            place.mkdir()
            results.append(one_round(url, place, hand_first=number % 2 == 1, console=console))
            shutil.rmtree(place)
    return results


# --- judging ----------------------------------------------------------------------------------


def differences(rounds: list[Round], records: int) -> list[str]:
    """What is not equal between the sides; nothing when both hold the same mapped records."""
    found = []
    digests = {one.digest for results in rounds for one in results.values()}
    if len(digests) != 1:
        found.append("the two sides hold different mapped records")
    for results in rounds:
        for side, one in results.items():
            if (one.records, one.rows) != (records, records):
                found.append(f"{side} read {one.records} and holds {one.rows} of {records}")
        if results[SECOND].written:
            found.append(f"the unchanged run wrote {results[SECOND].written} records")
    return found


def targets(rounds: list[Round]) -> list[Target]:
    def ratio(of: str, to: str) -> float:
        return median(r[of].per_cpu_second / r[to].per_cpu_second for r in rounds)

    peak = max(r[side].peak_mb for r in rounds for side in (FIRST, SECOND))
    return [
        Target("records per CPU-second", median(r[FIRST].per_cpu_second for r in rounds), 20_000),
        Target("of the hand-written program", ratio(FIRST, HAND), 0.45),
        Target("unchanged run, times the first", ratio(SECOND, FIRST), 1.5),
        Target("peak memory, MB", peak, 120, at_most=True),
    ]


def summary(rounds: list[Round]) -> dict[str, dict[str, float]]:
    """Medians per side; the peak is the highest."""
    result = {}
    for side in (HAND, FIRST, SECOND):
        runs = [results[side] for results in rounds]
        result[side] = {
            "records_per_cpu_second": round(median(one.per_cpu_second for one in runs)),
            "cpu_seconds": round(median(one.cpu_seconds for one in runs), 3),
            "wall_seconds": round(median(one.wall_seconds for one in runs), 3),
            "startup_cpu_seconds": round(median(one.startup_cpu_seconds for one in runs), 3),
            "peak_mb": round(max(one.peak_mb for one in runs), 1),
        }
    return result


def table(figures: dict[str, dict[str, float]], title: str) -> Table:
    grid = Table(title=title, title_justify="left")
    grid.add_column("side", no_wrap=True)
    for heading in ("rec/CPU-s", "CPU s", "wall s", "start s", "peak MB", "× hand"):
        grid.add_column(heading, justify="right", no_wrap=True)
    hand = figures[HAND]["records_per_cpu_second"]
    for side, one in figures.items():
        cells = [f"{one['records_per_cpu_second']:,.0f}"]
        cells += [f"{one[name]:.2f}" for name in ("cpu_seconds", "wall_seconds")]
        cells += [f"{one['startup_cpu_seconds']:.2f}", f"{one['peak_mb']:.0f}"]
        grid.add_row(side, *cells, f"{one['records_per_cpu_second'] / hand:.2f}")
    return grid


# --- the command ------------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    options = _options(argv)
    console = Console(stderr=options.json, highlight=False)
    before = machine.facts()
    try:
        rounds = all_rounds(options.records, options.rounds, console)
    except Broken as problem:
        print(f"bench sync: {problem}", file=sys.stderr)
        return 1
    full = options.records == RECORDS and options.rounds >= ROUNDS
    result = judged(rounds, options.records)
    path = machine.save("sync" if full else "sync.local", result, before)
    if options.json:
        print(json.dumps({"machine": before, **result}, ensure_ascii=False))
    show(rounds, result, before, console)
    console.print(f"saved {path.relative_to(ROOT)}")
    missed = not all(one.met for one in targets(rounds))
    if missed and not full:
        console.print(f"a trial run: targets count for {RECORDS:,} records, {ROUNDS} rounds")
    return int(not result["equal"] or (missed and full and not options.no_fail))


def judged(rounds: list[Round], records: int) -> dict[str, Any]:
    """Everything that is worth keeping of the measurement."""
    wrong = differences(rounds, records)
    return {
        "records": records,
        "rounds": len(rounds),
        "fields": len(FIELDS),
        "equal": not wrong,
        "differences": wrong,
        "sides": summary(rounds),
        "targets": [{**asdict(one), "met": one.met} for one in targets(rounds)],
        "runs": [{side: asdict(one) for side, one in results.items()} for results in rounds],
    }


def show(
    rounds: list[Round], result: dict[str, Any], machine_facts: dict[str, Any], console: Console
) -> None:
    records = result["records"]
    title = f"{records:,} records, {result['fields']} fields, {len(rounds)} rounds, medians"
    console.print(table(result["sides"], title))
    for one in targets(rounds):
        console.print(("[green]met   [/]" if one.met else "[red]MISSED[/]") + f"  {one.line()}")
    for line in result["differences"]:
        console.print(f"[red]WRONG [/]  {line}")
    if result["equal"]:
        console.print(f"[green]equal [/]  both sides hold the same {records:,} records")
    facts = machine_facts
    console.print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load_average']}")


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench sync", description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS, help="fewer make a trial run")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--no-fail", action="store_true", help="exit 0 when a target is missed")
    options = parser.parse_args(argv)
    if options.records < 1 or options.rounds < 1:
        parser.error("--records and --rounds are at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
