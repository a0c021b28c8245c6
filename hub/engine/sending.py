"""One call to a target: every record of it gets a receipt, whatever happens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from hub.engine.two_way.delivering import pair_of, send_both_ways
from hub.engine.two_way.pairs import Direction
from hub.sdk.errors import (
    AuthError,
    ConfigError,
    HubError,
    LostRace,
    RecordRejected,
    TransientError,
)
from hub.sdk.records import Op, Outcome, Receipt, Write
from hub.sdk.sinks import SinkWriter
from hub.store import deliveries
from hub.store.deliveries import Intent
from hub.store.rows import decode_json, plain_text

if TYPE_CHECKING:
    from hub.engine.hub import Hub

OPERATOR_WAIT = 300.0
"""Seconds until a wrong setting is tried again: somebody must correct it."""

_UNFILLED = ("http.empty_name", "http.unknown_name")
_BELIEVED = 2.0
"""Seconds for which a claim counts as ours without another look: much less than it takes others
to think that we are dead."""

log = logging.getLogger("hub.engine.delivery")

Result = tuple[Intent, Receipt]


class Sent(NamedTuple):
    """One call: what became of each record, and for how many seconds no other call is of use."""

    results: list[Result]
    hold: float = 0.0


def send(hub: Hub, sink: SinkWriter, intents: Sequence[Intent], claimed_at: float) -> Sent:
    """One call to the target; an error of the whole call becomes the receipt of each record.

    `claimed_at` is the monotonic time before the claim. A process that was asleep since then, or
    that had to wait for its turn, asks the store again before the first byte: what others took
    over meanwhile is not sent.
    """
    pairs, broken = _pairs(hub, {one.flow_id for one in intents})
    parts = [
        _send_pair(hub, sink, one, claimed_at, pairs[one.flow_id])
        for one in intents
        if one.flow_id in pairs
    ]
    if broken:
        waiting = [one for one in intents if one.flow_id in broken]
        parts.append(Sent([(one, broken[one.flow_id]) for one in waiting]))
    rest = [one for one in intents if one.flow_id not in pairs and one.flow_id not in broken]
    if not parts:
        return _send_together(hub, sink, rest, claimed_at)
    if rest:
        parts.append(_send_together(hub, sink, rest, claimed_at))
    return Sent([one for part in parts for one in part.results], max(part.hold for part in parts))


def _pairs(hub: Hub, flow_ids: set[str]) -> tuple[dict[str, Direction], dict[str, Receipt]]:
    """Those of the flows that go both ways, and what holds up those that cannot any more."""
    pairs: dict[str, Direction] = {}
    broken: dict[str, Receipt] = {}
    for flow_id in flow_ids:
        try:
            pair = pair_of(hub, flow_id)
        except HubError as error:
            broken[flow_id] = _storable(_receipt_of(error))
            continue
        if pair is not None:
            pairs[flow_id] = pair
    return pairs, broken


def _send_pair(
    hub: Hub, sink: SinkWriter, intent: Intent, claimed_at: float, direction: Direction
) -> Sent:
    """One record of a two-way flow, which is looked at before it is written."""

    def attempt(claim: _Claim) -> list[Receipt]:
        return [send_both_ways(hub, sink, claim.confirm, direction, intent)]

    return _attempt(hub, sink, [intent], claimed_at, attempt)


def _send_together(
    hub: Hub, sink: SinkWriter, intents: Sequence[Intent], claimed_at: float
) -> Sent:
    writes = [
        Write(
            key=one.target_key,
            data=decode_json(one.payload_text),
            op=Op(one.op),
            idempotency_key=one.idempotency_key,
            target_id=one.target_id,
        )
        for one in intents
    ]

    def attempt(claim: _Claim) -> list[Receipt]:
        return sink.checked(claim.confirm).write(writes)

    return _attempt(hub, sink, intents, claimed_at, attempt)


def _attempt(
    hub: Hub,
    sink: SinkWriter,
    intents: Sequence[Intent],
    claimed_at: float,
    attempt: Callable[[_Claim], list[Receipt]],
) -> Sent:
    claim = _Claim(hub, intents, claimed_at)
    try:
        receipts = attempt(claim)
        pairs = zip(claim.intents, map(_storable, receipts), strict=True)
        return Sent([(one, _never_there(one, receipt)) for one, receipt in pairs])
    except LostRace:
        log.info("%s: another worker went on with %d writes", sink.name, len(intents))
        return Sent([])
    except HubError as error:
        receipt = _storable(_receipt_of(error))
        return Sent([(one, receipt) for one in claim.intents], _hold(error))
    except sa.exc.OperationalError:
        raise  # the store is away, not the target: the next job settles what is open
    except Exception as error:
        if hub.stopping:  # closed sockets; the next process settles what is open
            raise
        log.exception("%s: the connector's own code failed", sink.name)
        reason = repr(error)[:500]
    receipt = Receipt("", Outcome.UNKNOWN, code="delivery.internal", reason=reason)
    return Sent([(one, receipt) for one in claim.intents])


class _Claim:
    """The intents of one call, and since when they are known to be ours."""

    def __init__(self, hub: Hub, intents: Sequence[Intent], claimed_at: float) -> None:
        self.intents = list(intents)
        self._hub = hub
        self._known_at = claimed_at

    def confirm(self) -> None:
        """Raises LostRace when any of them is no longer ours."""
        now = self._hub.clock.monotonic()
        if now - self._known_at <= _BELIEVED:
            return
        sink_ref = self.intents[0].sink_ref
        with self._hub.store.transaction() as connection:
            deliveries.lock_sink(connection, sink_ref)
            mine = deliveries.still_mine(connection, self.intents, self._hub.now_ms())
            if len(mine) != len(self.intents):
                raise LostRace("delivery.lost_race", sink=sink_ref)
        self.intents, self._known_at = mine, now


def _hold(error: HubError) -> float:
    if isinstance(error, ConfigError):
        return OPERATOR_WAIT
    if isinstance(error, TransientError):
        return error.retry_after or 0.0
    return 0.0


def _never_there(intent: Intent, receipt: Receipt) -> Receipt:
    """Removing what the target never gave an id, because it never took it, has had its effect."""
    nameless = intent.op != Op.UPSERT and intent.target_id is None
    if nameless and receipt.outcome is Outcome.REJECTED and receipt.code in _UNFILLED:
        return Receipt(receipt.key, Outcome.WRITTEN)
    return receipt


def _storable(receipt: Receipt) -> Receipt:
    """The receipt in text that every database takes."""
    return replace(
        receipt,
        target_id=receipt.target_id and plain_text(receipt.target_id),
        code=receipt.code and plain_text(receipt.code),
        reason=receipt.reason and plain_text(receipt.reason),
    )


def _receipt_of(error: HubError) -> Receipt:
    code = str(error.params.get("vendor_code") or error.code)
    if isinstance(error, RecordRejected):
        return Receipt("", Outcome.REJECTED, code=code, reason=str(error))
    if isinstance(error, TransientError | ConfigError | AuthError):
        wait = _hold(error) or None
        return Receipt(
            "", Outcome.RETRY, code=code, reason=str(error), retry_after=wait, tried=False
        )
    # OutcomeUnknown, and an answer in a shape we do not know: the target may have done it.
    return Receipt("", Outcome.UNKNOWN, code=code, reason=str(error))
