"""What webhooks leave behind is kept for a time, then forgotten a little at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from hub.engine.webhooks.secrets import forget_old_secret
from hub.engine.webhooks.waits import DAY_MS
from hub.store.messages import forget_attempts, forget_messages
from hub.store.subscriptions import Subscription, list_subscriptions, lock_subscription

if TYPE_CHECKING:
    from hub.engine.hub import Hub

_AT_ONCE = 1000

Forget = Callable[[Connection, str, int, int], int]


def forget_old_webhooks(hub: Hub) -> None:
    """Delete settled messages and tries older than `keep_days`, and secrets that were replaced."""
    now = hub.now_ms()
    before = now - hub.endpoints.settings.keep_days * DAY_MS
    with hub.store.reading() as connection:
        found = list_subscriptions(connection)
    for one in found:
        for forget in (forget_messages, forget_attempts):
            while _some(hub, forget, one.id, before) and not hub.stopping:
                pass
        if one.old_secret_until is not None and one.old_secret_until <= now:
            _forget_secret(hub, one, now)


def _some(hub: Hub, forget: Forget, subscription_id: str, before: int) -> bool:
    with hub.store.transaction() as connection:
        return forget(connection, subscription_id, before, _AT_ONCE) == _AT_ONCE


def _forget_secret(hub: Hub, one: Subscription, now_ms: int) -> None:
    with hub.store.transaction() as connection:
        mine = lock_subscription(connection, one.id)
        until = mine.old_secret_until if mine is not None else None
        if mine is not None and until is not None and until <= now_ms:
            forget_old_secret(connection, mine)
