"""Queries, roll-ups, archive and restore on PostgreSQL say the same as on SQLite."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from hub.store.database import Store
from hub.store.telemetry.partitions import week_of, weeks_kept
from hub.telemetry.archive_places import open_place
from hub.telemetry.calendar import Zones
from hub.telemetry.query import Asked, Span
from hub.telemetry.rollups import roll_up
from tests.telemetry import test_archive as old_days
from tests.telemetry import test_queries as queries
from tests.telemetry.rig import DAY, HOUR, Rig

pytestmark = pytest.mark.postgres

START = queries.START


@pytest.fixture
def desk(postgres_store: Store) -> Rig:
    return Rig(postgres_store, Zones("Asia/Shanghai"))


def test_buckets_are_what_the_readings_come_to(desk: Rig) -> None:
    series = desk.series(zone="Asia/Kathmandu")
    ts, value = queries.vibration(9, step=1_200_000)
    half = len(ts) // 2
    desk.write(series, ts[:half], value[:half])
    desk.roll_up()
    desk.write(series, ts[half:], value[half:])
    span = Span(START + 17 * 60_000, START + 8 * DAY + 5 * HOUR + 1)
    for _state in ("overlaid", "rolled up"):
        for every in ("5m", "6h", "1d"):
            asked = Asked(every, aggregates=queries.AGGREGATES)
            wanted = queries.expected(ts, value, span, every, "Asia/Kathmandu")
            queries.assert_same(queries.ask(desk, span, asked)[0], wanted)
        desk.roll_up()


def test_old_days_leave_and_come_back(desk: Rig, tmp_path: Path) -> None:
    old_days.fill(desk)
    place = open_place("archive", None, tmp_path)
    before, days = old_days.everything(desk), old_days.by_day(desk)
    assert old_days.house(desk, place).files == 2
    assert old_days.by_day(desk) == days
    pump = desk.series("pump", "vib")
    desk.write(pump, [old_days.START + 77], [123.0])
    assert old_days.house(desk, place).files == 1
    assert sum(old_days.by_day(desk)[3]["count"]) == old_days.DAYS * 96 + 1
    old_days.bring_back(desk, place)
    before["pump", "vib"] = sorted([*before["pump", "vib"], (old_days.START + 77, 123.0)])
    assert old_days.everything(desk) == before


def test_weeks_that_have_become_empty_go(desk: Rig) -> None:
    monday = old_days.ms("2026-01-05T00:00:00")
    for day in range(3, 11):
        desk.write(desk.series(), [old_days.START + day * DAY], [1.0])
    desk.roll_up(wait=0)
    with desk.store.reading() as connection:
        weeks = weeks_kept(connection)
    assert weeks == {week_of(monday) - 1, week_of(monday)}
    desk.now = monday + 12 * DAY
    old_days.house(desk, None)
    with desk.store.reading() as connection:
        assert weeks_kept(connection) == {week_of(monday)}


def test_two_processes_that_roll_up_at_once_take_turns(desk: Rig) -> None:
    for number in range(4):
        series = desk.series(f"pump-{number}")
        desk.write(series, range(START, START + 3 * DAY, 600_000), np.arange(432.0))
    trouble: list[BaseException] = []

    def work() -> None:
        try:
            for later in range(4):
                while roll_up(desk.store, desk.now + later * DAY, desk.zones):
                    pass
        except BaseException as error:  # noqa: BLE001 (told by the test)
            trouble.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trouble == []
    found = queries.ask(desk, Span(START, START + 3 * DAY), Asked("1d", aggregates=("count",)))
    assert [one["count"] for one in found] == [[96, 144, 144, 48]] * 4
