"""What a store must hold after a loss of power: all that was acknowledged before that instant."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.killing.asking import Api
from bench.killing.deployment import CRM, KEPT
from bench.killing.fleet import HUB
from bench.killing.journal import lines_of
from demo.world import ROOT
from hub.store.runs import EVENTS

Rows = Callable[[str], Sequence[tuple[Any, ...]]]
"""Asks a store in SQL."""

_EXAMPLES = 3


@dataclass(slots=True)
class Owed:
    """What others knew for certain at one instant.

    `events` were thanked for; `effects` (sink, key) took place so often, so each was an intent
    before; `records` (key to number of the change) were given out; `done` runs were reported.
    """

    events: set[str] = field(default_factory=set)
    effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    records: dict[str, int] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)

    def missing_in(self, rows: Rows) -> list[str]:
        """What a copy of the store does not hold, some examples of each kind."""
        found = [
            *_unless("thanked event", self.events - _events(rows)),
            *_unless("reported run", self.done - _done(rows)),
            *_unless("effect unknown to the ledger", self._unknown(rows)),
        ]
        numbers = {key: int(number) for key, number in rows(_RECORDS)}
        old = {key for key, number in self.records.items() if numbers.get(key, 0) < number}
        return [*found, *_unless("record given out", old)]

    def _unknown(self, rows: Rows) -> set[str]:
        """Effects that the copy would have again: it knows of fewer versions than took place."""
        known: dict[tuple[str, str], int] = {}
        for sink, key, revision in [*rows(_INTENTS), *_links(rows)]:
            known[sink, key] = max(known.get((sink, key), 0), int(revision))
        return {
            f"{sink} {key}: {times} versions took effect, {known.get((sink, key), 0)} are known"
            for (sink, key), times in self.effects.items()
            if known.get((sink, key), 0) < times
        }


def owed_by(journal: Path, instant: float, answers: Owed) -> Owed:
    """`answers` of the hub, and what the journal says of the time before the instant."""
    owed = Owed(records=answers.records, done=answers.done)
    for line in lines_of(journal):
        if line["at"] >= instant:
            continue
        if line["what"] == "thanked":
            owed.events.add(line["event"])
        elif line["what"] == "effect":
            owed.effects[line["sink"], line["key"]] += 1
    return owed


def asked(api: Api) -> Owed:
    """What the hub says now; nothing while it does not answer."""
    owed = Owed()
    try:
        runs = api.get("/runs", limit=100)["items"]
        # Not those over events: one that is done goes on when the next event trickles in.
        pulled = [one for one in runs if one["kind"] != EVENTS]
        owed.done = {one["id"] for one in pulled if one["state"] == "done"}
        found = api.get(f"/records/{KEPT}", limit=1000)["records"]
        owed.records = {one["key"]: one["change_no"] for one in found}
    except httpx.HTTPError:
        return Owed()
    return owed


def opens(folder: Path, store_url: str) -> list[str]:
    """What the hub complains of when it opens the store of a copied deployment."""
    done = subprocess.run(
        [str(HUB), "--dir", str(folder), "runs", "--limit", "1", "--json"],
        cwd=ROOT,
        env={"HUB_STORE_URL": store_url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return [f"hub runs: {done.stderr.strip()[-300:]}"] if done.returncode else []


def _unless(name: str, missing: set[Any]) -> list[str]:
    if not missing:
        return []
    shown = ", ".join(str(one) for one in sorted(missing)[:_EXAMPLES])
    return [f"missing {name}, {len(missing)} of them: {shown}"]


def _events(rows: Rows) -> set[str]:
    return {name for (name,) in rows("SELECT event_id FROM hub_inbox")}


def _done(rows: Rows) -> set[int]:
    return {int(number) for (number,) in rows("SELECT id FROM hub_run WHERE state = 'done'")}


def _links(rows: Rows) -> list[tuple[str, str, int]]:
    """What the ledger says of each sink, by the sink's name."""
    sink_of = {f"take_{sink}": sink for sink in ("customer", "ticket", "sale_order")}
    sink_of |= {"pull_customers": "customer", "pull_tickets": "ticket", "pull_orders": "sale_order"}
    found = rows("SELECT flow_id, target_key, revision FROM hub_link WHERE target_key IS NOT NULL")
    return [(sink_of[flow], key, n) for flow, key, n in found if flow in sink_of]


_INTENTS = f"SELECT substr(sink_ref, {len(CRM) + 2}), target_key, revision FROM hub_intent"  # noqa: S608 (a constant)
_RECORDS = f"SELECT record_key, change_no FROM hub_record WHERE entity = '{KEPT}'"  # noqa: S608 (a constant)
