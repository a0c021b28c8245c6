"""Every fault of a source and of a target: complete or loud, and exactly one effect per key.

Each case is tried on a deployment of its own, with real flows against fakes behind a fault proxy.
A source fault must end *complete* (the target equals the source, nothing twice) or *loud* (the run
failed and says why, nothing counts as read, and the next run is complete; or the row lies among the
dead letters). A sink fault must leave *one effect* per key; where neither the sink nor a look-up
can tell, each record in doubt must be put before a person (*review*) and not be sent again.
The fake's own count of effects decides. Exit code 1 when any row is bad.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict
from fnmatch import fnmatch
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.fault_cases.rows import Row, Verdict
from bench.fault_cases.sources import SOURCE_CASES, SourceCase, try_source
from bench.fault_cases.targets import SINK_CASES, SinkCase, try_sinks

WORKERS = 3
"""The cases mostly wait: more of them than processors are tried at a time."""

Case = SourceCase | SinkCase


def try_case(case_number: int, store: str) -> list[Row]:
    """Run one case of `cases()`; a number, because a case is made of functions."""
    case = cases()[case_number]
    return [try_source(case, store)] if isinstance(case, SourceCase) else try_sinks(case, store)


def cases() -> list[Case]:
    """All cases, in the order of the tables."""
    return [*SOURCE_CASES, *SINK_CASES]


def chosen(pattern: str | None) -> list[int]:
    """The numbers of the cases whose name fits the pattern."""
    return [
        number
        for number, case in enumerate(cases())
        if pattern is None or fnmatch(case.name.lower(), pattern.lower())
    ]


def measure(numbers: Sequence[int], store: str, console: Console) -> list[tuple[int, list[Row]]]:
    """Try the cases, several at a time; those that kill processes take longest and begin."""
    known = cases()
    slow_first = sorted(numbers, key=lambda number: "kill" not in known[number].name)
    spawn = multiprocessing.get_context("spawn")
    found: dict[int, list[Row]] = {}
    with ProcessPoolExecutor(WORKERS, spawn, initializer=_be_quiet) as pool:
        waiting: dict[Future[list[Row]], int] = {
            pool.submit(try_case, number, store): number for number in slow_first
        }
        for future in as_completed(waiting):
            number = waiting[future]
            found[number] = future.result()
            bad = [row for row in found[number] if not row.good]
            console.print(f"  {len(found):>3}/{len(numbers)} {known[number].name:<34} {_word(bad)}")
    return [(number, found[number]) for number in numbers]


def _word(bad: Sequence[Row]) -> str:
    return f"[red]{bad[0].verdict.value}[/]" if bad else "good"


def _be_quiet() -> None:
    logging.getLogger("hub").setLevel(logging.CRITICAL)  # runs fail here on purpose


# --- showing ----------------------------------------------------------------------------------


def table(title: str, where: str, rows: Sequence[Row]) -> Table:
    grid = Table(title=title, title_justify="left")
    for heading in ("fault", where, "verdict"):
        grid.add_column(heading, overflow="fold")
    for heading in ("expected", "found", "most effects", "tries", "s"):
        grid.add_column(heading, justify="right")
    grid.add_column("error code", overflow="fold")
    for row in rows:
        colour = "green" if row.good else "bold red"
        grid.add_row(
            row.fault,
            row.where,
            f"[{colour}]{row.verdict.value}[/]",
            *(str(value) for value in (row.expected, row.found, row.most_effects, row.tries)),
            f"{row.seconds:.1f}",
            " · ".join(part for part in (row.code, row.note) if part),
        )
    return grid


def judged(tried: Sequence[tuple[int, list[Row]]], store: str, seconds: float) -> dict[str, Any]:
    """Everything that is worth keeping."""
    rows = [row for _, part in tried for row in part]
    return {
        "store": store,
        "seconds": round(seconds, 1),
        "good": all(row.good for row in rows),
        "bad": [f"{row.fault} ({row.where}): {row.verdict.value}" for row in rows if not row.good],
        "verdicts": {
            verdict.value: number
            for verdict in Verdict
            if (number := sum(row.verdict is verdict for row in rows))
        },
        "sources": [asdict(row) for row in sources_of(tried)],
        "sinks": [asdict(row) for row in sinks_of(tried)],
    }


def sources_of(tried: Sequence[tuple[int, list[Row]]]) -> list[Row]:
    return [row for number, part in tried for row in part if number < len(SOURCE_CASES)]


def sinks_of(tried: Sequence[tuple[int, list[Row]]]) -> list[Row]:
    return [row for number, part in tried for row in part if number >= len(SOURCE_CASES)]


# --- the command ------------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    options = _options(argv)
    numbers = chosen(options.only)
    if not numbers:
        print(f"bench faults: no fault fits {options.only!r}; try '*kill*'", file=sys.stderr)
        return 2
    console = Console(stderr=options.json, width=None if sys.stdout.isatty() else 140)
    before = machine.facts()
    began = time.monotonic()
    try:
        tried = measure(numbers, options.store, console)
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        print(f"bench faults: no PostgreSQL (HUB_TEST_POSTGRES): {reason}", file=sys.stderr)
        return 1
    result = judged(tried, options.store, time.monotonic() - began)
    _show(tried, result, console)
    path = machine.save(_file(options), result, before)
    console.print(f"saved bench/results/{path.name}")
    if options.json:
        print(json.dumps({"machine": before, **result}, ensure_ascii=False))
    return 0 if result["good"] else 1


def _show(tried: Sequence[tuple[int, list[Row]]], result: dict[str, Any], console: Console) -> None:
    if rows := sources_of(tried):
        console.print(table("Source faults", "source", rows))
    if rows := sinks_of(tried):
        console.print(table("Sink faults", "sink", rows))
    counts = ", ".join(f"{number} {name}" for name, number in result["verdicts"].items())
    console.print(f"{counts}; {result['store']}, {result['seconds']} s")
    for line in result["bad"]:
        console.print(f"[bold red]BAD[/]  {line}")


def _file(options: argparse.Namespace) -> str:
    if options.only is not None:
        return "faults.local"
    return "faults" if options.store == "sqlite" else f"faults_{options.store}"


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="dev.py bench faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--only", metavar="PATTERN", help="faults with such a name: '*kill*'")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
