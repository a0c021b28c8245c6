"""`python3 dev.py demo`: U8 → hub → CRM over more than 20,000 records, with faults on the way.

Fakes of U8 and the CRM run as processes of their own. The three built-in flows run through the
real command line while U8 throttles, forgets its tokens, and the hub is killed (kill -9) in the
middle; the CRM loses answers. Then everything runs again and nothing may be written. Last, a
gateway pushes 20,000 readings over HTTP and MQTT, and the hub is killed again. Exit code 0 means
that every record and every reading arrived exactly once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from demo import telemetry
from demo.world import ROOT, Fake, deployment, fake

STOCK, CUSTOMERS, ORDERS = 14_000, 6_000, 600
COUNTS = ("read", "mapped", "written", "unchanged", "rejected")
OBJECTS = {
    "u8_customers_to_crm": "customer",
    "u8_stock_to_crm": "stock",
    "u8_orders_to_crm": "sale_order",
}

Run = dict[str, Any]
Trouble = Callable[[Fake, Fake], str]


@dataclass(frozen=True, slots=True)
class Act:
    """A flow of the demo: the trouble it meets, and after how many page requests it is killed."""

    flow: str
    trouble: Trouble
    page_path: str
    kill_after: int | None = None


@dataclass(slots=True)
class Story:
    """What happened, for the table and the verdict at the end."""

    runs: list[tuple[str, Run]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def throttle(u8: Fake, _crm: Fake) -> str:
    u8.alter("throttle", "/api/customer/batch_get", after=5, times=2)
    return "U8 throttles twice in the middle (a code in a 200)"


def expired_token(u8: Fake, crm: Fake) -> str:
    u8.alter("expired_token", "/api/currentstock/batch_get", after=40)
    crm.misbehave("timeout_after", "/api/v1/stocks/upsert", times=1, after=4)
    return "U8 refuses the token half way; the CRM commits a batch and never answers"


def lost_answers(_u8: Fake, crm: Fake) -> str:
    crm.misbehave("lost_answer", "/api/v1/sale_orders", method="POST", times=5, after=20)
    return "the CRM commits five orders and its answers get lost"


ACTS = (
    Act("u8_customers_to_crm", throttle, "/api/customer/batch_get"),
    Act("u8_stock_to_crm", expired_token, "/api/currentstock/batch_get", kill_after=30),
    Act("u8_orders_to_crm", lost_answers, "/api/saleorder/get"),
)


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    console = Console(stderr=options.json, highlight=False)
    started = time.monotonic()
    sizes = {"materials": 500, "stock": STOCK, "customers": CUSTOMERS, "orders": ORDERS}
    given = [part for name, size in sizes.items() for part in (f"--{name}", str(size))]
    story = Story()
    with (
        fake("connectors.u8.fake", *given) as u8,
        fake("connectors.crm.fake") as crm,
        tempfile.TemporaryDirectory(prefix="hub-demo-") as place,
    ):
        folder = deployment(Path(place) / "hub", u8, crm)
        console.print(f"U8 (fake) {u8.url}   CRM (fake) {crm.url}")
        for act in ACTS:
            _play(act, folder, u8, crm, console, story)
        console.rule("again: nothing changed, so nothing may be written")
        for act in ACTS:
            run = _flow(folder, act.flow, "--full")
            story.runs.append(("again", run))
            if run["counts"]["written"]:
                story.wrong.append(f"{act.flow} wrote {run['counts']['written']} again")
        state = crm.state()
        _judge(story, state)
        _show(console, story, time.monotonic() - started)
        pushed, wrong = telemetry.play(Path(place) / "plant", console)
    for line in wrong:
        console.print(f"[red]WRONG[/] {line}")
    story.wrong += wrong
    if options.json:
        result = {"runs": [run for _, run in story.runs], "crm": state, "wrong": story.wrong}
        result["telemetry"] = pushed
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    return 1 if story.wrong else 0


def _play(act: Act, folder: Path, u8: Fake, crm: Fake, console: Console, story: Story) -> None:
    console.rule(act.flow)
    console.print(f"trouble: {act.trouble(u8, crm)}")
    if act.kill_after is not None:
        pages = _killed(folder, act, u8)
        console.print(f"[red]kill -9[/] after {pages} page requests; starting again")
    before = u8.count(act.page_path)
    run = _flow(folder, act.flow)
    story.runs.append(("first", run))
    if act.kill_after is not None:
        console.print(f"after the restart: {u8.count(act.page_path) - before} page requests")
        if not run["resumed"]:
            story.wrong.append(f"{act.flow} did not go on after the kill")


def _killed(folder: Path, act: Act, u8: Fake) -> int:
    """Run the flow and kill the hub in the middle; the page requests it had made."""
    assert act.kill_after is not None  # noqa: S101 (narrows the type)
    with subprocess.Popen(_command(folder, act.flow), cwd=ROOT, stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while u8.count(act.page_path) < act.kill_after and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    return u8.count(act.page_path)


def _flow(folder: Path, flow: str, *more: str) -> Run:
    """Run a flow to its end through the command line; its progress goes to this terminal."""
    command = [*_command(folder, flow), "--json", *more]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"demo: {flow} ended with exit code {done.returncode}, see above")
    run: Run = json.loads(done.stdout)
    return run


def _command(folder: Path, flow: str) -> list[str]:
    options = ["--lang", "en", "--dir", str(folder)]
    return [sys.executable, "-m", "hub.cli", *options, "flow", "run", flow]


def _judge(story: Story, crm: dict[str, Any]) -> None:
    """Compare what the hub says with what the CRM holds."""
    first = {run["flow"]: run for when, run in story.runs if when == "first"}
    for flow, name in OBJECTS.items():
        written = first[flow]["counts"]["written"]
        if crm["objects"][name] != written or crm["effects"][name] != written:
            story.wrong.append(
                f"{name}: the hub wrote {written}, the CRM holds {crm['objects'][name]} "
                f"after {crm['effects'][name]} effects"
            )
        if crm["duplicates"][name]:
            story.wrong.append(f"{name}: duplicates {crm['duplicates'][name][:3]}")


def _show(console: Console, story: Story, seconds: float) -> None:
    table = Table(title="U8 → hub → CRM", title_justify="left", padding=(0, 0))
    table.add_column("run")
    table.add_column("flow", no_wrap=True)
    for name in COUNTS:
        table.add_column(name, justify="right")
    for when, run in story.runs:
        table.add_row(when, run["flow"], *(f"{run['counts'][name]:,}" for name in COUNTS))
    console.print(table)
    total = sum(run["counts"]["read"] for when, run in story.runs if when == "first")
    for line in story.wrong:
        console.print(f"[red]WRONG[/] {line}")
    if not story.wrong:
        console.print(
            f"[green]every record arrived exactly once[/]: {total:,} read, {seconds:.0f} s"
        )


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
