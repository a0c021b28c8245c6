from __future__ import annotations

import json
import math
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.iot.values import (
    LAST_MS,
    add_attributes,
    add_values,
    bounded,
    cast_value,
    loads,
    name_of,
    time_ms,
)
from hub.sdk.telemetry import CODES, Decoded, Refused

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


def read(values: dict[str, Any]) -> Decoded:
    decoded = Decoded()
    add_values(decoded, "", 5, values, 0)
    return decoded


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (-2.5, -2.5),
        ("3.3", 3.3),
        (" 21.5 ", 21.5),
        ("007", 7.0),
        ("+5", 5.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        (2**63, 2.0**63),
        (10**300, 1e300),
    ],
)
def test_what_looks_like_a_number_is_one(value: object, number: float) -> None:
    decoded = read({"m": value})
    assert decoded.samples == [("", "m", 5, number)]
    assert decoded.texts == []


@pytest.mark.parametrize(
    "text", ["", "RUN", "1,5", "0x10", "1_000", "１２", "1 2", "--1", "1e", "true", ".", "+"]
)
def test_other_text_stays_text(text: str) -> None:
    decoded = read({"m": text})
    assert decoded.texts == [("", "m", 5, text)]
    assert decoded.samples == []


def test_a_boolean_is_a_number_beside_its_text() -> None:
    decoded = read({"on": True, "off": False})
    assert decoded.samples == [("", "on", 5, 1.0), ("", "off", 5, 0.0)]
    assert [one.text for one in decoded.texts] == ["true", "false"]


def test_null_is_skipped_and_nested_values_are_kept_as_their_json() -> None:
    decoded = read({"a": None, "b": {"x": [1, None]}, "c": []})
    assert [(one.metric, one.text) for one in decoded.texts] == [
        ("b", '{"x":[1,null]}'),
        ("c", "[]"),
    ]
    assert decoded.samples == decoded.refused == []


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**400, "NaN", "-Infinity", "inf", "1e400", "a\0b"]
)
def test_what_no_store_can_hold_is_refused(value: object) -> None:
    decoded = read({"m": value})
    assert [(one.place, one.code, one.metric) for one in decoded.refused] == [(0, "invalid", "m")]
    assert decoded.samples == decoded.texts == []


@pytest.mark.parametrize("token", ["NaN", "-Infinity", "1e400", "-1e999", "9" * 400])
def test_a_number_that_is_none_spoils_itself_only(token: str) -> None:
    decoded = read(loads(b'{"a":1,"s":"NaN 1e400 \\" NaN","bad":%b,"z":2}' % token.encode()))
    assert [one[1:] for one in decoded.samples] == [("a", 5, 1.0), ("z", 5, 2.0)]
    assert [one.text for one in decoded.texts] == ['NaN 1e400 " NaN']
    assert [(one.code, one.metric) for one in decoded.refused] == [("invalid", "bad")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a":}',
        b"{'a':1}",
        b"[01]",
        b"[1,]",
        b'"\xff"',
        b'"\\ud800"',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b"[" * 2000,
        b'{"a":NaNa}',
        b'{"a":1e400',
        b'"\\"NaN',
    ],
)
def test_what_is_no_json_is_refused_as_a_whole(body: bytes) -> None:
    refused = loads(body)
    assert isinstance(refused, Refused)
    assert (refused.place, refused.code) == (-1, "malformed")
    assert refused.detail


def test_of_two_equal_keys_the_last_one_counts() -> None:
    assert loads(b'{"a":1,"a":2}') == {"a": 2}


def test_values_nested_too_deeply_to_be_written_are_refused() -> None:
    decoded = read(loads(b'{"a":' + b"[" * 600 + b"]" * 600 + b',"b":1}'))
    assert [one.code for one in decoded.refused] == ["unsupported"]
    assert len(decoded.samples) == 1


def test_long_texts_are_refused() -> None:
    assert cast_value("x" * 65_536).text == "x" * 65_536
    assert cast_value("x" * 65_537).code == "unsupported"
    assert cast_value("1" * 5_000).number is None


@pytest.mark.parametrize("name", ["", " ", "\t", "a\nb", "a\0", "x" * 256, "\ud800", 5, None])
def test_unfit_names_are_refused(name: object) -> None:
    assert name_of(name) == ""


@pytest.mark.parametrize("name", ["a", "温度 1", "a.b/c", "全\u3000角", "x" * 255, "👩\u200d🔧"])
def test_other_names_are_taken(name: str) -> None:
    assert name_of(name) == name


def test_names_are_composed_so_that_one_word_is_one_series() -> None:
    assert name_of("e\u0301") == "\u00e9"
    assert [one[1] for one in read({"e\u0301": 1}).samples] == ["\u00e9"]


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (1795329338228.4375, 1795329338228),
        (1795329338228, 1795329338228),
        ("1795329338228", 1795329338228),
        (0, 0),
        (LAST_MS, LAST_MS),
        (LAST_MS + 1, None),
        (1e300, None),
        (math.nan, None),
        (-1, None),
        (True, None),
        (None, None),
        ("soon", None),
        ([1], None),
        (10**400, None),
    ],
)
def test_times_are_milliseconds_cut_to_whole_ones(value: object, ms: int | None) -> None:
    assert time_ms(value) == ms


def test_attributes_keep_their_kinds() -> None:
    decoded = Decoded()
    add_attributes(decoded, "A", {"fw": "1.10", "n": 3, "gone": None, "": 1, "at": {"x": 1}}, 2)
    assert decoded.attributes == {"A": {"fw": "1.10", "n": 3, "at": {"x": 1}}}
    assert decoded.refused == [Refused(2, "name", "", "A")]


def test_refusals_of_one_message_are_bounded() -> None:
    decoded = bounded(Decoded(refused=[Refused(at, "invalid") for at in range(10_003)]))
    assert len(decoded.refused) == 10_001
    assert decoded.refused[-1] == Refused(-1, "too_many", "3 more parts were refused")


@given(JSON)
def test_whatever_json_says_is_a_reading_or_refused(value: object) -> None:
    body = json.dumps({"m": value}, allow_nan=True).encode()
    tree = loads(body)
    if isinstance(tree, Refused):  # lone surrogates
        return
    decoded = read(tree)
    found = len(decoded.samples) + len(decoded.texts) + len(decoded.refused)
    assert found == {True: 2, False: 1}[isinstance(value, bool)] - (value is None)
    assert all(math.isfinite(one[3]) for one in decoded.samples)
    assert all(one.code in CODES for one in decoded.refused)
    assert all(one.text.encode() is not None for one in decoded.texts)


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_refused(body: bytes) -> None:
    tree = loads(body)
    try:
        assert tree == orjson.loads(body)
    except ValueError:
        assert isinstance(tree, Refused) or loads(body) == tree


@pytest.mark.parametrize(
    "body",
    [
        b'"' * 4_000_000,
        b'"' + b'\\"' * 1_900_000 + b"NaN",
        b"-" * 3_999_000 + b"NaN",
        b"1E1" * 1_300_000 + b"E999",
        b"[" * 25_000_000,
        b'{"":{}},' * 3_000_000,
    ],
)
def test_bodies_made_to_be_slow_are_answered_soon(body: bytes) -> None:
    before = time.thread_time()
    assert isinstance(loads(body), Refused)
    assert time.thread_time() - before < 2
