"""Open intents: writes that a crash or a lost answer left in doubt are brought to an end first.

`upsert` and `idempotency_key` sinks get the same bytes again, and so does a target whose id we
know; a `look_up` sink is asked for our key and what it has is adopted; where nothing can tell, a
person decides and nothing is sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.engine.settlement import RunCounts, ask_a_person, backoff, settle
from hub.sdk.errors import AuthError, ConfigError, HubError, OutcomeUnknown, TransientError
from hub.sdk.records import Outcome, Receipt
from hub.sdk.sinks import SinkWriter
from hub.store import deliveries
from hub.store.deliveries import Intent, IntentState
from hub.store.rows import plain_text

if TYPE_CHECKING:
    from hub.engine.hub import Hub


def look_up(hub: Hub, sink_ref: str, sink: SinkWriter, intent: Intent, longest: float) -> bool:
    """Ask the target for our key: adopt what is there, send again only after two clear misses.

    `longest` is how long a call may take: what somebody died at may still be under way there.
    False when the target does not answer.
    """
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
        wait = error.retry_after if isinstance(error, TransientError) else None
        due = now + int((backoff(intent.attempts) if wait is None else wait) * 1000)
        _look_later(hub, intent, due, str(error))
        return False
    except (AuthError, ConfigError):
        raise  # the operator's turn; the target may answer afterwards
    except HubError as error:
        _ask_a_person(hub, intent, str(error))
        return True
    if found is not None:
        receipt = Receipt(intent.target_key, Outcome.WRITTEN, target_id=plain_text(found))
        with hub.store.transaction() as connection:
            settle(connection, hub, sink_ref, sink, [(intent, receipt)])
    elif intent.lookups == 0:
        died = intent.state == IntentState.SENT
        ended = intent.sent_at + int(longest * 1000) if died else now
        _look_later(hub, intent, max(now, ended) + lag_ms, "not found yet", lookups=1)
    else:
        _wish_again(hub, intent)
    return True


def _look_later(hub: Hub, intent: Intent, due_ms: int, reason: str, *, lookups: int = 0) -> None:
    with hub.store.transaction() as connection:
        deliveries.lock_sink(connection, intent.sink_ref)
        left = deliveries.still_open(connection, [intent])
        deliveries.doubt(connection, left, due_ms, reason, lookups=lookups)


def _wish_again(hub: Hub, intent: Intent) -> None:
    """Looked up twice and not there: the write never landed."""
    now, counts = hub.now_ms(), RunCounts()
    with hub.store.transaction() as connection:
        deliveries.lock_sink(connection, intent.sink_ref)
        left = deliveries.still_open(connection, [intent])
        reason = "looked up twice, not there"
        for one in deliveries.give_back(connection, left, now, reason, attempts=1):
            counts.add(one, "coalesced")
        counts.write(connection, now)


def _ask_a_person(hub: Hub, intent: Intent, reason: str = "") -> None:
    """Nothing can tell whether the write landed: open a review case, never send blindly."""
    counts = RunCounts()
    receipt = Receipt(intent.target_key, Outcome.UNKNOWN, reason=reason)
    with hub.store.transaction() as connection:
        deliveries.lock_sink(connection, intent.sink_ref)
        left = deliveries.still_open(connection, [intent])
        ask_a_person(connection, [(one, receipt) for one in left], counts, hub.now_ms())
        counts.write(connection, hub.now_ms())
