"""Waking the delivery job of a sink, now or later, in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from hub.store.drains import plan_drain, want_drain

if TYPE_CHECKING:
    from hub.engine.hub import Hub


def wake_sink(hub: Hub, connection: Connection, sink_ref: str) -> None:
    """Make sure a delivery job for the sink is queued."""
    wake = want_drain(connection, sink_ref)
    if wake is not None:
        _queue(hub, connection, sink_ref, wake, delay=0.0)


def wake_later(hub: Hub, connection: Connection, sink_ref: str, seconds: float) -> None:
    """Make sure a delivery job is queued that starts in `seconds` or before.

    One is enough: every job asks for the next one, so that more would never become fewer.
    """
    wake = plan_drain(connection, sink_ref, hub.now_ms() + int(seconds * 1000))
    if wake is not None:
        _queue(hub, connection, sink_ref, wake, delay=seconds)


def _queue(hub: Hub, connection: Connection, sink_ref: str, wake: int, delay: float) -> None:
    hub.durable.enqueue(
        connection,
        "drain_sink",
        f"drain:{sink_ref}:{wake}",
        queue="delivery",
        partition=sink_ref,
        args=[sink_ref, wake],
        delay=delay,
    )
