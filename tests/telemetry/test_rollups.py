"""When roll-ups are recomputed, that each is recomputed once, and that a death changes nothing."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from hub.store.tables.telemetry import change, rollup, rollup_due
from hub.store.telemetry.positions import advance, position
from hub.telemetry import rollups
from hub.telemetry.rollups import CONSUMER, LONGEST_MS, QUIET_MS, roll_up
from hub.telemetry.sketch import from_bytes
from tests.telemetry.rig import DAY, HOUR, Rig, ms, rig

START = ms("2026-05-31T20:00:00")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as opened:
        opened.now = START + 2 * HOUR
        yield opened


def turn(desk: Rig, later: int = 0) -> int:
    desk.now += later
    done = 0
    while some := roll_up(desk.store, desk.now, desk.zones):
        done += some
    return done


def rows(desk: Rig, span: str = "h") -> list[Any]:
    with desk.store.reading() as connection:
        chosen = sa.select(rollup).where(rollup.c.span == span)
        return list(connection.execute(chosen.order_by(rollup.c.series_id, rollup.c.start)))


def count(desk: Rig, table: sa.Table) -> int:
    with desk.store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_a_roll_up_holds_what_the_hour_comes_to(desk: Rig) -> None:
    series = desk.series()
    desk.write(series, [START + 1, START + 5, START + 9], [-2.0, 4.0, 1.0])
    turn(desk)
    turn(desk, QUIET_MS)
    (row,) = rows(desk)
    assert row[:2] == (series, "h")
    assert row[2:10] == (START, 3, -2.0, 4.0, 3.0, 18.0, START + 9, 1.0)
    assert from_bytes(row.sketch).percentiles([50]) == pytest.approx([1.0], rel=0.01)


def test_an_hour_is_recomputed_once_it_is_quiet_and_over(desk: Rig) -> None:
    series = desk.series()
    desk.now = START + HOUR - 1000
    desk.write(series, [START + 1], [1.0])
    turn(desk, QUIET_MS // 2)  # over, but not quiet
    assert rows(desk) == []
    desk.write(series, [START + 2], [2.0])
    turn(desk, QUIET_MS - 1)
    assert rows(desk) == []
    turn(desk, QUIET_MS)
    assert [row.count for row in rows(desk)] == [2]


def test_an_hour_that_is_never_quiet_is_recomputed_all_the_same(desk: Rig) -> None:
    series = desk.series()
    for late in range(LONGEST_MS // 30_000 + 2):
        desk.write(series, [START + late], [1.0])
        turn(desk, 30_000)
    assert [row.span for row in rows(desk)] == ["h"]


def test_each_hour_is_recomputed_at_most_once_per_round(
    desk: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = desk.series()
    for late in range(40):
        desk.write(series, [START + late], [1.0])
    turn(desk)
    computed: list[int] = []
    roll = rollups.roll_hours

    def counting(connection: Any, series_id: int, starts: list[int]) -> None:
        computed.extend(starts)
        roll(connection, series_id, starts)

    monkeypatch.setattr(rollups, "roll_hours", counting)
    turn(desk, QUIET_MS)
    assert computed == [START]


def test_a_day_follows_its_hours_when_it_is_over(desk: Rig) -> None:
    series = desk.series()  # Asia/Shanghai: 20:00 UTC is 04:00 of the next day
    hours = [START - 20 * HOUR + number * HOUR for number in range(24)]
    desk.write(series, hours, [1.0] * 24)
    turn(desk)
    turn(desk, QUIET_MS)
    assert [row.start for row in rows(desk, "d")] == [START - 28 * HOUR]
    turn(desk, DAY)
    assert [row.count for row in rows(desk, "d")] == [16, 8]


def test_another_turn_changes_nothing(desk: Rig) -> None:
    desk.write(desk.series(), range(START, START + HOUR, 60_000), range(60))
    desk.roll_up()
    before = rows(desk), rows(desk, "d")
    assert count(desk, rollup_due) == 0
    assert turn(desk, DAY) == 0
    assert (rows(desk), rows(desk, "d")) == before


def test_changes_are_forgotten_once_every_consumer_has_passed_them(desk: Rig) -> None:
    series = desk.series()
    with desk.store.transaction() as connection:
        advance(connection, "changes:rules", 0, desk.now)
    for late in range(5):
        desk.write(series, [START + late], [1.0])
    turn(desk)
    assert count(desk, change) == 5
    with desk.store.transaction() as connection:
        advance(connection, "changes:rules", 3, desk.now)
    desk.write(series, [START + 9], [1.0])
    turn(desk)
    assert count(desk, change) == 3
    with desk.store.reading() as connection:
        assert position(connection, CONSUMER) == 6


def test_an_hour_that_was_emptied_has_no_roll_up(desk: Rig) -> None:
    series = desk.series()
    desk.write(series, [START, START + HOUR], [1.0, 2.0])
    desk.roll_up()
    with desk.store.transaction() as connection:
        connection.execute(sa.text("DELETE FROM hub_chunk WHERE start = :at"), {"at": START})
        rollups.mark_hours(connection, np.array([[series, START]]), desk.now)
    desk.roll_up()
    assert [row.start for row in rows(desk)] == [START + HOUR]


@pytest.mark.parametrize("wanted", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_ends_with_the_same_roll_ups(desk: Rig, wanted: int) -> None:
    for number in range(6):
        series = desk.series(f"pump-{number}")
        for day in range(5):
            first = START - (9 - day) * DAY
            desk.write(series, range(first, first + DAY, 600_000), range(144))
    url = str(desk.store.engine.url)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.telemetry import rolling; " \
           f"rolling.main({url!r}, {desk.now})"  # fmt: skip
    seeded = random.Random(wanted)
    kills = 0
    for _life in range(60):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"rolling\n"
        time.sleep(seeded.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if process.returncode == -signal.SIGKILL:
            kills += 1
        if kills == wanted:
            break
    assert kills == wanted, "it was always done before it could be killed"
    desk.roll_up()
    found = [tuple(row) for span in "hd" for row in rows(desk, span)]
    with desk.store.transaction() as connection:
        connection.execute(rollup.delete())
        hours = np.array([[row[0], row[2]] for row in found if row[1] == "h"])
        rollups.mark_hours(connection, hours, desk.now)
    desk.roll_up()
    assert found == [tuple(row) for span in "hd" for row in rows(desk, span)]
    assert sum(row[3] for row in found if row[1] == "h") == 6 * 5 * 144
