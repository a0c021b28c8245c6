"""Forms of fields: copies, pipes, types, templates, tables, nested records, links."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.mapping import Mapping
from hub.sdk.errors import ConfigError

Value = Callable[..., Any]
Make = Callable[..., Mapping]


@pytest.mark.parametrize(
    ("spec", "row", "expected"),
    [
        ("a", {"a": "W1"}, "W1"),
        ("a", {}, None),
        ("a.b.0.c", {"a": {"b": [{"c": 7}]}}, 7),
        ("a.b.1.c", {"a": {"b": [{"c": 7}]}}, None),
        ("a.-1", {"a": [1, 2]}, 2),
        (r"a\.b", {"a.b": 1}, 1),
        ("a | trim | upper", {"a": " ab "}, "AB"),
        ("a | lower", {"a": "AB"}, "ab"),
        ("a | trim", {"a": 12}, "12"),
        ("a | default('x | y')", {"a": " "}, "x | y"),
        ("a | default(0)", {}, 0),
        ("a | default(1.50)", {}, Decimal("1.50")),
        ("a | default(null)", {"a": ""}, None),
        ("a | digits", {"a": "No. １2-3"}, "123"),
        ("a | halfwidth", {"a": "Ａ１（　）"}, "A1( )"),
        ("a | nfkc", {"a": "㎏①"}, "kg1"),
        ("a | phone", {"a": "138-1234-5678"}, "+8613812345678"),
        ("a | int", {"a": "12.0"}, 12),
        ("a | int", {"a": " "}, None),
        ("a | decimal(10,2)", {"a": "1,234.565"}, Decimal("1234.57")),
        ("a | bool", {"a": "是"}, True),
        ("a | bool", {"a": 0}, False),
        ("a | bool", {"a": Decimal(1)}, True),
        ("a | bool", {"a": " False "}, False),
        ("a | truncate(2)", {"a": "中文字"}, "中文"),
        ("a | replace('-', '')", {"a": "1-2-3"}, "123"),
        ("a | replace(',', ';')", {"a": "1,2"}, "1;2"),
        ("a | split(',') | first", {"a": " x , y "}, "x"),
        ("a | split(',') | last", {"a": "x,y"}, "y"),
        ("a | split(',')", {"a": "x,,y"}, ["x", "y"]),
        ("a | join('/')", {"a": ["x", None, 2]}, "x/2"),
        ("a | first", {"a": []}, None),
        ("a | cny", {"a": "壹万贰仟叁佰元伍角整"}, Decimal("12300.50")),
        ("a | round(1)", {"a": "2.25"}, Decimal("2.3")),
        ("a | abs", {"a": "-2.5"}, Decimal("2.5")),
        ("a | strip_html", {"a": "<p>Hi <b>you</b></p>"}, "Hi you"),
        ("a | null_if('-')", {"a": "-"}, None),
        ("a | null_if(0)", {"a": Decimal(0)}, None),
        ("a | date", {"a": "2026/3/1 10:00"}, "2026-03-01"),
        ({"value": 5}, {}, 5),
        ({"value": 1.5}, {}, Decimal("1.5")),
        ({"value": ["a", {"b": 1}]}, {}, ["a", {"b": 1}]),
        ({"first": ["a", "b | trim", {"value": "z"}]}, {"a": " ", "b": " q "}, "q"),
        ({"first": ["a", "b"]}, {"a": 0, "b": 1}, 0),
        ({"first": ["a", "b"], "default": "d"}, {}, "d"),
        ({"from": "a", "type": "int", "default": 3}, {"a": ""}, 3),
        ({"from": "a | trim", "type": "text", "required": True}, {"a": 5}, "5"),
        ({"from": "a", "type": "date"}, {"a": "20260301"}, "2026-03-01"),
        ({"from": "a", "enum": {"1": "on", "0": "off"}}, {"a": 1}, "on"),
        ({"from": "a", "enum": {"1": "on"}, "default": "?"}, {"a": "7"}, "?"),
        ({"from": "a", "lookup": "size"}, {"a": " ５１-200人"}, 2),
        ({"from": "a", "lookup": "size"}, {}, None),
        ({"from": "a", "lookup": "size", "default": None}, {"a": "many"}, None),
        ({"from": "a", "keywords": "urgent"}, {"a": "ＬＩＮＥ down，漏电"}, ["safety", "stop"]),
        ({"from": "a", "keywords": "urgent"}, {}, []),
        ({"object": {"c": "a", "d": {"object": {"e": "b"}}}}, {"b": 2}, {"c": None, "d": {"e": 2}}),
        ({"object": {"c": "a"}, "when": "a"}, {}, None),
    ],
)  # fmt: skip
def test_a_field_becomes_what_the_reference_says(
    value: Value, spec: Any, row: dict[str, Any], expected: Any
) -> None:
    found = value(spec, row)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("spec", "row", "code"),
    [
        ("a | required", {}, "required"),
        ("a | required", {"a": "  "}, "required"),
        ("a | trim | required", {"a": "　"}, "required"),
        ("a | int", {"a": "12.5"}, "not_an_integer"),
        ("a | int", {"a": str(2**70)}, "number_too_large"),
        ("a | int", {"a": True}, "not_a_number"),
        ("a | decimal(4,2)", {"a": "123.45"}, "decimal_overflow"),
        ("a | decimal(4,2)", {"a": "NaN"}, "not_a_number"),
        ("a | decimal(4,2)", {"a": "1_0"}, "not_a_number"),
        ("a | decimal(4,2)", {"a": "Infinity"}, "not_a_number"),
        ("a | bool", {"a": "maybe"}, "not_a_bool"),
        ("a | bool", {"a": 2}, "not_a_bool"),
        ("a | phone", {"a": "12345"}, "not_a_phone"),
        ("a | cny", {"a": "壹壹元"}, "not_an_amount"),
        ("a | date", {"a": "2026-02-30"}, "not_a_date"),
        ("a | datetime", {"a": "2026-02-20 10:00:00"}, "zone_needed"),
        ("a | first", {"a": "text"}, "not_a_list"),
        ("a | trim", {"a": {"b": 1}}, "not_text"),
        ("a", {"a": b"bytes"}, "not_plain"),
        ("a", {"a": "x" * 65_537}, "text_too_long"),
        ("a", {"a": "a\0b"}, "text_nul"),
        ("a", {"a": "\ud800"}, "text_surrogate"),
        ("a", {"a": ["ok", {"b": "\0"}]}, "text_nul"),
        ("a", {"a": 2**64}, "number_too_large"),
        ("a", {"a": Decimal("NaN")}, "not_a_number"),
        ("a", {"a": float("inf")}, "not_a_number"),
        ({"from": "a", "enum": {"1": "on"}}, {"a": "2"}, "not_in_lookup"),
        ({"from": "a", "lookup": "size"}, {"a": "lots"}, "not_in_lookup"),
        ({"each": "a", "fields": {"q": "q"}}, {"a": {"q": 1}}, "not_a_list"),
    ],
)
def test_a_value_that_cannot_be_used_is_a_problem_of_its_field(
    value: Value, spec: Any, row: dict[str, Any], code: str
) -> None:
    assert value(spec, row) == [(code, "x")]


def test_copied_values_keep_their_kind_and_text_becomes_nfc(value: Value) -> None:
    row = {"a": {"n": [1, True, None, Decimal("1.10"), 1.5], "e\u0301": "e\u0301"}}
    found = value("a", row)
    assert found == {"n": [1, True, None, Decimal("1.10"), Decimal("1.5")], "é": "é"}
    assert value("a", {"a": "e\u0301"}) == "é"
    assert value("a", {"a": datetime(2026, 1, 1, tzinfo=UTC)}) == "2026-01-01T00:00:00Z"
    assert value("a", {"a": date(2026, 1, 1)}) == "2026-01-01"


@pytest.mark.parametrize(
    ("template", "row", "expected"),
    [
        ("{a} {b} × {q}", {"a": "球阀", "q": Decimal("2.50")}, "球阀 × 2.50"),
        ("{a}", {}, ""),
        ("{{{a}}}", {"a": 1}, "{1}"),
        ("{a.b | upper}!", {"a": {"b": "x"}}, "X!"),
        ("{a:>5}|", {"a": "x"}, "x|"),
        ("n={a:05}", {"a": 42}, "n=00042"),
        ("n={a:.2f}", {"a": "1.005"}, "n=1.01"),
        ("{a}", {"a": Decimal("1E+3")}, "1000"),
        ("{a}-{b}", {"a": True, "b": 0}, "true-0"),
        ("a: {a}\nb: {b}\nend", {"a": 1}, "a: 1\nb:\nend"),
        ("{a}\n{b}\nend", {"a": 1}, "1\nend"),
        ("{a | default('{none}')}", {}, "{none}"),
    ],
)
def test_a_template_fills_values_and_keeps_white_space_tidy(
    value: Value, template: str, row: dict[str, Any], expected: str
) -> None:
    assert value(template, row) == expected


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_a_value_in_a_template_is_never_read_as_template_or_code(
    value: Value, first: str, second: str
) -> None:
    found = value("<{a}|{b}>", {"a": first, "b": second})
    import unicodedata

    raw = " ".join(f"<{first}|{second}>".split())
    if "\0" in raw or any("\ud800" <= sign <= "\udfff" for sign in raw):
        assert isinstance(found, list)
    else:
        assert found == unicodedata.normalize("NFC", raw)


NASTY = st.text(min_size=1, max_size=20).filter(
    lambda name: (
        name.strip() and "\0" not in name and not any("\ud800" <= sign <= "\udfff" for sign in name)
    )
) | st.sampled_from(
    ["__class__", "a'b", 'a"b', "a\nb", "\\", "{x}", "'); import os #", "None", "v0"]
)


@settings(max_examples=80, deadline=None)
@given(NASTY, st.text("abc", min_size=1, max_size=5))
def test_names_are_data_whatever_they_contain(make: Make, name: str, word: str) -> None:
    import re
    import unicodedata

    path = re.sub(r"([\\.|{}])", r"\\\1", name)
    source = name.strip()
    mapping = make({name: {"from": path}})
    mapped = mapping.apply({source: word})
    assert mapped.data is not None
    assert mapped.data[unicodedata.normalize("NFC", name)] == word


def test_every_problem_of_a_record_is_reported(make: Make) -> None:
    mapping = make(
        {
            "a": "a | required",
            "b": {"from": "b", "type": "int"},
            "lines": {"each": "entry", "mapping": "order_line"},
            "o": {"object": {"p": {"from": "p", "type": "phone"}}},
        }
    )
    row = {"b": "x", "p": "1", "entry": [{"qty": 1, "invcode": "A"}, {"qty": "z"}, 5]}
    mapped = mapping.apply(row)
    assert mapped.outcome == "rejected"
    assert mapped.data is None
    assert [(p.field, p.value, p.code.removeprefix("mapping.")) for p in mapped.problems] == [
        ("a", None, "required"),
        ("b", "x", "not_a_number"),
        ("lines[1].item", None, "required"),
        ("lines[1].qty", "z", "not_a_number"),
        ("lines[2]", 5, "not_a_record"),
        ("o.p", "1", "not_a_phone"),
    ]


def test_sub_records_reach_their_parent_and_their_own_when(make: Make) -> None:
    mapping = make({"lines": {"each": "entry", "mapping": "order_line"}})
    rows = [{"invcode": " A ", "qty": "1.5"}, {"invcode": "B", "qty": "0.00"}]
    mapped = mapping.apply({"code": "SO-1", "entry": rows})
    assert mapped.data is not None
    assert mapped.data["lines"] == [{"item": "A", "qty": Decimal("1.50"), "order": "SO-1"}]
    assert mapping.apply({}).data == {"k": "K", "lines": []}
    assert mapping.source_fields == {"entry", "code"}


def test_records_two_levels_down_reach_both_levels_above(make: Make) -> None:
    inner = {
        "a": "parent.n",
        "b": "parent.parent.n",
        "c": {"expr": "parent['parent']['n'] + n"},
    }
    deep = {"each": "parts", "fields": inner}
    mapping = make({"lines": {"each": "lines", "fields": {"parts": deep}}})
    mapped = mapping.apply({"n": 1, "lines": [{"n": 2, "parts": [{"n": 3}]}]})
    assert mapped.data is not None
    assert mapped.data["lines"] == [{"parts": [{"a": 2, "b": 1, "c": Decimal(4)}]}]


def test_each_takes_no_single_record_for_a_list_and_can_be_required(make: Make) -> None:
    mapping = make({"lines": {"each": "e", "fields": {"q": "q"}, "required": True}})
    assert [p.code for p in mapping.apply({}).problems] == ["mapping.required"]
    assert [p.code for p in mapping.apply({"e": {"q": 1}}).problems] == ["mapping.not_a_list"]


LINKS = {"c": {"link": "customer", "by": "custcode | trim", "missing": "hold"}}


def test_a_missing_link_holds_the_record_and_names_what_it_waits_for(make: Make) -> None:
    mapping = make(LINKS)
    held = mapping.apply({"custcode": " C1 "})
    assert (held.outcome, held.data, held.references) == ("held", None, (("customer", "C1"),))
    found = mapping.apply({"custcode": "C1"}, {("customer", "C1"): "77"})
    assert (found.outcome, found.data) == ("ok", {"k": "K", "c": "77"})
    assert mapping.apply({}).data == {"k": "K", "c": None}


@pytest.mark.parametrize(
    ("mode", "outcome"), [("null", "ok"), ("reject", "rejected"), (None, "ok")]
)
def test_a_missing_link_may_also_be_null_or_reject(make: Make, mode: Any, outcome: str) -> None:
    mapping = make({"c": {"link": "customer", "by": "custcode", "missing": mode}})
    assert mapping.apply({"custcode": "C1"}).outcome == outcome


def test_problems_win_over_waiting_for_a_link(make: Make) -> None:
    mapped = make({**LINKS, "n": "n | int"}).apply({"custcode": "C1", "n": "x"})
    assert mapped.outcome == "rejected"


def test_references_are_known_before_the_links_are_read(make: Make) -> None:
    line = {"each": "e", "fields": {"i": {"link": "item", "by": "inv"}}}
    mapping = make({**LINKS, "lines": line, "o": {"object": {"d": LINKS["c"]}}})
    row = {"custcode": "C1", "e": [{"inv": "A"}, {"inv": 7}, {"inv": "A"}, 3]}
    assert list(mapping.references(row)) == [("customer", "C1"), ("item", "A"), ("item", "7")]
    assert mapping.has_links
    assert not make({"a": "a"}).has_links
    assert make({"a": "a"}).references(row) == ()
    assert list(mapping.references({"e": 5, "custcode": {}})) == []


def test_when_skips_a_record_before_anything_else(make: Make) -> None:
    mapping = make({"a": "a | required"}, when="qty != 0")
    assert mapping.apply({"qty": "0.00"}).outcome == "skipped"
    assert mapping.apply({"qty": "1"}).outcome == "rejected"
    failing = make({"a": "a"}, when="qty > 0").apply({"qty": "many", "a": 1})
    assert [(p.field, p.code) for p in failing.problems] == [("when", "mapping.not_a_number")]


def test_a_row_that_is_no_record_is_rejected_not_raised(make: Make) -> None:
    for row in (None, [], "text", 5):
        assert make({"a": "a"}).apply(row).outcome == "rejected"  # type: ignore[arg-type]


def test_the_fast_path_is_taken_for_good_records(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = make(
        {
            "a": "a | trim | required | upper",
            "n": {"from": "n", "type": "decimal(18,4)"},
            "t": {"from": "t", "type": "datetime", "zone": "Asia/Shanghai"},
            "e": {"expr": "coalesce(n, 0) * 2 if matches(a, '^[a-z]+$') else len(a)"},
            "s": "{a} × {n}",
            "l": {"each": "l", "mapping": "order_line"},
            "c": {"from": "c", "lookup": "size", "default": None},
            "f": {"first": ["x", "y"]},
            **LINKS,
        }
    )
    monkeypatch.setitem(mapping.apply.__globals__, "SLOW", None)  # type: ignore[attr-defined]
    row = {
        "a": " 中文",
        "n": "2",
        "t": "2026-11-20 10:11:12",
        "l": [{"invcode": "A", "qty": 1}],
        "y": 5,
    }
    mapped = mapping.apply({**row, "custcode": "C"}, {("customer", "C"): "1"})
    assert mapped.outcome == "ok"


def test_outputs_can_be_written_as_json(make: Make) -> None:
    mapping = make({"a": "a", "t": {"from": "t", "type": "datetime", "zone": "UTC"}})
    mapped = mapping.apply({"a": [1, "x", None, {"b": True}], "t": "2026-01-01"})
    assert json.loads(json.dumps(mapped.data)) == mapped.data


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("a | trm", "did you mean 'trim'"),
        ("a | trim(1)", "write trim"),
        ("a | decimal(18)", "decimal(precision, scale)"),
        ("a | decimal(99, 2)", "precision is 1 to 38"),
        ("a | replace('', 'x')", "must not be empty"),
        ("a |", "cannot read"),
        ("", "no path"),
        ("a..b", "no path"),
        ("{a", "cannot read the template"),
        ("{a:>999}", "width up to 200"),
        ({"from": "a", "typ": "int"}, "did you mean 'type'"),
        ({"form": "a"}, "did you mean 'from'"),
        ({"from": "a", "type": "decmal(1,0)"}, "did you mean 'decimal'"),
        ({"from": "a", "type": "trim"}, "unknown type"),
        ({"from": "a", "type": "datetime", "zone": "Asia/Shangai"}, "Asia/Shanghai"),
        ({"from": "a", "zone": "UTC"}, "add the type"),
        ({"from": "a", "lookup": "sise"}, "did you mean 'size'"),
        ({"from": "a", "lookup": "../../etc/passwd"}, "no table"),
        ({"from": "a", "keywords": "urgnt"}, "did you mean 'urgent'"),
        ({"from": "a", "lookup": "urgent"}, "needs `entries:`"),
        ({"from": "a", "lookup": "size", "enum": {"a": 1}}, "keep one"),
        ({"from": "a", "required": "yes"}, "true or false"),
        ({"each": "a"}, "mapping: NAME"),
        ({"each": "a", "mapping": "order_lin"}, "did you mean 'order_line'"),
        ({"link": "customer"}, "link: customer, by"),
        ({"link": "customer", "by": "c", "missing": "wait"}, "hold, null or reject"),
        ({"object": {}}, "needs 1 to"),
        ({"first": []}, "list"),
        (5, "is no field"),
        ({"value": b"x"}, "cannot be a constant"),
    ],
)
def test_a_mistake_in_a_field_is_one_clear_line(make: Make, spec: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make({"x": spec})
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert "x" in message
    assert caught.value.message("zh") != message


def test_yaml_that_splits_at_commas_inside_parentheses_is_understood(value: Value) -> None:
    assert value({"from": "a", "type": "decimal(18", "4)": None}, {"a": 1}) == Decimal("1.0000")
    assert value({"expr": "min(a", "b)": None}, {"a": 2, "b": 1}) == Decimal(1)
    assert value({"first": ["a | replace('-'", "'')", "b"]}, {"a": "1-2"}) == "12"
