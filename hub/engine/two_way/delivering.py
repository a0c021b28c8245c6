"""One write of a two-way flow: look at both sides, merge, write what is new, read it back.

A wish only says that a pair needs a look. What is written follows from how both sides stand now
and how they stood when they last agreed, so a wish that is late, sent twice or overtaken does no
harm, and the echo of our own write finds nothing to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hub.engine.two_way.looking import (
    Look,
    is_free,
    look_at,
    made_from,
    mapped,
    paired_key,
    sides_of,
    source_writer,
)
from hub.engine.two_way.merge import Sides
from hub.engine.two_way.pairs import Direction, direction_in
from hub.engine.two_way.planning import WRITES, Plan, Step, plan_removal, plan_write
from hub.engine.wakes import wake_sink
from hub.sdk.errors import (
    AuthError,
    ConfigError,
    HubError,
    LostRace,
    RecordRejected,
    TransientError,
)
from hub.sdk.records import Op, Outcome, Receipt, Row, Write
from hub.sdk.sinks import SinkWriter
from hub.store import agreements, ledger
from hub.store.agreements import Holder
from hub.store.crash import crash_point
from hub.store.deliveries import NO_RUN, Intent, lock_sink, put_deliveries
from hub.store.rows import encode_exact, encode_json
from hub.store.runs import add_counts, finish_delivered

if TYPE_CHECKING:
    from hub.engine.hub import Hub

DETAILS = "two_way"
"""Where a receipt carries the `Settled` of its write."""

_NOT_WRITTEN = (TransientError, AuthError, ConfigError, RecordRejected, LostRace)
"""After anything else the target may have done it: the pair waits for the next try."""

_SOON = 4.0
"""Seconds until a busy pair is tried again: longer than a delivery job waits for anything."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement notes: the look, what it led to, and the target's row afterwards.

    `partner_target` is the key under which the partner would write that row.
    """

    look: Look
    plan: Plan
    after: Row | None
    partner_target: str | None


def settled_of(receipt: Receipt) -> Settled | None:
    """What a write of a two-way flow has to note; None for any other."""
    found = receipt.details.get(DETAILS)
    return found if isinstance(found, Settled) else None


def pair_of(hub: Hub, flow_id: str) -> Direction | None:
    """The direction of a flow that goes both ways; None for any other.

    Raises ConfigError when the flow went both ways and its file, or its partner's, is broken or
    gone. What a one-way flow still has to send goes out without its file.
    """
    try:
        flow = hub.catalogue.flow(flow_id)
    except ConfigError:
        with hub.store.reading() as connection:
            if agreements.has_agreements(connection, flow_id):
                raise
        return None
    return direction_in(hub, flow)


def send_both_ways(
    hub: Hub,
    sink: SinkWriter,
    confirm: Callable[[], None],
    direction: Direction,
    intent: Intent,
) -> Receipt:
    """Look, merge, write and read back one record. Raises what the calls raise."""
    me = Holder(intent.flow_id, intent.source_key, intent.revision, intent.run_id)
    other = paired_key(hub, direction, intent.source_key)
    if not _take(hub, direction, me, other):
        return _busy(intent)
    try:
        receipt = _with_the_pair(hub, sink, confirm, direction, intent, me, other)
    except _NOT_WRITTEN:
        _leave(hub, me)
        raise
    if receipt.outcome not in (Outcome.WRITTEN, Outcome.UNKNOWN):
        _leave(hub, me)
    return receipt


def _with_the_pair(
    hub: Hub,
    sink: SinkWriter,
    confirm: Callable[[], None],
    direction: Direction,
    intent: Intent,
    me: Holder,
    other: str | None,
) -> Receipt:
    source = source_writer(hub, direction).show(intent.source_key)
    if other is None:
        other = made_from(hub, direction, source)
        if other is None and sink.can_find and intent.op == Op.UPSERT:
            other = sink.find(intent.target_key)
        if other is not None and not is_free(hub, direction, intent.source_key, other):
            other = None
        if other is not None and not _take(hub, direction, me, other):
            return _busy(intent)
    target = None if other is None else sink.show(other)
    look = look_at(hub, direction, intent.source_key, other, source, target, intent)
    crash_point("two_way.looked")
    sides = _sides(hub, look, intent)
    now = hub.clock.now()
    if intent.op == Op.UPSERT:
        again = intent.attempts > 0 or intent.error_text is not None
        plan = plan_write(look, sides, sink.sink, now, maybe_landed=again)
    else:
        plan = plan_removal(look, sides or sides_of(hub, look, {}), now)
    if plan.step not in WRITES:
        return _noted(hub, Receipt(intent.target_key, Outcome.WRITTEN, other), look, plan, target)
    return _write(hub, sink, confirm, look, plan, intent)


def _sides(hub: Hub, look: Look, intent: Intent) -> Sides | None:
    if look.source is None or intent.op != Op.UPSERT:
        return None
    document = mapped(hub, look.direction, look.source)
    return None if document is None else sides_of(hub, look, document)


def _write(
    hub: Hub,
    sink: SinkWriter,
    confirm: Callable[[], None],
    look: Look,
    plan: Plan,
    intent: Intent,
) -> Receipt:
    target_id = None if plan.step is Step.CREATE else look.other_key
    key = intent.idempotency_key
    if plan.step in (Step.UPDATE, Step.REVIVE):
        # Another key for other content: the target's row is part of it, so that the same values
        # written for a second time are a write of their own, and a repeated try is not.
        said = encode_json([plan.data]) + encode_exact(look.target)
        key = f"{key[:40]}-{hashlib.sha256(said).hexdigest()[:16]}"
    op = Op(intent.op)
    write = Write(intent.target_key, plan.data, op, key, target_id)
    before = look.mine.sent
    sent = {name: [*before.get(name, ()), plan.data.get(name)] for name in plan.merge.changed}
    with hub.store.transaction() as connection:
        put = agreements.put_agreement
        put(connection, intent.flow_id, intent.source_key, notes={"sent": {**before, **sent}})
    receipt = sink.checked(confirm).write([write])[0]
    if receipt.outcome is not Outcome.WRITTEN:
        return receipt
    crash_point("two_way.written")
    made = receipt.target_id or target_id
    try:
        after = None if made is None or op is Op.DELETE else sink.show(made)
    except HubError as error:
        # It landed: the next look finds it there and notes how the target kept it.
        return Receipt(intent.target_key, Outcome.UNKNOWN, code=error.code, reason=str(error))
    receipt = Receipt(intent.target_key, Outcome.WRITTEN, made)
    return _noted(hub, receipt, look, plan, after)


def _noted(hub: Hub, receipt: Receipt, look: Look, plan: Plan, after: Row | None) -> Receipt:
    """The receipt with what its settlement notes."""
    key = None
    if after is not None and plan.agrees and receipt.target_id is not None:
        partner = direction_in(hub, look.direction.partner)
        assert partner is not None  # noqa: S101 (checked together with this one)
        document = mapped(hub, partner, after)
        key = partner.flow.mapping.apply(after, {}).key
        if document is not None and key is not None and plan.needs_partner:
            _wish_back(hub, partner, receipt.target_id, key, document)
    settled = Settled(look, plan, after, key)
    return Receipt(receipt.key, receipt.outcome, receipt.target_id, details={DETAILS: settled})


def _wish_back(
    hub: Hub, direction: Direction, source_key: str, key: str, document: Mapping[str, Any]
) -> None:
    """Let the other direction look at the pair too, although nothing it reads was edited."""
    ref, now = direction.flow.target.ref, hub.now_ms()
    with hub.store.transaction() as connection:
        lock_sink(connection, ref)
        link = ledger.links_of(connection, direction.flow.id, [source_key]).get(source_key)
        wish = {
            "target_key": key if link is None or link.target_key is None else link.target_key,
            "flow_id": direction.flow.id,
            "source_key": source_key,
            "run_id": NO_RUN,
            "op": Op.UPSERT.value,
            "revision": 1 if link is None else link.revision,
            "payload_text": encode_json(document).decode(),
        }
        for run_id, number in put_deliveries(connection, ref, [wish], now).items():
            add_counts(connection, run_id, {"pending": -number, "coalesced": number})
            finish_delivered(connection, run_id, now)
        wake_sink(hub, connection, ref)


def _take(hub: Hub, direction: Direction, me: Holder, other: str | None) -> bool:
    ref = direction.leader.target.ref
    with hub.store.transaction() as connection:
        return agreements.take_pair(connection, ref, me, direction.partner.id, other)


def _leave(hub: Hub, me: Holder) -> None:
    with hub.store.transaction() as connection:
        agreements.leave_pair(connection, me)


def _busy(intent: Intent) -> Receipt:
    reason = str(ConfigError("two_way.busy", record=intent.source_key))
    return Receipt(
        intent.target_key,
        Outcome.RETRY,
        code="two_way.busy",
        reason=reason,
        retry_after=_SOON,
        tried=False,
    )
