"""Schedules: one tick asks which flows are due and queues each planned start exactly once."""

from __future__ import annotations

import contextlib
import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from croniter import CroniterError, croniter
from sqlalchemy.engine import Connection

from hub.engine.flows import Flow, Schedule
from hub.engine.planning import plan_run
from hub.sdk.errors import HubError
from hub.store.rows import from_ms, to_ms
from hub.store.runs import lock_flow, set_flow_state
from hub.store.tables import flow_state

if TYPE_CHECKING:
    from hub.engine.hub import Hub

TICK_SECONDS = 1.0
_MOST_STEPS = 100
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
        if due:
            plan_run(hub, connection, flow, full=False)
    return due


def last_planned(schedule: Schedule, after: datetime, until: datetime) -> datetime | None:
    """The newest planned start in (after, until], in UTC.

    Times are reckoned in the schedule's zone: what daylight saving skips starts when the clock has
    moved, an hour that comes twice counts twice. Searched from the end: a flow may have slept for
    months.
    """
    zone = ZoneInfo(schedule.zone)
    behind = (until + timedelta(seconds=1)).astimezone(zone)
    moments = croniter(schedule.cron, behind, ret_type=datetime)
    for _ in range(_MOST_STEPS):
        moment: datetime = moments.get_prev(datetime).astimezone(UTC)
        if moment <= until:
            return moment if moment > after else None
    return None


def _claim_due(connection: Connection, flow: Flow, schedule: Schedule, now: datetime) -> bool:
    """Whether to start a run now; the flow's plan is moved on in the same transaction."""
    lock_flow(connection, flow.id)
    statement = sa.select(flow_state.c.planned_at, flow_state.c.paused).where(
        flow_state.c.flow_id == flow.id
    )
    planned_at, paused = connection.execute(statement).one()
    if planned_at is None:
        set_flow_state(connection, flow.id, planned_at=to_ms(now))
        return False
    last = from_ms(planned_at)
    assert last is not None  # noqa: S101 (planned_at is set)
    if last > now + _CLOCK_WENT_BACK:
        log.warning(
            "flow %s: planned for %s by a clock that was wrong; planned anew", flow.id, last
        )
        set_flow_state(connection, flow.id, planned_at=to_ms(now))
        return False
    planned = last_planned(schedule, last, now)
    if planned is None:
        return False
    set_flow_state(connection, flow.id, planned_at=to_ms(planned))
    on_time = (now - planned).total_seconds() < 2 * TICK_SECONDS + 1
    return not paused and (on_time or schedule.catch_up == "last")
