"""When flows start by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from hub.engine.flows import Schedule
from hub.engine.hub import Hub, open_hub
from hub.engine.schedule import last_planned, tick
from hub.sdk.testing import FakeClock
from hub.store.runs import set_flow_state
from hub.store.tables import flow_state
from tests.engine.conftest import Rig

FLOW = (
    "flow: {name}\nfrom: {{connection: {source}, stream: material}}\n"
    "schedule: {{cron: '{cron}'}}\n"
    "mapping: {{key: [code], fields: {{code: code}}}}\nto: {{entity: material}}\n"
)


@contextmanager
def idle_hub(rig: Rig, clock: FakeClock) -> Iterator[Hub]:
    """A hub with an engine that queues but does no work."""
    with rig.open():
        pass  # makes the engine's tables
    with open_hub(rig.folder, clock=clock) as hub:
        hub.durable.connect()
        yield hub


def test_a_flow_that_cannot_start_keeps_no_other_from_starting(embedded: Rig) -> None:
    broken = deepcopy(embedded.connections["u8"])
    broken["config"]["app_secret"] = "env:HUB_TEST_NOT_SET"
    embedded.connections["broken"] = broken
    embedded.write_connections()
    flows = {"a_broken": ("broken", "* * * * *"), "b_never": ("u8", "0 0 31 2 *")}
    flows["c_good"] = ("u8", "* * * * *")
    for name, (source, cron) in flows.items():
        embedded.write_flow(name, FLOW.format(name=name, source=source, cron=cron))
    clock = FakeClock()
    with idle_hub(embedded, clock) as hub:
        assert tick(hub) == []
        clock.sleep(60)
        assert tick(hub) == ["c_good"]


def test_a_plan_made_by_a_clock_that_was_wrong_is_made_anew(embedded: Rig) -> None:
    embedded.write_flow("good", FLOW.format(name="good", source="u8", cron="* * * * *"))
    clock = FakeClock()
    with idle_hub(embedded, clock) as hub:
        with hub.store.transaction() as connection:
            wrong = hub.now_ms() + 4 * 365 * 86_400_000
            set_flow_state(connection, "good", planned_at=wrong)
        tick(hub)
        clock.sleep(60)
        assert tick(hub) == ["good"]
        with hub.store.reading() as connection:
            planned = connection.execute(
                sa.select(flow_state.c.planned_at).where(flow_state.c.flow_id == "good")
            ).scalar_one()
        assert planned <= hub.now_ms()


@pytest.mark.parametrize("day", ["2026-03-28T23:00Z", "2026-10-24T23:00Z"])
def test_a_flow_starts_every_quarter_of_an_hour_when_the_clock_is_changed(day: str) -> None:
    schedule = Schedule(cron="*/15 * * * *", zone="Europe/Berlin")
    begin = datetime.fromisoformat(day)
    plan, starts = begin, []
    for minute in range(181):
        found = last_planned(schedule, plan, begin + timedelta(minutes=minute, seconds=7))
        if found is not None:
            starts.append(plan := found)
    assert starts == [begin + timedelta(minutes=15 * n) for n in range(1, 13)]


def test_years_of_sleep_cost_no_more_than_a_minute_of_it() -> None:
    schedule = Schedule(cron="* * * * *")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert last_planned(schedule, datetime(2016, 1, 1, tzinfo=UTC), now) == now
    assert last_planned(schedule, now, now) is None
