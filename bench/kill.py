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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import machine
from bench.killing.campaign import TIMED, Outcome, Plan, run_campaign
from bench.killing.cluster import NoServer, server_binaries
from bench.killing.fleet import GoneForGood
from bench.killing.powerloss import Loss, run_losses
from bench.killing.world import POSTGRES, SQLITE, STORES, Failed, Load

KILLS = 200
_BACK = (
    "from SIGKILL of `hub serve` to the first event thanked for (accepted), to /readyz (ready); "
    "while a worker is down the server goes on accepting"
)
FOUND = ("acknowledged", "lost", "doubled", "out of order", "invented", "superseded")


def main(argv: list[str]) -> int:
    options = _options(argv)
    # Ended from outside, it must not leave a hub and a database behind.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    console = Console(stderr=options.json, highlight=False)
    before = machine.facts()
    outcomes: list[Outcome] = []
    losses: list[Loss] = []
    found: dict[str, Any] = {}
    for store in STORES if options.store == "both" else (options.store,):
        entry: dict[str, Any] = {"load_average": before["load_average"]}
        try:
            if store == POSTGRES:
                server_binaries()
            if options.kills:
                outcomes.append(_campaign(store, options, console))
                entry["campaign"] = outcomes[-1].summary()
            if options.power_loss:
                losses.append(_losses(store, options, console))
                entry["power_loss"] = losses[-1].summary()
        except NoServer as reason:
            console.print(f"{store}: skipped, {reason}")
            continue
        except (Failed, GoneForGood) as problem:
            print(f"bench kill: {store}: {problem}", file=sys.stderr)
            return 1
        found[store] = entry
        keep(found, before, full=options.kills >= KILLS)
    if options.json:
        print(json.dumps({"machine": before, "stores": found}, ensure_ascii=False))
    show(outcomes, console)
    show_losses(losses, console)
    good = [one.clean and not one.late for one in outcomes] + [one.clean for one in losses]
    return int(not good or not all(good))


def keep(found: dict[str, Any], before: dict[str, Any], *, full: bool) -> None:
    """Keep what was found; beside what another full run found of the other store."""
    path = machine.RESULTS / ("kill.json" if full else "kill.local.json")
    kept = json.loads(path.read_text("utf-8")) if full and path.exists() else {}
    others = kept.get("result", {}).get("stores", {})
    machine.save(path.stem, {"back": _BACK, "stores": {**others, **found}}, before)


def _campaign(store: str, options: argparse.Namespace, console: Console) -> Outcome:
    with _folder(store, options.folder) as folder:
        return run_campaign(_plan(store, options), folder, _say(console, store))


def _losses(store: str, options: argparse.Namespace, console: Console) -> Loss:
    with _folder(f"{store}-power", options.folder) as folder:
        say = _say(console, f"{store}, power loss")
        return run_losses(store, options.power_loss, options.seed, Load(), folder, say)


@contextmanager
def _folder(name: str, kept: Path | None) -> Iterator[Path]:
    """An empty folder: inside of `kept`, or one that is gone afterwards."""
    if kept is not None:
        folder = kept.resolve() / name
        folder.mkdir(parents=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="hub-kill-") as made:
        yield Path(made)


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
    if not outcomes:
        return
    table = Table(title="kill loop", title_justify="left")
    table.add_column("")
    for one in outcomes:
        table.add_column(one.store, justify="right")
    for name, cells in _rows(outcomes):
        table.add_row(name, *cells)
    console.print(table)
    for one in outcomes:
        for line in [*one.verdict.get("wrong", []), *one.problems, *one.late]:
            console.print(f"[red]WRONG[/]  {one.store}: {escape(line)}", markup=True)
        for line in one.slow:
            console.print(f"slow   {one.store}: {line}")
        if one.clean and not one.late:
            console.print(f"[green]clean[/]  {one.store}, seed {one.seed}, {one.seconds:.0f} s")


def show_losses(losses: list[Loss], console: Console) -> None:
    """One line per store, and what was found wrong."""
    for one in losses:
        kinds = ", ".join(f"{number} {kind}" for kind, number in one.kinds.items())
        console.print(
            f"power loss  {one.store}: {one.copies} copies ({kinds}), the last with "
            f"{one.events} acknowledged events"
        )
        for problem in one.problems:
            console.print(f"[red]WRONG[/]  {one.store}: {escape(problem)}", markup=True)
        if one.clean:
            console.print(f"[green]clean[/]  {one.store}: every copy opened and held all of it")


def _rows(outcomes: list[Outcome]) -> list[tuple[str, list[str]]]:
    plain = ("kills", "stops", "zombies", "ended_by_itself")
    rows = [(name.replace("_", " "), [str(getattr(o, name)) for o in outcomes]) for name in plain]
    for name in FOUND:
        key = "events" if name == "acknowledged" else name.replace(" ", "_")
        rows.append((name, [str(one.verdict.get(key, "")) for one in outcomes]))
    for name in TIMED:
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
    parser.add_argument(
        "--power-loss",
        type=int,
        default=0,
        metavar="N",
        help="also take the store's files at N random instants under load, per store, and open "
        "them; with --kills 0: only that",
    )
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
    if options.kills < 0 or options.power_loss < 0 or not options.kills + options.power_loss:
        parser.error("--kills and --power-loss are not negative and not both 0")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
