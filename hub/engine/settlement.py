"""Settling outcomes: links, dead letters and counts of one round in one transaction."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from hub.engine.letters import write_letter
from hub.engine.references import sink_items_arrived
from hub.engine.sending import Result
from hub.engine.two_way import settling as two_way
from hub.sdk.records import Op, Outcome, Safety
from hub.sdk.sinks import SinkWriter
from hub.store import deliveries, ledger
from hub.store.dead_letters import DeadLetterKind, put_dead_letters, settle_replayed
from hub.store.deliveries import NO_RUN, Intent, IntentState
from hub.store.runs import add_counts, finish_delivered

if TYPE_CHECKING:
    from hub.engine.hub import Hub

MAX_ATTEMPTS = 12
"""Tries before a delivery becomes a dead letter: about 40 minutes with the waits below.

What counts is a try at a target that otherwise works: neither calls that were not made or were
turned away as a whole, nor the probes of a target that is down, unless it is down for a day.
"""

DOWN_FOR_GOOD_MS = 86_400_000
"""From when on the tries at a target that is down count as well."""

FIRST_WAIT = 2.0
LONGEST_WAIT = 300.0


def settle(
    connection: Connection,
    hub: Hub,
    sink_ref: str,
    sink: SinkWriter,
    results: Sequence[Result],
    *,
    counted: bool = True,
) -> None:
    """Record every outcome of some calls, in the caller's transaction.

    Unless `counted`, a lost answer says nothing about the record, only that the target is down.
    """
    now = hub.now_ms()
    by_outcome: dict[Outcome, list[Result]] = {outcome: [] for outcome in Outcome}
    for intent, receipt in _still_ours(connection, sink_ref, results):
        by_outcome[receipt.outcome].append((intent, receipt))
    counts = RunCounts()
    written = by_outcome[Outcome.WRITTEN]
    asking = [one for one in written if two_way.waits_for_a_person(one[1])]
    done = [one for one in written if not two_way.waits_for_a_person(one[1])]
    two_way.settle_pairs(connection, written)
    _confirm(hub, connection, sink_ref, done, counts, now)
    _ask(hub, connection, sink_ref, asking, counts, now)
    _refuse(connection, sink_ref, by_outcome[Outcome.REJECTED], counts, now)
    _retry(connection, sink_ref, by_outcome[Outcome.RETRY], counts, now)
    unknown = by_outcome[Outcome.UNKNOWN]
    _doubt(connection, sink_ref, sink, unknown, counts, now, counted=counted)
    counts.write(connection, now)
    two_way.audit_conflicts(hub, connection, written, now)


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
    hub: Hub,
    connection: Connection,
    sink_ref: str,
    results: Sequence[Result],
    counts: RunCounts,
    now_ms: int,
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
    deleted = [intent for intent, receipt in results if two_way.was_removed(intent, receipt)]
    ledger.forget_deleted(
        connection, [{"flow_id": one.flow_id, "source_key": one.source_key} for one in deleted]
    )
    deliveries.close_intents(connection, sink_ref, [intent.target_key for intent, _ in results])
    replayed = [(one.flow_id, one.source_key) for one, _ in results if one.run_id == NO_RUN]
    settle_replayed(connection, replayed, now_ms)
    named = [intent.source_key for intent, receipt in results if receipt.target_id is not None]
    sink_items_arrived(hub, connection, sink_ref, named)
    for intent, receipt in results:
        counts.add(intent, two_way.fate_of(receipt))


def _ask(
    hub: Hub,
    connection: Connection,
    sink_ref: str,
    results: Sequence[Result],
    counts: RunCounts,
    now_ms: int,
) -> None:
    """A pair of records waits for a person: a letter says for what."""
    _mark_refused(connection, [intent for intent, _ in results])
    letters = [two_way.letter_for(hub, intent, receipt) for intent, receipt in results]
    put_dead_letters(connection, letters, now_ms)
    deliveries.close_intents(connection, sink_ref, [intent.target_key for intent, _ in results])
    for intent, _ in results:
        counts.add(intent, "refused")


def _mark_refused(connection: Connection, intents: Sequence[Intent]) -> None:
    ledger.refuse_links(
        connection,
        [
            {"flow_id": one.flow_id, "source_key": one.source_key, "revision": one.revision}
            for one in intents
        ],
    )


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
    intents = [intent for intent, _ in results]
    overtaken = ledger.overtaken(
        connection, [(one.flow_id, one.source_key, one.revision) for one in intents]
    )
    _mark_refused(connection, intents)
    letters = [
        write_letter(
            intent,
            receipt,
            code,
            DeadLetterKind.DELIVERY,
            overtaken=(intent.flow_id, intent.source_key) in overtaken,
        )
        for intent, receipt in results
    ]
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
    """Nothing was written by this try: wish again later, or give up."""
    spent = [one for one in results if one[1].tried and _spent(one[0])]
    _refuse(connection, sink_ref, spent, counts, now_ms, "delivery.gave_up")
    alike: dict[tuple[int, bool, float | None, str], list[Intent]] = {}
    for intent, receipt in results:
        if not (receipt.tried and _spent(intent)):
            how = (intent.attempts, receipt.tried, receipt.retry_after, receipt.reason or "")
            alike.setdefault(how, []).append(intent)
    for (attempts, tried, retry_after, reason), intents in alike.items():
        wait = backoff(attempts) if retry_after is None else retry_after
        due = now_ms + int(wait * 1000)
        # What may have landed before stays in doubt: as a wish, a newer version would replace it
        # and be created beside it.
        doubtful = [one for one in intents if one.state == IntentState.AGAIN]
        deliveries.doubt(connection, doubtful, due, reason, attempts=int(tried))
        intents = [one for one in intents if one.state != IntentState.AGAIN]
        for one in deliveries.give_back(connection, intents, due, reason, attempts=int(tried)):
            counts.add(one, "coalesced")


def _doubt(
    connection: Connection,
    sink_ref: str,
    sink: SinkWriter,
    results: Sequence[Result],
    counts: RunCounts,
    now_ms: int,
    *,
    counted: bool,
) -> None:
    """Nobody knows what was written: send the same again later, or look it up; or give up."""

    def gives_up(one: Intent) -> bool:
        return counted and _spent(one) and sink.repeatable(one.op, one.target_id)

    spent = [result for result in results if gives_up(result[0])]
    made = [result for result in spent if _made_by_key(sink, result[0])]
    ask_a_person(connection, made, counts, now_ms, "delivery.unanswered")
    rest = [result for result in spent if not _made_by_key(sink, result[0])]
    _refuse(connection, sink_ref, rest, counts, now_ms, "delivery.gave_up")
    alike: dict[tuple[int, str, bool], list[Intent]] = {}
    for intent, receipt in results:
        if not gives_up(intent):
            repeatable = sink.repeatable(intent.op, intent.target_id)
            kind = (intent.attempts, receipt.reason or "", repeatable)
            alike.setdefault(kind, []).append(intent)
    for (attempts, reason, repeatable), intents in alike.items():
        wait = backoff(attempts) if repeatable else sink.visibility_lag
        due = now_ms + int(wait * 1000)
        deliveries.doubt(connection, intents, due, reason, attempts=int(counted))


def ask_a_person(
    connection: Connection,
    results: Sequence[Result],
    counts: RunCounts,
    now_ms: int,
    code: str = "delivery.no_look_up",
) -> None:
    """Nothing can tell whether the writes landed: open review cases, never send blindly."""
    for one, receipt in results:
        deliveries.put_aside(connection, one, receipt.reason or code)
        case = write_letter(one, receipt, code, DeadLetterKind.REVIEW)
        put_dead_letters(connection, [case], now_ms)
        counts.add(one, "refused")


def _made_by_key(sink: SinkWriter, intent: Intent) -> bool:
    """A creation that only its own key makes safe: the next version would be a second one."""
    creates = intent.op == Op.UPSERT and intent.target_id is None
    return creates and sink.safety is Safety.IDEMPOTENCY_KEY


def _spent(intent: Intent) -> bool:
    return intent.attempts + 1 >= MAX_ATTEMPTS


def backoff(attempts: int) -> float:
    """Seconds before the next try: doubling from two seconds to five minutes, with jitter."""
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempts, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, keeps no secret)
