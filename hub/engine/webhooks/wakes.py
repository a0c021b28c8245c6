"""Waking the sending job of a subscription, in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from hub.store.subscriptions import (
    listeners,
    plan_job,
    reset_job,
    subscriptions_to_visit,
    want_job,
)

if TYPE_CHECKING:
    from hub.engine.hub import Hub


def wake_subscriptions(hub: Hub, connection: Connection, entity: str) -> None:
    """Records of the entity changed: make sure that whoever asked for them is told.

    Called last in the transaction: the locks of the subscriptions come behind all others.
    """
    for subscription_id in listeners(connection, entity):
        wake(hub, connection, subscription_id)


def wake(hub: Hub, connection: Connection, subscription_id: str) -> None:
    """Make sure a sending job is queued; where no jobs can be queued the sweep sees to it."""
    if not hub.durable.is_open:
        return
    number = want_job(connection, subscription_id)
    if number is not None:
        _queue(hub, connection, subscription_id, number, delay=0.0)


def wake_later(hub: Hub, connection: Connection, subscription_id: str, seconds: float) -> None:
    """Make sure a sending job is queued that starts in `seconds` or before."""
    if not hub.durable.is_open:
        return
    number = plan_job(connection, subscription_id, hub.now_ms() + int(seconds * 1000))
    if number is not None:
        _queue(hub, connection, subscription_id, number, delay=seconds)


def sweep_subscriptions(hub: Hub) -> None:
    """Queue a job for every subscription that has work and no job."""
    with hub.store.reading() as connection:
        found = subscriptions_to_visit(connection, hub.now_ms())
    for subscription_id in found:
        if not hub.durable.alive(f"webhooks:{subscription_id}:"):
            with hub.store.transaction() as connection:
                reset_job(connection, subscription_id)
                wake(hub, connection, subscription_id)


def _queue(
    hub: Hub, connection: Connection, subscription_id: str, number: int, delay: float
) -> None:
    hub.durable.enqueue(
        connection,
        "send_webhooks",
        f"webhooks:{subscription_id}:{number}",
        queue="delivery",
        partition=f"webhooks:{subscription_id}",
        args=[subscription_id],
        delay=delay,
    )
