from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.iot.broker.filters import Match, first_match, identifier_of, parse_filter
from connectors.iot.broker.known import KnownSessions
from hub.sdk.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "topic", "captures"),
    [
        ("a/b", "a/b", {}),
        ("a/b", "a/c", None),
        ("a/b", "a/b/c", None),
        ("a/+", "a/x", {}),
        ("a/+", "a", None),
        ("a/+", "a/", {}),
        ("a/#", "a", {}),
        ("a/#", "a/b/c", {}),
        ("#", "a/b", {}),
        ("#", "$SYS/load", None),
        ("+/load", "$SYS/load", None),
        ("$SYS/#", "$SYS/load", {}),
        ("plant/{line}/{device}/t", "plant/线1/泵/t", {"line": "线1", "device": "泵"}),
        ("{site}/#", "n/x/y", {"site": "n"}),
        ("/{a}", "/x", {"a": "x"}),
    ],
)
def test_a_filter_takes_topics_as_a_broker_does(
    text: str, topic: str, captures: dict[str, str] | None
) -> None:
    assert parse_filter(text, "s").captures(topic) == captures


@pytest.mark.parametrize(
    "text", ["", "a/#/b", "a#", "a/b+", "{x}y", "{x}/{x}", "{", "a\0", "{1x}", "##", "a/{x-y}"]
)
def test_a_filter_that_no_broker_takes_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_filter(text, "s")
    assert raised.value.code == "telemetry.broker_filter"


def test_the_broker_is_asked_without_names() -> None:
    assert parse_filter("plant/{line}/+/{device}/#", "s").pattern == "plant/+/+/+/#"


def test_the_first_filter_reads_a_message_and_other_copies_are_known_as_such() -> None:
    filters = [parse_filter(text, "s") for text in ("a/{x}", "a/#", "#")]
    one, two, three = (each.identifier for each in filters)
    first = Match(0, {"x": "b"})
    copy = Match(0, {"x": "b"}, copy=True)
    assert first_match(filters, "a/b") == first
    assert first_match(filters, "a/b", [one]) == first
    assert first_match(filters, "a/b", [one, two, three]) == first
    assert first_match(filters, "a/b", [two]) == copy
    assert first_match(filters, "a/b", [three, two]) == copy
    assert first_match(filters, "a/b", [12345]) == first, "of settings before: kept, not guessed"
    assert first_match(filters, "a/b/c", [two]) == Match(1, {})
    assert first_match(filters[:1], "z") is None


@given(st.text(max_size=50))
def test_identifiers_are_what_the_protocol_allows(text: str) -> None:
    assert 1 <= identifier_of(text) <= 268_435_455


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_filter_is_refused_or_matches_without_trouble(text: str, topic: str) -> None:
    try:
        found = parse_filter(text, "s")
    except ConfigError:
        return
    found.captures(topic)


def test_sessions_are_remembered_until_they_are_left(tmp_path: Path) -> None:
    path = tmp_path / ".hub" / "sessions.json"
    known = KnownSessions(path)
    assert known.begin(("c", "hub-0"), ["a", "b"]) == []
    known.settle(("c", "hub-0"), ["a", "b"])
    known = KnownSessions(path)
    assert known.begin(("c", "hub-0"), ["b"]) == ["a"]
    assert KnownSessions(path).begin(("c", "hub-0"), ["b"]) == ["a"], "not settled yet"
    known.settle(("c", "hub-0"), ["b"])
    assert KnownSessions(path).others([]) == {("c", "hub-0"): ("b",)}
    assert KnownSessions(path).others([("c", "hub-0")]) == {}
    known.forget(("c", "hub-0"))
    assert json.loads(path.read_text()) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', '[{"connection": 1}]', "null"])
def test_a_spoilt_file_of_sessions_means_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "sessions.json"
    path.write_text(text)
    assert KnownSessions(path).others([]) == {}
