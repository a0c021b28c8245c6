"""Kill -9, database stops and zombies under load: what is lost, doubled, out of order.

Starts the hub as a user runs it, 24 senders of webhook events, a U8 whose rows are edited and a CRM
that notes every effect, and breaks things at random. A referee that sees only what happened outside
of the hub gives the verdict.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import machine
from bench.killing.campaign import Outcome, Plan, run_campaign
from bench.killing.cluster import NoServer, server_binaries
from bench.killing.fleet import GoneForGood
from bench.killing.world import POSTGRES, SQLITE, STORES, Failed

KILLS = 200
FOUND = ("acknowledged", "lost", "doubled", "out of order", "invented", "superseded")


def main(argv: list[str]) -> int:
    options = _options(argv)
    # Ended from outside, it must not leave a hub and a database behind.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    console = Console(stderr=options.json, highlight=False)
    before = machine.facts()
    stores = STORES if options.store == "both" else (options.store,)
    outcomes: list[Outcome] = []
    skipped: dict[str, str] = {}
    for store in stores:
        try:
            if store == POSTGRES:
                server_binaries()
            outcomes.append(_campaign(store, options, console))
        except NoServer as reason:
            skipped[store] = str(reason)
            console.print(f"{store}: skipped, {reason}")
        except (Failed, GoneForGood) as problem:
            print(f"bench kill: {store}: {problem}", file=sys.stderr)
            return 1
    full = options.kills >= KILLS and not skipped and options.store == "both"
    result = {
        "kills": options.kills,
        "campaigns": [o.summary() for o in outcomes],
        "skipped": skipped,
    }
    path = machine.save("kill" if full else "kill.local", result, before)
    if options.json:
        print(json.dumps({"machine": before, **result}, ensure_ascii=False))
    show(outcomes, console)
    console.print(f"saved {path.name}")
    return int(not outcomes or not all(one.clean and not one.late for one in outcomes))


def _campaign(store: str, options: argparse.Namespace, console: Console) -> Outcome:
    plan, say = _plan(store, options), _say(console, store)
    if options.folder is not None:
        folder = options.folder.resolve() / store
        folder.mkdir(parents=True)
        return run_campaign(plan, folder, say)
    with tempfile.TemporaryDirectory(prefix="hub-kill-") as name:
        return run_campaign(plan, Path(name), say)


def _plan(store: str, options: argparse.Namespace) -> Plan:
    kills = options.kills
    if store == SQLITE:
        return Plan(store, kills, seed=options.seed, swallow=options.swallow)
    return Plan(
        store,
        kills,
        stops=-(-kills // 10),
        zombies=-(-kills // 20),
        take_overs=-(-kills // 20),
        seed=options.seed,
        swallow=options.swallow,
    )


def _say(console: Console, store: str) -> Any:
    began = time.monotonic()
    return lambda text: console.print(f"{time.monotonic() - began:6.0f} s  {store}: {text}")


def show(outcomes: list[Outcome], console: Console) -> None:
    """One column per store."""
    table = Table(title="kill loop", title_justify="left")
    table.add_column("")
    for one in outcomes:
        table.add_column(one.store, justify="right")
    for name, cells in _rows(outcomes):
        table.add_row(name, *cells)
    console.print(table)
    for one in outcomes:
        for line in [*one.verdict.get("wrong", []), *one.problems, *one.late]:
            console.print(f"[red]WRONG[/]  {one.store}: {line}", markup=True)
        if one.clean and not one.late:
            console.print(f"[green]clean[/]  {one.store}, seed {one.seed}, {one.seconds:.0f} s")


def _rows(outcomes: list[Outcome]) -> list[tuple[str, list[str]]]:
    plain = ("kills", "stops", "zombies", "ended_by_itself")
    rows = [(name.replace("_", " "), [str(getattr(o, name)) for o in outcomes]) for name in plain]
    for name in FOUND:
        key = "events" if name == "acknowledged" else name.replace(" ", "_")
        rows.append((name, [str(one.verdict.get(key, "")) for one in outcomes]))
    for name in ("ready", "accepted", "after_stop", "take_overs"):
        times = [getattr(one, name) for one in outcomes]
        label = f"{name.replace('_', ' ')} s, p50/max"
        rows.append((label, [_spread(found) for found in times]))
    return rows


def _spread(times: list[float]) -> str:
    return f"{median(times):.1f}/{max(times):.1f}" if times else "–"


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help="per store")
    parser.add_argument("--store", choices=(*STORES, "both"), default="both")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument(
        "--swallow",
        type=int,
        default=0,
        help="sabotage: the CRM says of so many writes that they were made, and makes nothing",
    )
    parser.add_argument(
        "--folder", type=Path, help="keep deployment, store, logs and journal in this new folder"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(argv)
    if options.kills < 1:
        parser.error("--kills is at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
