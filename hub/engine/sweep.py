"""Our tables say what is undone; a sweep makes sure that a job exists for each of it.

A job can end without its work: the store was out of reach for a moment, or a process died between
two of the engine's own writes. Nothing waits for a restart then.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from hub.engine.event_runs import wake_event_flows
from hub.engine.inbox import Retention
from hub.engine.planning import queue_run
from hub.engine.reconcile import end_stranded
from hub.engine.references import find_arrived
from hub.engine.renewal import LOOK_SECONDS, Renewals
from hub.engine.replay import sweep_replays
from hub.engine.replay_writes import settle_stranded
from hub.engine.unhold import sweep_held
from hub.engine.wakes import wake_sink
from hub.engine.watchdog import Watchdog
from hub.engine.webhooks.retention import forget_old_webhooks
from hub.engine.webhooks.wakes import sweep_subscriptions
from hub.sdk.errors import HubError, LostRace
from hub.store import deliveries
from hub.store.drains import reset_drain
from hub.store.runs import Run, RunState, move_run, unfinished_runs

if TYPE_CHECKING:
    from hub.engine.hub import Hub

SWEEP_SECONDS = 10.0
WEBHOOK_RETENTION_SECONDS = 3_600.0
"""How often old webhook messages are looked for: they are kept for days, so no sweep is urgent."""

KEEP_JOBS_SECONDS = 2 * 86_400.0
"""How long the engine remembers finished jobs. Their ids never come again; an operator may look."""

FORGET_AT_ONCE = 500
_MOST_FORGETTING = 4

log = logging.getLogger("hub.engine.sweep")


class Sweeper:
    """Runs `sweep` now and then until stopped. Several processes may do so at once."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._duties = (
            self._sweep,
            Watchdog(hub).round,
            self._find_arrived,
            self._forget,
            self._forget_webhooks,
            Retention(hub).round,
        )
        self._renewals = Renewals(hub)
        self._webhooks_from = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="hub-sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _loop(self) -> None:
        swept = time.monotonic()
        while not self._stop.wait(min(LOOK_SECONDS, SWEEP_SECONDS)):
            duties = [self._renewals.round]
            if time.monotonic() - swept >= SWEEP_SECONDS:
                swept = time.monotonic()
                duties += self._duties
            for duty in duties:
                try:
                    duty()
                except (HubError, sa.exc.SQLAlchemyError) as error:
                    log.warning("sweep failed: %s", type(error).__name__)
                except Exception:
                    log.exception("sweep failed")

    def _sweep(self) -> None:
        sweep(self._hub)

    def _forget(self) -> None:
        """Forget old jobs at more than ten times the rate of one new job a second."""
        for _ in range(_MOST_FORGETTING):
            gone = self._hub.durable.forget_finished(KEEP_JOBS_SECONDS, FORGET_AT_ONCE)
            if gone < FORGET_AT_ONCE or self._stop.is_set():
                return

    def _forget_webhooks(self) -> None:
        now = self._hub.clock.monotonic()
        if now >= self._webhooks_from:
            forget_old_webhooks(self._hub)
            self._webhooks_from = now + WEBHOOK_RETENTION_SECONDS

    def _find_arrived(self) -> None:
        find_arrived(self._hub)


def sweep(hub: Hub) -> None:
    """Queue a job for every run, sink and subscription that has work and no job, and a run for
    every flow that has not read all its events."""
    end_stranded(hub)
    with hub.store.reading() as connection:
        runs = [one for one in unfinished_runs(connection) if one.state != RunState.DELIVERING]
        sinks = deliveries.sinks_to_visit(connection)
    for run in runs:
        if not hub.durable.alive(f"run:{run.id}:"):
            _queue_again(hub, run)
    for sink_ref in sinks:
        if not hub.durable.alive(f"drain:{sink_ref}:"):
            with hub.store.transaction() as connection:
                reset_drain(connection, sink_ref)
                wake_sink(hub, connection, sink_ref)
    wake_event_flows(hub)
    sweep_subscriptions(hub)
    sweep_replays(hub)
    sweep_held(hub)
    settle_stranded(hub)


def _queue_again(hub: Hub, run: Run) -> None:
    attempt = run.attempt + 1  # an id no job of this run has had
    try:
        with hub.store.transaction() as connection:
            move_run(connection, run, attempt=attempt)
            queue_run(hub, connection, run.flow_id, run.id, attempt)
    except LostRace:
        log.info("run %d: went on meanwhile", run.id)
