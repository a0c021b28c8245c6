"""A write's way to the target, with exactly one effect per version.

    claim    the delivery becomes an intent, committed before the first network byte
    send     one call, a receipt for every record (sending.py)
    settle   links, dead letters and counts in one transaction (settlement.py)

What a crash or a lost answer leaves open is brought to an end first (doubts.py).
"""

from __future__ import annotations

import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from hub.engine.crash import crash_point
from hub.engine.doubts import settle_doubts
from hub.engine.sending import OPERATOR_WAIT, send
from hub.engine.settlement import settle
from hub.engine.wakes import wake_later
from hub.sdk.errors import AuthError, ConfigError
from hub.sdk.records import Outcome, Safety
from hub.sdk.sinks import SinkWriter
from hub.store import deliveries
from hub.store.runs import add_counts, finish_delivered

if TYPE_CHECKING:
    from hub.engine.hub import Hub

_SINGLE_CLAIM = 64

log = logging.getLogger("hub.engine.delivery")


def drain_sink(hub: Hub, sink_ref: str) -> None:
    """The delivery job of one sink: send what is due, then ask to be woken for the rest.

    Each job signs its intents with a name of its own: what an earlier job left behind is settled
    first, also one of this process that ended in an error.
    """
    owner = uuid.uuid4().hex
    with hub.store.transaction() as connection:
        deliveries.take_drain(connection, sink_ref)
    connection_name, sink_name = sink_ref.split("/", 1)
    try:
        session = hub.session(connection_name)
        sink = session.sink(sink_name)
        workers = session.connection.manifest.limits.concurrent
        with ThreadPoolExecutor(workers, thread_name_prefix="hub-delivery") as pool:
            going = settle_doubts(hub, sink_ref, sink, owner)
            while going and not hub.stopping:
                going = _send_next(hub, sink_ref, sink, pool, workers, owner)
    except (ConfigError, AuthError) as error:
        log.warning("%s: deliveries wait: %s", sink_ref, error)
        with hub.store.transaction() as connection:
            wake_later(hub, connection, sink_ref, OPERATOR_WAIT)
        return
    _wake_when_due(hub, sink_ref)


def _send_next(
    hub: Hub, sink_ref: str, sink: SinkWriter, pool: ThreadPoolExecutor, workers: int, owner: str
) -> bool:
    """Claim, send and settle one round; False when there is nothing to send or no use in it."""
    limit = sink.batch * workers if sink.batch > 1 else _SINGLE_CLAIM
    if sink.safety is Safety.LOOK_UP:
        limit = workers
    now = hub.now_ms()
    with hub.store.transaction() as connection:
        deliveries.lock_sink(connection, sink_ref)
        claimed = deliveries.claim(connection, sink_ref, limit, owner, now)
        for run_id, number in deliveries.release_blocked(connection, sink_ref).items():
            add_counts(connection, run_id, {"pending": -number, "refused": number})
            finish_delivered(connection, run_id, now)
    if not claimed:
        return False
    crash_point("delivery.claimed")
    parts = [claimed[start : start + sink.batch] for start in range(0, len(claimed), sink.batch)]
    sent = pool.map(lambda part: send(hub, sink, part), parts)
    results = [one for part in sent for one in part]
    crash_point("delivery.sent")
    settle(hub, sink_ref, sink, results)
    crash_point("delivery.settled")
    return any(receipt.outcome is not Outcome.RETRY for _, receipt in results)


def _wake_when_due(hub: Hub, sink_ref: str) -> None:
    with hub.store.transaction() as connection:
        due = deliveries.next_due(connection, sink_ref)
        if due is not None:
            wake_later(hub, connection, sink_ref, max(0.2, (due - hub.now_ms()) / 1000))
