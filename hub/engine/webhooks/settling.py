"""What a try means: for its message, for the messages behind it, and for the endpoint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

from sqlalchemy.engine import Connection

from hub.engine.inspection import error_row
from hub.engine.webhooks import waits
from hub.engine.webhooks.endpoints import shown
from hub.engine.webhooks.post import Tried
from hub.store.messages import (
    Attempt,
    MessageState,
    StoredMessage,
    add_attempts,
    bring_forward,
    give_back,
    settle_message,
    still_mine,
)
from hub.store.rows import encode_json
from hub.store.subscriptions import Subscription, SubscriptionState, change_subscription

_TOO_MANY, _UNAVAILABLE, _GONE, _TOO_SLOW = 429, 503, 410, 408

log = logging.getLogger("hub.engine.webhooks")


class Result(NamedTuple):
    """A message that was on the wire; `tried` is None when it was not sent after all."""

    message: StoredMessage
    tried: Tried | None


def settle(
    connection: Connection,
    mine: Subscription,
    owner: str,
    results: Sequence[Result],
    now_ms: int,
    random: Random,
) -> Subscription:
    """Record the outcome of tries; the subscription as it stands afterwards.

    The subscription is locked by the caller. What another job took over meanwhile stays as it is.
    """
    add_attempts(connection, [attempt_of(one, one_try) for one, one_try in results if one_try])
    ours = still_mine(connection, mine.id, owner)
    tried = [one for one in results if one.tried is not None]
    after = _endpoint_after(mine, tried, now_ms)
    for message, one_try in results:
        if message.id in ours:
            _settle_one(connection, after, message, one_try, now_ms, random)
    if mine.failing_since is not None and after.failing_since is None:
        _recovered(connection, mine, now_ms)
    _tell(mine, after)
    values = {
        name: getattr(after, name)
        for name in ("state", "failing_since", "failures", "hold_until", "sent", "failed")
        if getattr(after, name) != getattr(mine, name)
    }
    if values:
        change_subscription(connection, mine.id, **values)
    return after


def attempt_of(message: StoredMessage, tried: Tried) -> Attempt:
    """A try as the log keeps it."""
    error = None if tried.error is None else encode_json(error_row(tried.error)).decode()
    return Attempt(
        message.id,
        message.subscription_id,
        tried.began_at,
        tried.took_ms,
        tried.status,
        error,
        tried.answer,
    )


def _settle_one(
    connection: Connection,
    endpoint: Subscription,
    message: StoredMessage,
    tried: Tried | None,
    now_ms: int,
    random: Random,
) -> None:
    if tried is None:
        give_back(connection, message, now_ms, now_ms, attempts=message.attempts)
        return
    if tried.error is None:
        tries = message.attempts + 1
        settle_message(connection, message.id, MessageState.DELIVERED, tries, now_ms)
        return
    # Being asked to come later is no judgement of the message and costs it no try.
    tries = message.attempts if _asks_for_rest(tried) else message.attempts + 1
    if tries >= waits.TRIES and _takes_others(endpoint, now_ms):
        log.error("webhook %s: given up after %d tries", message.id, tries)
        settle_message(connection, message.id, MessageState.FAILED, tries, now_ms)
        return
    wait = waits.wait_after(tries, random)
    if _asks_for_rest(tried) and tried.asked_wait is not None:
        wait = waits.bounded(tried.asked_wait)
    give_back(connection, message, now_ms + int(wait * 1000), now_ms, attempts=tries)


def _endpoint_after(mine: Subscription, results: Sequence[Result], now_ms: int) -> Subscription:
    tries = [one.tried for one in results if one.tried is not None]
    failed = [one for one in tries if one.error is not None]
    after = replace(
        mine, sent=mine.sent + len(tries) - len(failed), failed=mine.failed + len(failed)
    )
    if len(failed) < len(tries):
        after = replace(after, failing_since=None, failures=0, hold_until=0)
    elif failed:
        after = _failing(after, failed, now_ms)
    if not mine.active:
        return after
    if any(one.status == _GONE for one in failed):
        return replace(after, state=SubscriptionState.GONE.value)
    since = after.failing_since
    if since is not None and now_ms - since >= waits.DISABLE_AFTER_MS:
        return replace(after, state=SubscriptionState.DISABLED.value)
    return after


def _failing(mine: Subscription, failed: Sequence[Tried], now_ms: int) -> Subscription:
    # Tries that were on the wire when the first of them failed tell nothing new.
    news = any(one.began_at >= mine.hold_until for one in failed)
    failures = mine.failures + 1 if news else mine.failures
    return replace(
        mine,
        failing_since=now_ms if mine.failing_since is None else mine.failing_since,
        failures=failures,
        hold_until=_hold(failed, failures, now_ms),
    )


def _hold(failed: Sequence[Tried], failures: int, now_ms: int) -> int:
    """Until when an endpoint that fails as a whole is left alone."""
    asked = [one.asked_wait for one in failed if _asks_for_rest(one) and one.asked_wait is not None]
    if asked:
        return now_ms + int(waits.bounded(max(asked)) * 1000)
    if any(_is_unwell(one) for one in failed):
        return now_ms + int(waits.hold_after(failures) * 1000)
    return 0


def _is_unwell(tried: Tried) -> bool:
    """Whether the endpoint itself is in trouble, not only with this message."""
    status = tried.status
    return status is None or status in (_TOO_MANY, _TOO_SLOW) or not 400 <= status < 500


def _asks_for_rest(tried: Tried) -> bool:
    if tried.status == _TOO_MANY:
        return True
    return tried.status == _UNAVAILABLE and tried.asked_wait is not None


def _takes_others(endpoint: Subscription, now_ms: int) -> bool:
    """Whether it took another message in the time of this one's tries."""
    since = endpoint.failing_since
    return since is None or now_ms - since < waits.DAY_MS


def _recovered(connection: Connection, before: Subscription, now_ms: int) -> None:
    since = before.failing_since or now_ms
    if now_ms - since > waits.OUTAGE_MS:
        log.info("subscription %s: %s takes messages again", before.id, shown(before.url))
        bring_forward(connection, before.id, now_ms)


def _tell(before: Subscription, after: Subscription) -> None:
    if before.state != after.state:
        log.error(
            "subscription %s: %s is %s, nothing is sent until somebody resumes it",
            after.id,
            shown(after.url),
            after.state,
        )
    elif before.failing_since is None and after.failing_since is not None:
        log.warning("subscription %s: %s fails", after.id, shown(after.url))
