"""The thread beside the projecting: roll-ups, zones that changed, and once a day what is old."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hub.store.tables.telemetry import chunk, quarantine, rollup
from hub.store.telemetry.quarantine import Quarantined, add_quarantined
from hub.telemetry import rollups, upkeep
from hub.telemetry.calendar import Zones
from hub.telemetry.upkeep import Keeping, Upkeep
from tests.telemetry.rig import DAY, HOUR, Rig, rig


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(rollups, "QUIET_MS", 0)
    monkeypatch.setattr(upkeep, "TURN_SECONDS", 0.02)
    monkeypatch.setattr(upkeep, "_HOUSE_FIRST_SECONDS", 0)
    with rig(tmp_path) as opened:
        opened.now = time.time_ns() // 1_000_000
        today = opened.now // DAY * DAY
        ts = range(today - 20 * DAY, today - 5 * DAY, HOUR)
        opened.write(opened.series(), ts, [1.0] * len(ts))
        yield opened


def count(desk: Rig, table: sa.Table) -> int:
    with desk.store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_it_rolls_up_and_drops_old_days(desk: Rig, tmp_path: Path) -> None:
    keeping = Keeping(desk.zones, days=10, archive="old", folder=tmp_path)
    working = Upkeep(desk.store, keeping, "one")
    working.start()
    try:
        until(lambda: count(desk, chunk) == 5 * 24)
        until(lambda: count(desk, rollup) >= 15 * 24 + 14)
    finally:
        working.stop()
    assert len(list((tmp_path / "old").glob("*/*/*.parquet"))) == 10


def test_what_was_refused_goes_in_its_time(desk: Rig) -> None:
    def refused(seq: int, days: int) -> Quarantined:
        texts = ("iot", "gw", "d", "m", "invalid", "", "iot.readings")
        return Quarantined(0, seq, 0, desk.now - days * DAY, *texts, b"{}")

    with desk.store.transaction() as connection:
        old = [refused(seq, 8) for seq in range(2 * upkeep._ROWS)]
        add_quarantined(connection, [*old, refused(9999, 6)])
    working = Upkeep(desk.store, Keeping(desk.zones, days=400, quarantine_days=7), "one")
    working.start()
    try:
        until(lambda: count(desk, quarantine) == 1)
    finally:
        working.stop()


def test_of_two_one_works_and_the_other_takes_over(
    desk: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (Upkeep(desk.store, Keeping(desk.zones), name) for name in ("one", "two"))
    assert first._is_ours()
    assert not second._is_ours()
    first.start()
    first.stop()
    monkeypatch.setattr(second, "_asked_at", -100.0)
    assert second._is_ours()


def test_trouble_is_told_once_and_drops_nothing(
    desk: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "_HOUSE_AGAIN_SECONDS", 0)
    (tmp_path / "file").write_text("no folder")
    keeping = Keeping(Zones("UTC"), days=10, archive="file", folder=tmp_path)
    working = Upkeep(desk.store, keeping, "one")
    with caplog.at_level(logging.WARNING, "hub.telemetry"):
        working.start()
        until(lambda: count(desk, rollup) >= 15 * 24)
        time.sleep(0.3)
        working.stop()
    assert count(desk, chunk) == 15 * 24
    assert [record.message for record in caplog.records if "archive" in record.message]
    assert len(caplog.records) == 1


def test_a_mistake_in_one_turn_does_not_end_the_work(
    desk: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, broken = upkeep.roll_up, [True]

    def roll_up(*arguments: Any) -> int:
        if broken:
            raise ValueError(broken.pop())
        return real(*arguments)

    monkeypatch.setattr(upkeep, "roll_up", roll_up)
    working = Upkeep(desk.store, Keeping(desk.zones), "one")
    working.start()
    try:
        until(lambda: count(desk, rollup) > 0)
    finally:
        working.stop()
    assert "ValueError" in caplog.text
