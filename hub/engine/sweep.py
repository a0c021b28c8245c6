"""Our tables say what is undone; a sweep makes sure that a job exists for each of it.

A job can end without its work: the store was out of reach for a moment, or a process died between
two of the engine's own writes. Nothing waits for a restart then.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import sqlalchemy as sa

from hub.engine.planning import queue_run
from hub.engine.wakes import wake_sink
from hub.sdk.errors import HubError, LostRace
from hub.store import deliveries
from hub.store.runs import Run, RunState, move_run, unfinished_runs

if TYPE_CHECKING:
    from hub.engine.hub import Hub

SWEEP_SECONDS = 10.0
KEEP_JOBS_SECONDS = 8 * 86_400.0
"""How long the engine remembers finished jobs: longer than any sender repeats itself."""

_SWEEPS_PER_CLEANING = 360

log = logging.getLogger("hub.engine.sweep")


class Sweeper:
    """Runs `sweep` now and then until stopped. Several processes may do so at once."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="hub-sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _loop(self) -> None:
        sweeps = 0
        while not self._stop.wait(SWEEP_SECONDS):
            try:
                sweep(self._hub)
                if sweeps % _SWEEPS_PER_CLEANING == 0:
                    self._hub.durable.forget_finished(KEEP_JOBS_SECONDS)
                sweeps += 1
            except (HubError, sa.exc.SQLAlchemyError) as error:
                log.warning("sweep failed: %s", type(error).__name__)
            except Exception:
                log.exception("sweep failed")


def sweep(hub: Hub) -> None:
    """Queue a job for every run and every sink that has work and no job."""
    with hub.store.reading() as connection:
        runs = [one for one in unfinished_runs(connection) if one.state != RunState.DELIVERING]
        sinks = deliveries.sinks_to_visit(connection)
    for run in runs:
        if not hub.durable.alive(f"run:{run.id}:"):
            _queue_again(hub, run)
    for sink_ref in sinks:
        if not hub.durable.alive(f"drain:{sink_ref}:"):
            with hub.store.transaction() as connection:
                deliveries.take_drain(connection, sink_ref)
                wake_sink(hub, connection, sink_ref)


def _queue_again(hub: Hub, run: Run) -> None:
    attempt = run.attempt + 1  # an id no job of this run has had
    try:
        with hub.store.transaction() as connection:
            move_run(connection, run, attempt=attempt)
            queue_run(hub, connection, run.flow_id, run.id, attempt)
    except LostRace:
        log.info("run %d: went on meanwhile", run.id)
