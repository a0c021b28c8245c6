"""Buckets against what the readings themselves come to, at any state of the roll-ups."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from hub.sdk.errors import ConfigError
from hub.store.tables.telemetry import device, rollup
from hub.store.telemetry.series_queries import SeriesFilter, snapshot
from hub.telemetry import query
from hub.telemetry.query import Asked, Span
from tests.telemetry.rig import DAY, HOUR, Rig, ms, rig

AGGREGATES = ("min", "max", "mean", "count", "sum", "last", "std", "p50", "p95", "p99")
START = ms("2026-03-05T00:00:00")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as opened:
        yield opened


def ask(desk: Rig, span: Span, asked: Asked, *metrics: str) -> list[dict[str, Any]]:
    with snapshot(desk.store) as connection:
        found = query.wanted_series(connection, SeriesFilter(metrics=metrics))
        return query.buckets(connection, found, span, asked, desk.zones)[1]


def vibration(days: float, step: int = 60_000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    ts = START + np.arange(0, int(days * DAY), step) + random.integers(0, step // 2)
    return ts, np.round(np.exp(random.normal(0.5, 0.6, len(ts))), 3) - 1


def local_label(ts: int, every: str, zone: str) -> Any:
    local = datetime.fromtimestamp(ts / 1000, ZoneInfo(zone))
    if every == "1d":
        return local.date()
    if every == "1mo":
        return local.year, local.month
    if every == "6h":
        return local.date(), local.hour // 6
    if every == "90m":
        return local.date(), (local.hour * 60 + local.minute) // 90
    return ts // {"5m": 300_000, "1h": HOUR}[every]


def expected(
    ts: np.ndarray, value: np.ndarray, span: Span, every: str, zone: str
) -> list[dict[str, float]]:
    groups: dict[Any, list[float]] = {}
    for one, number in zip(ts.tolist(), value.tolist(), strict=True):
        if span.since <= one < span.until:
            groups.setdefault(local_label(one, every, zone), []).append(number)
    return [
        {
            "min": min(group),
            "max": max(group),
            "mean": sum(group) / len(group),
            "count": len(group),
            "sum": sum(group),
            "last": group[-1],
            "std": statistics.pstdev(group),
            **{
                f"p{at}": sorted(group)[math.ceil(at * len(group) / 100) - 1] for at in (50, 95, 99)
            },
        }
        for group in groups.values()
    ]


def assert_same(found: dict[str, Any], wanted: list[dict[str, float]]) -> None:
    assert len(found["ts"]) == len(wanted)
    for name in AGGREGATES:
        close = 0.01 if name.startswith("p") else 1e-9
        column = [one[name] for one in wanted]
        assert found[name] == pytest.approx(column, rel=close, abs=1e-9), name


@pytest.mark.parametrize(
    ("zone", "every"),
    [
        ("Asia/Shanghai", "5m"),
        ("Asia/Shanghai", "1d"),
        ("Europe/Berlin", "90m"),
        ("Europe/Berlin", "1d"),
        ("Asia/Kathmandu", "1h"),
        ("Asia/Kathmandu", "6h"),
        ("Asia/Kathmandu", "1d"),
        ("Australia/Lord_Howe", "1d"),
        ("Australia/Lord_Howe", "1mo"),
    ],
)
def test_buckets_are_what_the_readings_come_to(desk: Rig, zone: str, every: str) -> None:
    """Over both changes of the clock in spring, half of it rolled up, some of it late."""
    series = desk.series(zone=zone)
    ts, value = vibration(34, step=1_200_000)
    half = len(ts) // 2
    late = np.zeros(len(ts), dtype=bool)
    late[::97] = True
    early = ~late
    early[half:] = False
    desk.write(series, ts[early], value[early])
    desk.roll_up()
    desk.write(series, ts[~early], value[~early])
    span = Span(START + 17 * 60_000, START + 33 * DAY + 5 * HOUR + 1)
    wanted = expected(ts, value, span, every, zone)
    for _state in ("overlaid", "rolled up", "still"):
        found = ask(desk, span, Asked(every, aggregates=AGGREGATES))[0]
        assert_same(found, wanted)
        desk.roll_up()


def test_a_small_spread_of_large_numbers_is_not_lost(desk: Rig) -> None:
    value = [1e9 + (at % 7) / 10 for at in range(96)]
    start = ms("2026-05-01T00:00:00")
    desk.write(desk.series(zone="UTC"), range(start, start + DAY, 900_000), value)
    for _state in ("overlaid", "rolled up", "still"):
        (found,) = ask(desk, Span(start, start + DAY), Asked("1d", aggregates=("std",)))
        assert found["std"] == pytest.approx([statistics.pstdev(value)], rel=1e-6)
        desk.roll_up()


def test_days_have_23_and_25_hours_where_clocks_change(desk: Rig) -> None:
    series = desk.series(zone="Europe/Berlin")
    for day in ("2026-03-29", "2025-10-26"):
        start = ms(f"{day}T00:00:00") - DAY
        desk.write(series, range(start, start + 3 * DAY, HOUR), [1.0] * 72)
        desk.roll_up()
        found = ask(desk, Span(start, start + 3 * DAY), Asked("1d", aggregates=("count",)))[0]
        assert found["count"][1] == (23 if day == "2026-03-29" else 25)


def test_a_year_by_days_is_read_from_roll_ups_of_days(desk: Rig) -> None:
    series = desk.series()
    ts, value = vibration(10, step=1_800_000)
    desk.write(series, ts, value)
    desk.roll_up()
    with desk.store.transaction() as connection:
        hours = rollup.delete().where(rollup.c.span == "h")
        connection.execute(hours)
    found = ask(desk, Span(START - 8 * HOUR, START + 9 * DAY - 8 * HOUR), Asked("1d"))[0]
    assert len(found["ts"]) == 9


def test_another_zone_gives_other_days_at_once_and_rolls_them_up(desk: Rig) -> None:
    series = desk.series(zone="Asia/Shanghai")
    ts, value = vibration(6, step=600_000)
    desk.write(series, ts, value)
    desk.roll_up()
    span = Span(START, START + 6 * DAY)
    for zone in ("America/St_Johns", "Asia/Tokyo"):
        desk.move("pump", zone)
        wanted = expected(ts, value, span, "1d", zone)
        assert_same(ask(desk, span, Asked("1d", aggregates=AGGREGATES))[0], wanted)
        desk.roll_up()
        assert_same(ask(desk, span, Asked("1d", aggregates=AGGREGATES))[0], wanted)


def test_another_zone_can_be_asked_for(desk: Rig) -> None:
    series = desk.series()
    ts, value = vibration(3, step=600_000)
    desk.write(series, ts, value)
    desk.roll_up()
    span = Span(START, START + 3 * DAY)
    found = ask(desk, span, Asked("1d", aggregates=AGGREGATES, zone="America/Chicago"))[0]
    assert_same(found, expected(ts, value, span, "1d", "America/Chicago"))


def test_percentiles_of_narrow_buckets_are_exact(desk: Rig) -> None:
    series = desk.series()
    ts, value = vibration(1, step=10_000)
    desk.write(series, ts, value)
    span = Span(START, START + DAY)
    found = ask(desk, span, Asked("5m", aggregates=("p95",)))[0]
    wanted = expected(ts, value, span, "5m", "Asia/Shanghai")
    assert found["p95"] == [one["p95"] for one in wanted]


def test_a_span_without_readings_has_no_buckets(desk: Rig) -> None:
    desk.write(desk.series(), [START], [1.0])
    for every in ("5m", "1h", "1d", "1mo"):
        found = ask(desk, Span(START + DAY, START + 3 * DAY), Asked(every, aggregates=AGGREGATES))
        assert found[0]["ts"] == found[0]["p95"] == found[0]["count"] == []


def test_the_width_follows_from_how_many_points_are_wanted(desk: Rig) -> None:
    series = desk.series()
    ts, value = vibration(2, step=60_000)
    desk.write(series, ts, value)
    for most in (10, 100, 1000):
        with snapshot(desk.store) as connection:
            found = query.wanted_series(connection, SeriesFilter())
            span = Span(START, START + 2 * DAY)
            asked = Asked(max_points=most)
            every, answer = query.buckets(connection, found, span, asked, desk.zones)
        assert most / 8 < len(answer[0]["ts"]) <= most, every
        assert max(answer[0]["max"]) == value.max()
        assert min(answer[0]["min"]) == value.min()


def test_a_chart_keeps_every_peak(desk: Rig) -> None:
    series = desk.series()
    ts, value = vibration(3, step=60_000)
    value[1234], value[3999] = 99.0, -99.0
    desk.write(series, ts, value)
    with snapshot(desk.store) as connection:
        found = query.wanted_series(connection, SeriesFilter())
        answer = query.chart(connection, found, Span(START, START + 3 * DAY), 200)[0]
    assert len(answer["ts"]) <= 200
    assert (ts[1234], 99.0) in list(zip(answer["ts"], answer["value"], strict=True))
    assert (ts[3999], -99.0) in list(zip(answer["ts"], answer["value"], strict=True))
    assert answer["ts"][0] == ts[0]
    assert answer["ts"][-1] == ts[-1]


def test_readings_come_in_pages_that_fit_together(desk: Rig) -> None:
    series = desk.series()
    ts, value = vibration(12, step=600_000)
    desk.write(series, ts, value)
    since, got = 0, []
    while since is not None:
        with snapshot(desk.store) as connection:
            found = query.wanted_series(connection, SeriesFilter())
            page = query.readings(connection, found, Span(since, START + 40 * DAY), 500)[0]
        assert len(page["ts"]) <= 500
        got += list(zip(page["ts"], page["value"], strict=True))
        since = page["next"]
    assert got == list(zip(ts.tolist(), value.tolist(), strict=True))


def test_several_series_come_in_one_answer_in_order(desk: Rig) -> None:
    for name in ("b", "a"):
        for metric in ("temp", "vib"):
            desk.write(desk.series(name, metric), [START], [1.0])
    found = ask(desk, Span(START, START + HOUR), Asked("1h"))
    assert [(one["device"], one["metric"]) for one in found] == [
        ("a", "temp"), ("a", "vib"), ("b", "temp"), ("b", "vib"),
    ]  # fmt: skip
    assert len(ask(desk, Span(START, START + HOUR), Asked("1h"), "temp")) == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"every": "5 parsecs"}, "telemetry.every"),
        ({"every": "0m"}, "telemetry.every"),
        ({"every": "9999999mo"}, "telemetry.every"),
        ({"every": "8000d"}, "telemetry.every"),
        ({"every": "1s"}, "telemetry.too_many_points"),
        ({"every": "1h", "aggregates": ("avg",)}, "telemetry.aggregate"),
    ],
)
def test_what_cannot_be_asked_is_said(desk: Rig, change: dict[str, Any], code: str) -> None:
    desk.write(desk.series(), [START], [1.0])
    with pytest.raises(ConfigError) as failed:
        ask(desk, Span(START, START + 30 * DAY), Asked(**change))
    assert failed.value.code == code


def test_unknown_devices_and_metrics_are_named_with_some_that_there_are(desk: Rig) -> None:
    desk.write(desk.series(), [START], [1.0])
    for wanted, code, some in (
        (SeriesFilter(devices=("pmup",)), "telemetry_device.unknown", "pump"),
        (SeriesFilter(devices=("pump",), metrics=("x",)), "telemetry_metric.unknown", "vib"),
    ):
        with snapshot(desk.store) as connection, pytest.raises(ConfigError) as failed:
            query.wanted_series(connection, wanted)
        assert failed.value.code == code
        assert failed.value.params["some"] == some


def test_a_device_that_waits_for_approval_is_not_seen_by_queries(desk: Rig) -> None:
    desk.write(desk.series(), [START], [1.0])
    desk.write(desk.series("stranger"), [START], [2.0])

    def seen(*names: str) -> list[str]:
        with snapshot(desk.store) as connection:
            return [one.device for one in query.wanted_series(connection, SeriesFilter(names))]

    def put(state: str) -> None:
        with desk.store.transaction() as connection:
            connection.execute(
                device.update().values(state=state).where(device.c.name == "stranger")
            )

    put("waiting")
    assert seen() == ["pump"]
    with pytest.raises(ConfigError) as failed:
        seen("stranger")
    assert (failed.value.code, failed.value.params["some"]) == ("telemetry_device.unknown", "pump")
    put("active")
    assert seen("stranger") == ["stranger"]


def test_huge_values_give_no_answer_where_there_is_none(desk: Rig) -> None:
    series = desk.series()
    desk.write(series, [START + 1, START + 2], [1.7e308, 1.7e308])
    asked = Asked("1h", aggregates=("min", "max", "mean", "sum", "std", "p50"))
    for _state in ("points", "roll-ups"):
        found = ask(desk, Span(START, START + HOUR), asked)[0]
        assert found["max"] == [1.7e308]
        assert found["sum"] == found["mean"] == found["std"] == [None]
        assert found["p50"] == [1.7e308]
        desk.roll_up()
