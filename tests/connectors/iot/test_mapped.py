from __future__ import annotations

from typing import Any

import orjson
import pytest

from connectors.iot.mapped import decode, mapping_details
from hub.sdk.telemetry import Decoded
from hub.sdk.telemetry_source import JsonMapping

NOW = 1_795_593_600_000


def read(value: Any, mapping: dict[str, Any], zone: str = "", **captures: str) -> Decoded:
    details = mapping_details(JsonMapping.model_validate(mapping), captures)
    return decode(orjson.dumps(value), {**details, "zone": zone}, NOW)


def test_the_device_comes_from_the_topic_or_from_the_message() -> None:
    metrics = {"t": "t"}
    by_topic = read(
        {"t": 1}, {"device": "{line}-{device}", "metrics": metrics}, line="L", device="9"
    )
    assert by_topic.samples == [("L-9", "t", NOW, 1.0)]
    by_path = read({"t": 1, "id": {"sn": 12}}, {"device": "$.id.sn", "metrics": metrics})
    assert by_path.samples == [("12", "t", NOW, 1.0)]


@pytest.mark.parametrize("device", ["{missing}", "$.missing", "{$.nested}", "a{$.flag}"])
def test_a_device_that_is_not_named_is_refused(device: str) -> None:
    value = {"t": 1, "nested": {"x": 1}, "flag": True}
    decoded = read(value, {"device": device, "metrics": {"t": "t"}})
    assert [(one.place, one.code) for one in decoded.refused] == [(0, "no_device")]


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        ("s", 1_795_593_600),
        ("ms", NOW),
        ("us", NOW * 1000),
        ("ns", NOW * 1_000_000),
        ("rfc3339", "2026-11-25T08:00:00Z"),
        ("rfc3339", "2026-11-25T16:00:00"),
    ],
)
def test_the_time_is_in_the_declared_unit(unit: str, value: object) -> None:
    mapping = {"device": "d", "metrics": {"t": "t"}, "time": {"path": "h.at", "unit": unit}}
    decoded = read({"t": 1, "h": {"at": value}}, mapping, "Asia/Shanghai")
    assert decoded.samples == [("d", "t", NOW, 1.0)]


def test_a_message_without_time_has_that_of_its_receipt_and_a_broken_one_is_refused() -> None:
    mapping = {"device": "d", "metrics": {"t": "t"}, "time": {"path": "at", "unit": "s"}}
    assert read({"t": 1}, mapping).samples == [("d", "t", NOW, 1.0)]
    assert [one.code for one in read({"t": 1, "at": "x"}, mapping).refused] == ["bad_time"]


def test_entries_are_read_one_by_one() -> None:
    mapping = {"each": "data.list", "device": "$.n", "metrics": {"t": "v.0", "u": "v.1"}}
    value = {"data": {"list": [{"n": "A", "v": [1, 2]}, {"n": "B", "v": [3]}, 5]}}
    decoded = read(value, mapping)
    assert decoded.samples == [("A", "t", NOW, 1.0), ("A", "u", NOW, 2.0), ("B", "t", NOW, 3.0)]
    assert [(one.place, one.code) for one in decoded.refused] == [(2, "no_device")]
    assert [one.code for one in read({}, mapping).refused] == ["malformed"]


def test_every_number_below_a_path_is_taken_but_what_is_used_otherwise() -> None:
    mapping = {
        "device": "$.id",
        "all_of": "$",
        "time": {"path": "at"},
        "attributes": {"firmware": "info.fw"},
        "metrics": {"speed": "motor.rpm"},
    }
    value = {
        "id": 7,
        "at": NOW,
        "info": {"fw": 12, "site": "NB"},
        "motor": {"rpm": 900, "t": [1.5, "2.5"], "on": True, "x": None},
    }
    decoded = read(value, mapping)
    assert decoded.samples == [
        ("7", "speed", NOW, 900.0),
        ("7", "motor.t.0", NOW, 1.5),
        ("7", "motor.t.1", NOW, 2.5),
        ("7", "motor.on", NOW, 1.0),
    ]
    assert decoded.attributes == {"7": {"firmware": 12}}
    assert decoded.refused == []


def test_names_below_a_path_start_there() -> None:
    decoded = read({"d": {"m": {"a": 1}}, "z": 2}, {"device": "x", "all_of": "d.m"})
    assert decoded.samples == [("x", "a", NOW, 1.0)]


def test_deep_nesting_is_refused_where_it_begins() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = {"a": deep}
    decoded = read({"a": deep, "t": 1}, {"device": "d", "all_of": "$"})
    assert [one.code for one in decoded.refused] == ["unsupported"]
    assert decoded.samples == [("d", "t", NOW, 1.0)]


def test_a_message_in_which_nothing_is_mapped_is_refused() -> None:
    decoded = read({"other": 1}, {"device": "d", "metrics": {"t": "t"}})
    assert [(one.code, one.device) for one in decoded.refused] == [("malformed", "d")]


def test_a_message_that_lost_its_mapping_is_refused() -> None:
    for details in ({}, {"mapping": "{"}, {"mapping": '{"device":"x"}'}):
        assert [one.code for one in decode(b"{}", details, NOW).refused] == ["malformed"]
