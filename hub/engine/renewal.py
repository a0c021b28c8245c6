"""Credentials that were renewed, whoever renewed them: what waited for them goes on at once.

set here            `Hub.renew_session` wakes what waits
set by a command    its secret is newer than the one we opened the connection with
file or variable    looked at while the connection is left alone
breaker closed      by any process, or because a probe was answered: what it held goes on
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from hub.engine.flows import Flow
from hub.engine.planning import plan_run
from hub.engine.wakes import wake_sink
from hub.sdk.errors import HubError
from hub.store.breakers import open_standings
from hub.store.deliveries import sinks_to_visit
from hub.store.runs import (
    NOT_READ,
    Run,
    RunState,
    is_paused,
    last_run,
    lock_flow,
    unfinished_run,
)
from hub.store.secrets import secrets_changed_at

if TYPE_CHECKING:
    from hub.engine.hub import Hub

LOOK_SECONDS = 2.0
_AUTH = "auth."

log = logging.getLogger("hub.engine.renewal")


class Renewals:
    """Looks every now and then for connections that may be called again."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._changed_at: dict[str, int] = {}
        # At the beginning anything may have been renewed while nobody looked.
        self._left_alone: set[str] = set(hub.deployment.connections)

    def round(self) -> None:
        """Renew sessions whose secrets have changed, wake what waits for a connection."""
        with self._hub.store.reading() as connection:
            changed_at = secrets_changed_at(connection)
            left_alone = {one.connection_id for one in open_standings(connection)}
        newer = {name for name, at in changed_at.items() if self._changed_at.get(name) != at}
        for name in sorted(newer | left_alone):
            try:
                self._hub.renew_if_changed(name)
            except HubError as error:
                log.info("%s: not usable at present: %s", name, error.code)
        for name in sorted(self._left_alone - left_alone):
            wake_waiting(self._hub, name)
        self._changed_at, self._left_alone = changed_at, left_alone


def wake_waiting(hub: Hub, name: str) -> None:
    """Start what waits until connection `name` may be called again: deliveries, runs."""
    if not hub.durable.is_open or name not in hub.deployment.connections:
        return
    with hub.store.reading() as connection:
        sinks = [one for one in sinks_to_visit(connection) if one.startswith(name + "/")]
    for sink_ref in sinks:
        with hub.store.transaction() as connection:
            wake_sink(hub, connection, sink_ref)
    flows, _ = hub.catalogue.all()
    for flow in flows:
        if name in (flow.source.connection, flow.target.connection):
            with hub.store.transaction() as connection:
                _go_on(hub, connection, flow)


def source_renewed(hub: Hub, run: Run) -> bool:
    """Whether the run's source was given new credentials since we opened it; then we use them."""
    try:
        return hub.renew_if_changed(hub.catalogue.flow(run.flow_id).source.connection)
    except HubError:
        return False


def _go_on(hub: Hub, connection: Connection, flow: Flow) -> None:
    lock_flow(connection, flow.id)
    run = unfinished_run(connection, flow.id, NOT_READ)
    if run is not None:
        _start_job(hub, connection, run)
        return
    last = last_run(connection, flow.id)
    refused = (
        last is not None
        and last.state == RunState.FAILED
        and last.resumable
        and (last.error_code or "").startswith(_AUTH)
    )
    if refused and not is_paused(connection, flow.id):
        plan_run(hub, connection, flow, full=False)


def _start_job(hub: Hub, connection: Connection, run: Run) -> None:
    """One more job of a run whose own may be put off; jobs of a flow come one after the other."""
    hub.durable.enqueue(
        connection,
        "run_flow",
        f"run:{run.id}:{run.attempt}:again:{hub.now_ms()}",
        queue="flow",
        partition=run.flow_id,
        args=[run.id],
    )
