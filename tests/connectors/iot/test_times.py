from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.iot.times import read_time
from hub.sdk.telemetry_source import TimeUnit


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-25T08:00:00Z", 1795593600000),
        ("2026-11-25t16:00:00.1239999+08:00", 1795593600123),
        ("2026-11-25 03:30:00.5-04:30", 1795593600500),
        ("2016-12-31T23:59:60Z", 1483228800000),
        ("1795593600000.9", 1795593600000),
    ],
)
def test_text_with_an_offset_is_a_time(text: str, ms: int) -> None:
    assert read_time(text, "") == ms


def test_text_without_offset_needs_a_declared_zone() -> None:
    assert read_time("2026-11-25T16:00:00", "") == "no_zone"
    assert read_time("2026-11-25T16:00:00", "Asia/Shanghai") == 1795593600000


@pytest.mark.parametrize(
    "value",
    [
        "2026-02-30T00:00:00Z",
        "2026-11-25",
        "2026-11-25T24:00:00Z",
        "2026-11-25T00:00Z",
        "0001-01-01T00:00:00+08:00",
        "9999-12-31T23:59:59-08:00",
        "1969-12-31T23:59:59Z",
        "2026-11-25T00:00:00+24:00",
        "２０２６-11-25T00:00:00Z",
        "yesterday",
        "",
        True,
        [],
        {},
        None,
        -1,
        1e300,
    ],
)
def test_what_is_no_time_is_refused(value: object) -> None:
    units: tuple[TimeUnit, ...] = ("ns", "us", "ms", "s", "rfc3339")
    for unit in units if value != 1e300 else ("ms", "s", "rfc3339"):
        assert read_time(value, "Asia/Shanghai", unit) == "bad_time"


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (1_700_000_001_001_999_999, "ns"),
        ("1700000001001999999", "ns"),
        (1_700_000_001_001_999, "us"),
        (1_700_000_001.001, "s"),
        ("1700000001.0019", "s"),
        (1_700_000_001_001, "ms"),
    ],
)
def test_units_come_to_milliseconds_with_fractions_cut_off(value: object, unit: TimeUnit) -> None:
    assert read_time(value, "", unit) == 1_700_000_001_001


def test_a_number_is_no_text() -> None:
    assert read_time(1_700_000_001_001, "", "rfc3339") == "bad_time"


@given(st.integers(0, 253_402_300_799_999), st.integers(-1439, 1439))
def test_every_time_reads_back(ms: int, minutes: int) -> None:
    offset = timedelta(minutes=minutes)
    utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    try:
        wall = utc.replace(tzinfo=None) + offset
    except OverflowError:
        return
    sign = "-" if minutes < 0 else "+"
    zone = f"{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    assert read_time(wall.isoformat(timespec="milliseconds") + zone, "") == ms


@given(st.text(max_size=40) | st.integers() | st.floats())
def test_any_value_is_a_time_or_refused(value: object) -> None:
    units: tuple[TimeUnit, ...] = ("ns", "us", "ms", "s", "rfc3339")
    for unit in units:
        found = read_time(value, "", unit)
        assert found in ("bad_time", "no_zone") or isinstance(found, int)
