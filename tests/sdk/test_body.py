"""Numbers stay exact, paths find what stands there, templates fill what is named."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sdk.body import MISSING, as_int, decode, dig, encode
from hub.sdk.envelope import classify, holds, shape
from hub.sdk.errors import ConfigError, ContractBroken
from hub.sdk.loading import validate
from hub.sdk.manifest import Envelope
from hub.sdk.pagers import next_link
from hub.sdk.templates import fill, fill_path

NUMBERS = st.one_of(
    st.integers(-(10**25), 10**25), st.decimals(allow_nan=False, allow_infinity=False, places=4)
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(st.characters(exclude_categories=["Cs"]))),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text("abc.$"), inner)),
    max_leaves=12,
)


@given(JSON)
def test_what_is_encoded_is_decoded_again(value: Any) -> None:
    assert decode(encode(value), "utf-8", "x") == value


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    with suppress(ContractBroken):
        decode(raw, "utf-8", "x")


def test_money_is_never_a_float() -> None:
    assert decode(b"[0.1, 1.10, 1e3, 12345678901234567890.123]", "utf-8", "x") == [
        Decimal("0.1"),
        Decimal("1.10"),
        Decimal("1e3"),
        Decimal("12345678901234567890.123"),
    ]
    assert encode({"sum": Decimal("1.10")}) == b'{"sum":1.10}'


@given(JSON, st.text("abc.$01", max_size=8))
def test_any_path_finds_something_or_nothing(body: Any, path: str) -> None:
    dig(body, path)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", {"a": [{"b": 1}], "c.d": 2, "n": None}),
        ("a.0.b", 1),
        ("$.a.0.b", 1),
        ("c.d", 2),
        ("n", None),
        ("a.1", MISSING),
        ("a.b", MISSING),
        ("n.x", MISSING),
        ("x", MISSING),
    ],
)
def test_a_path_names_one_place(path: str, found: Any) -> None:
    assert dig({"a": [{"b": 1}], "c.d": 2, "n": None}, path) == found


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        ("123", 123),
        (" 7 ", 7),
        (Decimal("3.0"), 3),
        (Decimal("3.5"), None),
        (Decimal("1e999999"), None),
        (Decimal("NaN"), None),
        (-1, None),
        ("-1", None),
        (True, None),
        ("", None),
        ("9" * 5000, None),
        (None, None),
        ("１２", None),
    ],
)
def test_a_count_is_a_whole_number_however_written(value: Any, number: int | None) -> None:
    assert as_int(value) == number


# --- templates --------------------------------------------------------------------------------

NAMES = {"n": 5, "s": "a b/ü", "none": None, "yes": True, "record": {"x": 1}, "d": Decimal("1E2")}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{n}", 5),
        ("{none}", None),
        ("n={n}", "n=5"),
        ("{yes}-{d}-{none}", "true-100-"),
        ("@record", {"x": 1}),
        ({"a": ["{n}", {"b": "{s}"}]}, {"a": [5, {"b": "a b/ü"}]}),
        ("{record.x}", 1),
        ("{ n } {}", "{ n } {}"),
        (7, 7),
    ],
)
def test_a_template_is_filled_and_a_lone_name_keeps_its_type(template: Any, value: Any) -> None:
    assert fill(template, NAMES, "x") == value


def test_paths_are_quoted() -> None:
    assert fill_path("/a/{s}/{n}", NAMES, "x") == "/a/a%20b%2F%C3%BC/5"
    with pytest.raises(ConfigError, match="none is empty"):
        fill_path("/a/{none}", NAMES, "x")


def test_an_unknown_name_comes_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'record'"):
        fill("{recrd}", NAMES, "x")


@given(st.text(max_size=30))
def test_a_filled_value_is_never_filled_again(text: str) -> None:
    assert fill("-{s}", {"s": text}, "x") == "-" + text


# --- envelope ---------------------------------------------------------------------------------

ENVELOPE = validate(
    Envelope,
    {
        "ok": {"path": "code", "in": ["0", 0]},
        "empty": {"path": "code", "in": ["none"]},
        "errors": [
            {"status": [400], "match": {"why": "^busy"}, "as": "throttle"},
            {"match": {"why": "(?i)TOKEN"}, "as": "reauth"},
            {"status": [418], "as": "permanent"},
        ],
    },
    "test",
)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"code": "0"}, "ok"),
        (201, {"code": 0}, "ok"),
        (200, {"code": Decimal("0.0")}, "ok"),
        (200, {"code": False}, "reject"),
        (200, {"code": "none"}, "empty"),
        (404, {"code": "none"}, "empty"),
        (500, {"code": "0"}, "retry"),
        (500, {"code": "none"}, "retry"),
        (200, {"code": 5, "why": "bad Token"}, "reauth"),
        (400, {"code": 5, "why": "busy now"}, "throttle"),
        (200, {"code": 5, "why": "busy now"}, "reject"),
        (418, MISSING, "permanent"),
        (401, MISSING, "reauth"),
        (408, MISSING, "retry"),
        (429, MISSING, "throttle"),
        (404, MISSING, "reject"),
        (200, {}, "shape"),
        (200, [], "shape"),
        (200, {"why": "no token"}, "reauth"),
    ],
)
def test_an_answer_means_one_thing(status: int, body: Any, kind: str) -> None:
    assert classify(status, body, ENVELOPE).kind == kind


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("list", [], {}),
        ("object", {}, []),
        ("text", "x", ""),
        ("number", Decimal(1), True),
        ("true", True, 1),
        ("present", 0, None),
        ("absent", None, 0),
    ],
)
def test_a_shape_is_told_from_others(kind: str, good: Any, bad: Any) -> None:
    assert holds(shape("a", kind), {"a": good})
    assert not holds(shape("a", kind), {"a": bad})


# --- links ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "target"),
    [
        (
            '<https://a/x?page=2>; rel="next", <https://a/x?page=9>; rel="last"',
            "https://a/x?page=2",
        ),
        ('<https://a/9>; rel="last", </x?a=1,2;3>; title="a, b"; rel=next', "/x?a=1,2;3"),
        ('</x>; rel="prev next"', "/x"),
        ('</x>; rel="nextish"', None),
        ("", None),
        ("<", None),
    ],
)
def test_the_next_link_is_found_among_others(header: str, target: str | None) -> None:
    assert next_link({"link": header}, "next") == target


@given(st.text('<>;,="relnxt /', max_size=60))
def test_any_link_header_is_read(header: str) -> None:
    next_link({"link": header}, "next")
