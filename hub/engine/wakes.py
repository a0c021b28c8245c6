"""Waking the delivery job of a sink, now or later, in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from hub.store.drains import next_wake, want_drain

if TYPE_CHECKING:
    from hub.engine.hub import Hub


def wake_sink(hub: Hub, connection: Connection, sink_ref: str) -> None:
    """Make sure a delivery job for the sink is queued."""
    wake = want_drain(connection, sink_ref)
    if wake is not None:
        _queue(hub, connection, sink_ref, wake, delay=0.0)


def wake_later(hub: Hub, connection: Connection, sink_ref: str, seconds: float) -> None:
    """Queue a delivery job that starts in `seconds`, besides any other."""
    _queue(hub, connection, sink_ref, next_wake(connection, sink_ref), delay=seconds)


def _queue(hub: Hub, connection: Connection, sink_ref: str, wake: int, delay: float) -> None:
    hub.durable.enqueue(
        connection,
        "drain_sink",
        f"drain:{sink_ref}:{wake}",
        queue="delivery",
        partition=sink_ref,
        args=[sink_ref],
        delay=delay,
    )
