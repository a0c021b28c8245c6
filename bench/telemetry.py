"""Telemetry accepted durably and projected, beside the bare store; disk, memory, backlog.

Each way of sending is measured against `hub serve` with its projector at work: batches of 100 and
1,000 readings over HTTP, QoS 1 over MQTT, gzipped line protocol. Beside each stands what the bare
store commits of messages of the same size in the same minutes. Afterwards every reading that was
acknowledged must be there once. Then the projector alone works off a backlog.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import machine
from bench.hooks import store_at
from bench.killing.cluster import NoServer
from bench.telemetering import projection
from bench.telemetering.bodies import json_bodies, line_bodies, mqtt_payloads
from bench.telemetering.intake import CASES, MACHINES, Case, Senders, Taken, bare, take
from bench.telemetering.site import ROOT, Broken, Site

STORES = ("sqlite", "postgres")
SECONDS = 8.0
BACKLOG = 4_000_000
FLEET = 2_500
_BARE_SECONDS = 3.0


def measure(name: str, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All cases on one store."""
    found: dict[str, Any] = {"cases": {}, "missed": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-bench-")))
        url, bare_store = stack.enter_context(store_at(name, folder))
        site = stack.enter_context(closing(Site(folder / "hub", url, MACHINES)))
        senders = stack.enter_context(Senders())
        for run, case in enumerate(CASES):
            if options.case and case.name not in options.case:
                continue
            most = bare(bare_store, case.connections, _size(case), _BARE_SECONDS)
            with site.serving() as served:
                load, drained, waiting = take(case, site, served, senders, run, options.seconds)
            taken = Taken(case, load, drained, waiting, most)
            found["cases"][case.name] = taken.row()
            found["missed"] += taken.missed()
            console.print(f"  {name} {line(taken)}")
    if not options.case:
        _project(name, options, console, found)
    return found


def _project(
    name: str, options: argparse.Namespace, console: Console, found: dict[str, Any]
) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-bench-")))
        url, _ = stack.enter_context(store_at(name, folder))
        site = stack.enter_context(closing(Site(folder / "hub", url, 0)))
        parts = 1 if name == "sqlite" else 16
        projection.fill(site, FLEET, options.backlog, 50, parts)
        projected = projection.project(site, name, FLEET, 50)
    found["projection"] = projected.row()
    found["missed"] += projected.missed()
    console.print(f"  {name} projection {projected.row()}")


def _size(case: Case) -> int:
    """The size of a message, in bytes."""
    if case.kind == "mqtt":
        return len(next(mqtt_payloads(case.readings, 0, 0)))
    makers = {"json": json_bodies, "lines": line_bodies}
    return len(next(makers[case.kind](case.readings, 1, 0))[1])


def line(one: Taken) -> str:
    row = one.row()
    return (
        f"{one.case.name}: {row['messages_per_second']:,} messages/s, "
        f"{row['readings_per_second']:,} readings/s, p99 {row['p99_ms']:.0f} ms, "
        f"{row['of_bare']:.2f} of the bare store ({row['bare_messages_per_second']:,}/s), "
        f"projected {row['projected_per_second']:,}/s, {row['waiting_at_the_end']:,} waited"
    )


def table(stores: dict[str, Any]) -> Table:
    grid = Table(title="telemetry", title_justify="left")
    grid.add_column("case", no_wrap=True)
    for heading in ("messages/s", "readings/s", "p50 ms", "p99 ms", "of bare", "projected/s"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for name, one in stores.items():
        for case, row in one["cases"].items():
            cells = [f"{row['messages_per_second']:,}", f"{row['readings_per_second']:,}"]
            cells += [f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}", f"{row['of_bare']:.2f}"]
            grid.add_row(f"{name}, {case}", *cells, f"{row['projected_per_second']:,}")
        if "projection" in one:
            row = one["projection"]
            bytes_each = f"{row['bytes_per_reading']:.1f} B each"
            rate = f"{row['per_second']:,}"
            grid.add_row(f"{name}, projection", "", "", "", "", bytes_each, rate)
    return grid


def main(argv: list[str]) -> int:
    options = _options(argv)
    console = Console(stderr=options.json, highlight=False)
    before = machine.facts()
    stores: dict[str, Any] = {}
    try:
        for name in options.store or STORES:
            stores[name] = measure(name, options, console)
    except (Broken, NoServer) as problem:
        print(f"bench telemetry: {problem}", file=sys.stderr)
        return 1
    wrong = {name: one["missed"] for name, one in stores.items()}
    met = not any(wrong.values())
    whole = not (options.store or options.case)
    full = whole and options.seconds >= SECONDS and options.backlog >= BACKLOG
    result = {"seconds": options.seconds, "met": met, "missed": wrong, "stores": stores}
    path = machine.save("telemetry" if full else "telemetry.local", result, before)
    if options.json:
        print(json.dumps({"machine": before, **result}, ensure_ascii=False))
    console.print(table(stores))
    for name, lines in wrong.items():
        shown = [f"[red]MISSED[/]  {name}: {one}" for one in lines]
        console.print("\n".join(shown or [f"[green]met   [/]  {name}"]))
    console.print(f"{before['cpu']}, {before['cores']} cores, load {before['load_average']}")
    console.print(f"saved {path.relative_to(ROOT)}")
    return int(not met and full and not options.no_fail)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench telemetry", description=__doc__)
    parser.add_argument("--store", action="append", choices=STORES, help="only on this store")
    names = [case.name for case in CASES]
    parser.add_argument("--case", action="append", choices=names, help="only this one")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one case")
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="readings of the backlog")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--no-fail", action="store_true", help="exit 0 when a target is missed")
    return parser.parse_args(argv)
