"""The sending job of one subscription: claim, send in parallel, settle, until nothing is due.

At least once: a message is on the wire only after its claim was committed, and what a dead job
left there is sent again under the same id.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from hub.engine.webhooks.changes import collect_changes
from hub.engine.webhooks.post import Letter, Poster, Tried
from hub.engine.webhooks.secrets import signing_secrets
from hub.engine.webhooks.settling import Result, settle
from hub.engine.webhooks.wakes import wake_later
from hub.sdk.errors import ConfigError
from hub.store.crash import crash_point
from hub.store.messages import StoredMessage, claim_due, next_message_due, release_others
from hub.store.subscriptions import (
    Subscription,
    change_subscription,
    load_subscription,
    lock_subscription,
    take_job,
)

if TYPE_CHECKING:
    from hub.engine.hub import Hub

OPERATOR_WAIT_MS = 300_000
"""How long a subscription waits whose secret cannot be read."""

# A later try than this is left to the sweep: a delayed job for each would only pile up.
_LONGEST_DELAY = 60.0
# Whoever slept longer than this between claim and call may have been taken for dead.
_STALE_AFTER = 5.0

log = logging.getLogger("hub.engine.webhooks")


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A message to send now, and when (by the monotonic clock) it was claimed."""

    message: StoredMessage
    letter: Letter
    claimed_at: float


def send_webhooks(hub: Hub, subscription_id: str) -> None:
    """The job: send what is due, then ask to be woken for the rest."""
    sender = _Sender(hub, subscription_id)
    if not sender.begin():
        return
    try:
        sender.work()
    except ConfigError as error:
        log.error("subscription %s: nothing can be sent: %s", subscription_id, error)
        until = hub.now_ms() + OPERATOR_WAIT_MS
        with hub.store.transaction() as connection:
            change_subscription(connection, subscription_id, hold_until=until)
    _wake_when_due(hub, subscription_id)


class _Sender:
    """One run of the job; it signs its claims with a name of its own."""

    def __init__(self, hub: Hub, subscription_id: str) -> None:
        self._hub = hub
        self._id = subscription_id
        self._owner = uuid.uuid4().hex
        self._places = hub.endpoints.settings.concurrent
        self._random = Random()  # noqa: S311 (spreads load, keeps no secret)

    def begin(self) -> bool:
        """Take the wake-up, and over from a job that died; False when there is nothing to do."""
        hub = self._hub
        with hub.store.transaction() as connection:
            mine = lock_subscription(connection, self._id)
            if mine is None:
                return False
            take_job(connection, self._id, hub.now_ms())
            left = release_others(connection, self._id, self._owner, hub.now_ms())
        if left:
            log.info("subscription %s: %d message(s) are sent again", self._id, left)
        return mine.active

    def work(self) -> None:
        """Keep every place busy until nothing is due; one transaction settles and claims."""
        hub = self._hub
        flying: dict[Future[Tried | None], StoredMessage] = {}
        results: list[Result] = []
        with (
            Poster(hub.endpoints, hub.clock) as poster,
            ThreadPoolExecutor(self._places, thread_name_prefix="hub-webhook") as pool,
        ):
            while True:
                for one in self._turn(results, self._places - len(flying)):
                    crash_point("webhook.claimed")
                    flying[pool.submit(self._post, poster, one)] = one.message
                if not flying:
                    return
                done, _ = wait(flying, return_when=FIRST_COMPLETED)
                results = [Result(flying.pop(one), one.result()) for one in done]
                crash_point("webhook.sent")

    def _post(self, poster: Poster, one: _Claimed) -> Tried | None:
        if self._hub.clock.monotonic() - one.claimed_at > _STALE_AFTER:
            return None
        return poster.post(one.letter)

    def _turn(self, results: Sequence[Result], free: int) -> list[_Claimed]:
        """Settle what came back, claim what is to go next."""
        hub = self._hub
        now = hub.now_ms()
        with hub.store.transaction() as connection:
            mine = lock_subscription(connection, self._id)
            if mine is None:
                return []
            if results:
                mine = settle(connection, mine, self._owner, results, now, self._random)
            if hub.stopping or not mine.active:
                return []
            claimed = self._claim(connection, mine, now, free)
            if not claimed:
                return []
            secrets = signing_secrets(connection, hub.vault(), mine, now)
        moment = hub.clock.monotonic()
        return [
            _Claimed(one, Letter(one.id, mine.url, one.payload_text.encode(), secrets), moment)
            for one in claimed
        ]

    def _claim(
        self, connection: Connection, mine: Subscription, now_ms: int, free: int
    ) -> list[StoredMessage]:
        """Messages for the free places; an unwell endpoint is tried with one at a time."""
        collect_changes(connection, mine, now_ms)  # first: a newer change replaces an unsent one
        if mine.hold_until > now_ms:
            return []
        if mine.hold_until > 0:
            free = 1 if free == self._places else 0
        return claim_due(connection, mine.id, self._owner, now_ms, free) if free else []


def _wake_when_due(hub: Hub, subscription_id: str) -> None:
    with hub.store.transaction() as connection:
        mine = load_subscription(connection, subscription_id)
        due = next_message_due(connection, subscription_id)
        if mine is None or not mine.active or due is None:
            return
        wait_for = (max(due, mine.hold_until) - hub.now_ms()) / 1000
        if wait_for <= _LONGEST_DELAY:
            wake_later(hub, connection, subscription_id, max(0.2, wait_for))
