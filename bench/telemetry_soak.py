"""A steady load of telemetry for minutes: memory and the projector's lag must not grow.

30,000 readings per second over HTTP, 100 in a message, while the projector works. Afterwards every
reading that was acknowledged must be there once.
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

from bench import machine
from bench.hooks import store_at
from bench.killing.cluster import NoServer
from bench.telemetering.intake import MACHINES, Senders
from bench.telemetering.site import ROOT, Broken, Site
from bench.telemetering.soak import soak

STORES = ("sqlite", "postgres")
MINUTES = 10.0


def measure(name: str, minutes: float) -> tuple[dict[str, Any], list[str]]:
    """What one store showed, and what it missed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-bench-")))
        url, _ = stack.enter_context(store_at(name, folder))
        site = stack.enter_context(closing(Site(folder / "hub", url, MACHINES)))
        senders = stack.enter_context(Senders())
        soaked = soak(site, senders, 0, minutes * 60)
    return soaked.row(), soaked.missed()


def main(argv: list[str]) -> int:
    options = _options(argv)
    console = Console(stderr=options.json, highlight=False)
    before = machine.facts()
    stores, missed = {}, {}
    try:
        for name in options.store or ["sqlite"]:
            stores[name], missed[name] = measure(name, options.minutes)
            console.print(f"  {name} {stores[name]}")
    except (Broken, NoServer) as problem:
        print(f"bench telemetry_soak: {problem}", file=sys.stderr)
        return 1
    met, full = not any(missed.values()), options.minutes >= MINUTES
    result = {"minutes": options.minutes, "met": met, "missed": missed, "stores": stores}
    path = machine.save("telemetry_soak" if full else "telemetry_soak.local", result, before)
    if options.json:
        print(json.dumps({"machine": before, **result}, ensure_ascii=False))
    for name, lines in missed.items():
        console.print("\n".join(lines or [f"[green]met   [/]  {name}"]))
    console.print(f"saved {path.relative_to(ROOT)}")
    return int(not met and full)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench telemetry_soak", description=__doc__)
    parser.add_argument("--store", action="append", choices=STORES, help="default: sqlite")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(argv)
