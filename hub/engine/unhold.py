"""Held records go on by themselves once what they wait for has arrived."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import sqlalchemy as sa

from hub.engine.flows import Flow
from hub.engine.references import take_wake, wake_flow
from hub.engine.replay import lock_beside_runs, tell_listeners
from hub.engine.replay_records import Cause, take_up_records
from hub.sdk.errors import HubError
from hub.store import waiting
from hub.store.crash import crash_point
from hub.store.dead_letters import ClosedHow, DeadLetterKind, LetterState, letter_id
from hub.store.letter_queries import lock_letters

if TYPE_CHECKING:
    from hub.engine.hub import Hub

BY_ITSELF = "hub"
_AT_ONCE = 500

log = logging.getLogger("hub.engine.unhold")


def release_held(hub: Hub, flow_id: str) -> None:
    """The job: map the held rows again of which every item has arrived."""
    with hub.store.transaction() as connection:
        take_wake(connection, flow_id)
    try:
        flow = hub.catalogue.flow(flow_id)
        while not hub.stopping and _release_some(hub, flow):
            pass
    except HubError as error:
        log.warning("flow %s: held records stay where they are: %s", flow_id, error)
    except sa.exc.OperationalError as error:
        log.warning("flow %s: stopped by the store: %s", flow_id, type(error.orig).__name__)


def sweep_held(hub: Hub) -> None:
    """Queue a job for every flow with records that could go on and no job."""
    with hub.store.reading() as connection:
        flows = [
            flow_id
            for flow_id in waiting.flows_with_ready(connection)
            if waiting.ready_records(connection, flow_id, 1)
        ]
    for flow_id in flows:
        if flow_id in hub.catalogue.names and not hub.durable.alive(f"unhold:{flow_id}:"):
            with hub.store.transaction() as connection:
                take_wake(connection, flow_id)
                wake_flow(hub, connection, flow_id)


def _release_some(hub: Hub, flow: Flow) -> bool:
    with hub.store.transaction() as connection:
        lock_beside_runs(connection, flow)
        keys = waiting.ready_records(connection, flow.id, _AT_ONCE)
        # What is not open any more was discarded, or went another way.
        waiting.forget_waits(connection, flow.id, keys)
        ids = [letter_id(DeadLetterKind.HELD, flow.id, key) for key in keys]
        letters = lock_letters(connection, ids, (LetterState.OPEN,))
        if letters:
            cause = Cause(BY_ITSELF, ClosedHow.RELEASED)
            take_up_records(hub, connection, flow, letters, cause)
            tell_listeners(hub, connection, flow)
        crash_point("unhold.before_commit")
    crash_point("unhold.after_commit")
    return len(keys) == _AT_ONCE
