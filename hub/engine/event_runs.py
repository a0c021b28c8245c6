"""Runs of flows that are fed by a webhook: started by what arrives, never by a schedule.

Every flow has a position in the inbox of its connection. Whoever finds events behind it makes sure
that a run is on its way: right behind the intake's commit (`wake_event_flows`), where a run ends
although more has arrived (`read_on`), and the sweeper. All do so under the flow's lock, and a run
ends under the same lock: an event that comes meanwhile is seen by one of them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.engine.flows import Flow
from hub.engine.planning import has_unread, plan_events
from hub.sdk.errors import HubError, LostRace
from hub.store.runs import (
    NOT_READ,
    RunState,
    is_paused,
    last_run,
    lock_flow,
    unfinished_run,
)

if TYPE_CHECKING:
    from hub.engine.hub import Hub

TRICKLE_SECONDS = 0.5
"""How long a run that is to go on waits for more events first."""

_RETRY_MS = 300_000
_TRIES = 3

log = logging.getLogger("hub.engine.events")


def event_flows(hub: Hub) -> list[Flow]:
    """Every flow that events feed and whose connection is configured."""
    flows, _ = hub.catalogue.all()
    known = hub.deployment.connections
    return [one for one in flows if one.source.event is not None and one.source.connection in known]


def wake_event_flows(hub: Hub, connections: Collection[str] | None = None) -> None:
    """Make sure that a run is on its way for every flow with unread events (of `connections`)."""
    for flow in event_flows(hub):
        if connections is not None and flow.source.connection not in connections:
            continue
        for _ in range(_TRIES):
            try:
                _wake(hub, flow)
            except LostRace:  # its last delivery was settled just now: look again
                continue
            except (HubError, sa.exc.SQLAlchemyError) as error:  # the sweeper asks again
                log.warning("flow %s: its events wait: %s", flow.id, type(error).__name__)
            break


def read_on(hub: Hub, connection: Connection, flow: Flow) -> None:
    """Where a run has read its last page: whatever arrived meanwhile is read by its next job."""
    if has_unread(connection, flow):
        plan_events(hub, connection, flow, delay=TRICKLE_SECONDS)


def _wake(hub: Hub, flow: Flow) -> None:
    with hub.store.reading() as connection:
        if not has_unread(connection, flow):
            return
    with hub.store.transaction() as connection:
        lock_flow(connection, flow.id)
        waiting = unfinished_run(connection, flow.id, NOT_READ)
        if waiting is None and has_unread(connection, flow) and _may_start(hub, connection, flow):
            plan_events(hub, connection, flow)


def _may_start(hub: Hub, connection: Connection, flow: Flow) -> bool:
    """Not while it is paused, nor again and again when it fails in the same way."""
    if is_paused(connection, flow.id):
        return False
    last = last_run(connection, flow.id)
    if last is None or last.state != RunState.FAILED or last.flow_version != flow.version:
        return True
    return hub.now_ms() - (last.finished_at or 0) >= _RETRY_MS
