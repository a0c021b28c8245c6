"""Settling outcomes: links, dead letters and counts of one round in one transaction."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from hub.engine.sending import Result
from hub.sdk.errors import HubError
from hub.sdk.records import Outcome, Receipt, Safety
from hub.sdk.sinks import SinkWriter
from hub.store import deliveries, ledger
from hub.store.dead_letters import DeadLetter, DeadLetterKind, put_dead_letters
from hub.store.deliveries import Intent
from hub.store.runs import add_counts, finish_delivered

if TYPE_CHECKING:
    from hub.engine.hub import Hub

MAX_ATTEMPTS = 12
"""Tries before a delivery becomes a dead letter: about 40 minutes with the waits below."""

FIRST_WAIT = 2.0
LONGEST_WAIT = 300.0


def settle(hub: Hub, sink_ref: str, sink: SinkWriter, results: Sequence[Result]) -> None:
    """Record every outcome of one round in one transaction."""
    now = hub.now_ms()
    by_outcome: dict[Outcome, list[Result]] = {outcome: [] for outcome in Outcome}
    with hub.store.transaction() as connection:
        for intent, receipt in _still_ours(connection, sink_ref, results):
            by_outcome[receipt.outcome].append((intent, receipt))
        counts = RunCounts()
        _confirm(connection, sink_ref, by_outcome[Outcome.WRITTEN], counts)
        _refuse(connection, sink_ref, by_outcome[Outcome.REJECTED], counts, now)
        _retry(connection, sink_ref, by_outcome[Outcome.RETRY], counts, now)
        _doubt(connection, sink_ref, sink, by_outcome[Outcome.UNKNOWN], counts, now)
        counts.write(connection, now)


def _still_ours(connection: Connection, sink_ref: str, results: Sequence[Result]) -> list[Result]:
    """Without what another job settled or took over while we were taken for dead."""
    deliveries.lock_sink(connection, sink_ref)
    ours = deliveries.still_open(connection, [intent for intent, _ in results])
    keys = {intent.target_key for intent in ours}
    return [one for one in results if one[0].target_key in keys]


class RunCounts:
    """Counts per run, written at the end of a settlement."""

    def __init__(self) -> None:
        self._by_run: dict[int, Counter[str]] = {}

    def add(self, intent: Intent, name: str) -> None:
        counts = self._by_run.setdefault(intent.run_id, Counter())
        counts[name] += 1
        counts["pending"] -= 1

    def write(self, connection: Connection, now_ms: int) -> None:
        for run_id, counts in self._by_run.items():
            add_counts(connection, run_id, counts)
            finish_delivered(connection, run_id, now_ms)


def _confirm(
    connection: Connection, sink_ref: str, results: Sequence[Result], counts: RunCounts
) -> None:
    if not results:
        return
    ledger.confirm_links(
        connection,
        [
            {
                "flow_id": intent.flow_id,
                "source_key": intent.source_key,
                "revision": intent.revision,
                "target_id": receipt.target_id,
            }
            for intent, receipt in results
        ],
    )
    deliveries.close_intents(connection, sink_ref, [intent.target_key for intent, _ in results])
    for intent, _ in results:
        counts.add(intent, "written")


def _refuse(
    connection: Connection,
    sink_ref: str,
    results: Sequence[Result],
    counts: RunCounts,
    now_ms: int,
    code: str = "delivery.refused",
) -> None:
    """The target (or our patience) said no: dead letters, the links keep what was tried."""
    if not results:
        return
    ledger.refuse_links(
        connection,
        [
            {
                "flow_id": intent.flow_id,
                "source_key": intent.source_key,
                "revision": intent.revision,
            }
            for intent, _ in results
        ],
    )
    letters = [letter(intent, receipt, code) for intent, receipt in results]
    put_dead_letters(connection, letters, now_ms)
    deliveries.close_intents(connection, sink_ref, [intent.target_key for intent, _ in results])
    for intent, _ in results:
        counts.add(intent, "refused")


def _retry(
    connection: Connection,
    sink_ref: str,
    results: Sequence[Result],
    counts: RunCounts,
    now_ms: int,
) -> None:
    spent = [result for result in results if result[0].attempts + 1 >= MAX_ATTEMPTS]
    _refuse(connection, sink_ref, spent, counts, now_ms, "delivery.gave_up")
    left = [result for result in results if result[0].attempts + 1 < MAX_ATTEMPTS]
    for intent, receipt in left:
        wait = max(backoff(intent.attempts), receipt.retry_after or 0.0)
        due = now_ms + int(wait * 1000)
        if deliveries.give_back(connection, [intent], due, receipt.reason or ""):
            counts.add(intent, "coalesced")


def _doubt(
    connection: Connection,
    sink_ref: str,
    sink: SinkWriter,
    results: Sequence[Result],
    counts: RunCounts,
    now_ms: int,
) -> None:
    repeatable = sink.safety is not Safety.LOOK_UP
    spent = [one for one in results if repeatable and one[0].attempts + 1 >= MAX_ATTEMPTS]
    _refuse(connection, sink_ref, spent, counts, now_ms, "delivery.gave_up")
    for intent, receipt in results:
        if (intent, receipt) in spent:
            continue
        wait = backoff(intent.attempts) if repeatable else sink.visibility_lag
        due = now_ms + int(wait * 1000)
        deliveries.doubt(connection, intent, due, receipt.reason or "", looked=False)


def letter(
    intent: Intent,
    receipt: Receipt,
    code: str,
    kind: DeadLetterKind = DeadLetterKind.DELIVERY,
) -> DeadLetter:
    """The dead letter of a write that ended badly."""
    params = {
        "sink": intent.sink_ref,
        "reason": receipt.reason or receipt.code or "no reason given",
        "attempts": intent.attempts + 1,
    }
    problem = {
        "field": None,
        "value": intent.target_key,
        "code": code,
        "message": HubError(code, **params).message("en"),
    }
    return DeadLetter(
        kind=kind,
        flow_id=intent.flow_id,
        run_id=intent.run_id,
        source_key=intent.source_key,
        target_key=intent.target_key,
        problems=[problem],
        payload=intent.payload_text,
        attempts=intent.attempts + 1,
        vendor_code=receipt.code[:120] if receipt.code else None,
    )


def backoff(attempts: int) -> float:
    """Seconds before the next try: doubling from two seconds to five minutes, with jitter."""
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempts, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, keeps no secret)
