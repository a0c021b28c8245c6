"""Open intents: writes that a crash or a lost answer left in doubt are brought to an end first.

`upsert` and `idempotency_key` sinks get the same bytes again; a `look_up` sink is asked for our key
and what it has is adopted; where nothing can tell, a person decides and nothing is sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hub.engine.sending import Result, send
from hub.engine.settlement import RunCounts, backoff, letter, settle
from hub.sdk.errors import AuthError, ConfigError, HubError, OutcomeUnknown, TransientError
from hub.sdk.records import Outcome, Receipt, Safety
from hub.sdk.sinks import SinkWriter
from hub.store import deliveries
from hub.store.dead_letters import DeadLetterKind, put_dead_letters
from hub.store.deliveries import Intent
from hub.store.rows import plain_text

if TYPE_CHECKING:
    from hub.engine.hub import Hub

_DOUBT_BATCH = 500


def settle_doubts(hub: Hub, sink_ref: str, sink: SinkWriter, owner: str) -> bool:
    """Bring every open intent of this sink to an end; False when the target does not answer."""
    while not hub.stopping:
        with hub.store.reading() as connection:
            open_ones = deliveries.open_intents(
                connection, sink_ref, owner, hub.now_ms(), _DOUBT_BATCH
            )
        if not open_ones:
            return True
        if sink.safety is Safety.LOOK_UP:
            going = all(_look_up(hub, sink_ref, sink, one) for one in open_ones)
        else:
            going = _send_again(hub, sink_ref, sink, open_ones, owner)
        if not going:
            return False
    return False


def _send_again(
    hub: Hub, sink_ref: str, sink: SinkWriter, intents: Sequence[Intent], owner: str
) -> bool:
    """The same bytes under the same key once more: harmless by the sink's own promise."""
    with hub.store.transaction() as connection:
        deliveries.lock_sink(connection, sink_ref)
        left = deliveries.still_open(connection, intents)
        intents = deliveries.take_over(connection, left, owner, hub.now_ms())
    results: list[Result] = []
    for start in range(0, len(intents), sink.batch):
        results += send(hub, sink, intents[start : start + sink.batch])
    settle(hub, sink_ref, sink, results)
    return all(receipt.outcome is not Outcome.RETRY for _, receipt in results)


def _look_up(hub: Hub, sink_ref: str, sink: SinkWriter, intent: Intent) -> bool:
    """Ask the target for our key: adopt what is there, send again only after two clear misses."""
    now, lag_ms = hub.now_ms(), int(sink.visibility_lag * 1000)
    if not sink.can_find:
        _ask_a_person(hub, intent)
        return True
    if now < intent.sent_at + lag_ms:
        _look_later(hub, intent, intent.sent_at + lag_ms, intent.error_text or "interrupted")
        return True
    try:
        found = sink.find(intent.target_key)
    except (TransientError, OutcomeUnknown) as error:
        _look_later(hub, intent, now + int(backoff(intent.attempts) * 1000), str(error))
        return False
    except (AuthError, ConfigError):
        raise  # the operator's turn; the target may answer afterwards
    except HubError as error:
        _ask_a_person(hub, intent, str(error))
        return True
    if found is not None:
        receipt = Receipt(intent.target_key, Outcome.WRITTEN, target_id=plain_text(found))
        settle(hub, sink_ref, sink, [(intent, receipt)])
    elif intent.lookups == 0:
        _look_later(hub, intent, now + lag_ms, "not found yet", looked=True)
    else:
        _wish_again(hub, intent)
    return True


def _look_later(
    hub: Hub, intent: Intent, due_ms: int, reason: str, *, looked: bool = False
) -> None:
    with hub.store.transaction() as connection:
        deliveries.lock_sink(connection, intent.sink_ref)
        for one in deliveries.still_open(connection, [intent]):
            deliveries.doubt(connection, one, due_ms, reason, looked=looked)


def _wish_again(hub: Hub, intent: Intent) -> None:
    """Looked up twice and not there: the write never landed."""
    now, counts = hub.now_ms(), RunCounts()
    with hub.store.transaction() as connection:
        deliveries.lock_sink(connection, intent.sink_ref)
        left = deliveries.still_open(connection, [intent])
        if deliveries.give_back(connection, left, now, "looked up twice, not there"):
            counts.add(intent, "coalesced")
        counts.write(connection, now)


def _ask_a_person(hub: Hub, intent: Intent, reason: str = "") -> None:
    """Nothing can tell whether the write landed: open a review case, never send blindly."""
    now, counts = hub.now_ms(), RunCounts()
    receipt = Receipt(intent.target_key, Outcome.UNKNOWN, reason=reason)
    with hub.store.transaction() as connection:
        deliveries.lock_sink(connection, intent.sink_ref)
        for one in deliveries.still_open(connection, [intent]):
            deliveries.put_aside(connection, one, reason or "no look-up")
            case = letter(one, receipt, "delivery.no_look_up", DeadLetterKind.REVIEW)
            put_dead_letters(connection, [case], now)
            counts.add(one, "refused")
        counts.write(connection, now)
