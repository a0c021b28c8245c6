"""Schedules: one tick asks which flows are due and queues each planned start exactly once."""

from __future__ import annotations

import contextlib
import logging
import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from croniter import CroniterError
from sqlalchemy.engine import Connection

from hub.engine.cron import last_time
from hub.engine.flows import Flow, Schedule
from hub.engine.planning import plan_run
from hub.sdk.errors import HubError
from hub.store.rows import from_ms, to_ms
from hub.store.runs import NOT_READ, lock_flow, set_flow_state, unfinished_run
from hub.store.tables import flow_state

if TYPE_CHECKING:
    from hub.engine.hub import Hub

TICK_SECONDS = 1.0
LATE_SECONDS = 60.0
"""So much later than planned a start still counts as that start, not as one that was missed."""

_CLOCK_WENT_BACK = timedelta(hours=2)

log = logging.getLogger("hub.engine.schedule")


class Ticker:
    """Runs `tick` once a second until stopped. Several processes may do so at once."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._told: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="hub-ticker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _loop(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            with contextlib.suppress(HubError):  # told to whoever uses the hub; the old files stay
                self._hub.refresh()
            try:
                tick(self._hub, self._told)
            except Exception:  # no schedule may stop because of one tick
                log.exception("schedule tick failed")


def tick(hub: Hub, told: dict[str, str] | None = None) -> list[str]:
    """Start every flow that is due, and return the names of those started.

    Whoever moves `planned_at` first starts the run; the others see the new time. A flow met for
    the first time starts at its next planned time, not at once. `told` keeps what the log says of
    flows that cannot start, so that it says it once.
    """
    started: list[str] = []
    told = {} if told is None else told
    now = hub.clock.now()
    flows, _ = hub.catalogue.all()
    for flow in flows:
        if flow.schedule is None or flow.source.connection not in hub.deployment.connections:
            continue
        try:
            if _start_if_due(hub, flow, flow.schedule, now):
                started.append(flow.id)
                told.pop(flow.id, None)
        except (HubError, CroniterError, sa.exc.SQLAlchemyError) as error:
            # The plan stands where it was: the flow starts once its settings are right.
            if told.get(flow.id) != str(error):
                log.warning("flow %s cannot start: %s", flow.id, error)
            told[flow.id] = str(error)
    return started


def _start_if_due(hub: Hub, flow: Flow, schedule: Schedule, now: datetime) -> bool:
    with hub.store.transaction() as connection:
        due = _claim_due(connection, flow, schedule, now)
        if due is not None:
            plan_run(hub, connection, flow, full=due == "full")
    return due is not None


def last_planned(
    schedule: Schedule, after: datetime, until: datetime, cron: str | None = None
) -> datetime | None:
    """The newest planned start in (after, until], in UTC; by `cron` instead of the schedule's."""
    return last_time(cron or schedule.cron, ZoneInfo(schedule.zone), after, until)


def _claim_due(
    connection: Connection, flow: Flow, schedule: Schedule, now: datetime
) -> Literal["full", "usual"] | None:
    """What to start now; the flow's plan is moved on in the same transaction."""
    lock_flow(connection, flow.id)
    statement = sa.select(flow_state.c.planned_at, flow_state.c.paused).where(
        flow_state.c.flow_id == flow.id
    )
    planned_at, paused = connection.execute(statement).one()
    if planned_at is None:
        set_flow_state(connection, flow.id, planned_at=to_ms(now))
        return None
    last = from_ms(planned_at)
    assert last is not None  # noqa: S101 (planned_at is set)
    if last > now + _CLOCK_WENT_BACK:
        log.warning(
            "flow %s: planned for %s by a clock that was wrong; planned anew", flow.id, last
        )
        set_flow_state(connection, flow.id, planned_at=to_ms(now))
        return None
    usual = last_planned(schedule, last, now)
    whole = last_planned(schedule, last, now, schedule.full) if schedule.full else None
    planned = max((one for one in (usual, whole) if one is not None), default=None)
    if planned is None:
        return None
    if whole is not None and unfinished_run(connection, flow.id, NOT_READ) is not None:
        return None  # a run that reads only changes must not take the place of the full one
    set_flow_state(connection, flow.id, planned_at=to_ms(planned))
    on_time = (now - planned).total_seconds() < LATE_SECONDS
    if paused or not (on_time or schedule.catch_up == "last"):
        return None
    return "usual" if whole is None else "full"
