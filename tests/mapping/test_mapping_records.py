"""A mapping as a whole: keys, groups, examples, origin of fields."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.mapping import Library, Mapping, load_mapping
from hub.sdk.errors import ConfigError

Make = Callable[..., Mapping]


def keyed(names: list[str]) -> Mapping:
    fields = {name: name for name in names}
    return load_mapping({"key": names, "fields": fields}, where="t", library=Library([]))


PARTS = st.text("ab|\\ 中0", min_size=1, max_size=6).filter(lambda part: bool(part.strip()))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(PARTS, PARTS), min_size=2, max_size=2, unique=True))
def test_different_parts_never_make_the_same_key(pairs: list[tuple[str, str]]) -> None:
    mapping = keyed(["a", "b"])
    first, second = (mapping.apply({"a": a, "b": b}).key for a, b in pairs)
    assert first is not None
    assert first != second


def test_keys_are_canonical() -> None:
    mapping = keyed(["a", "b"])
    assert mapping.apply({"a": "a|b", "b": "c"}).key == "a\\|b|c"
    assert mapping.apply({"a": "a", "b": "b|c"}).key == "a|b\\|c"
    assert mapping.apply({"a": Decimal("1.50"), "b": 7}).key == "1.5|7"
    assert mapping.apply({"a": "SO-1", "b": "x y"}).key == "SO-1|x y"


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"a": "x"}, "key_empty"),
        ({"a": "x", "b": ""}, "key_empty"),
        ({"a": "x", "b": "　"}, "key_empty"),
        ({"a": "x", "b": "y" * 600}, "key_too_long"),
        ({"a": "x", "b": ["y"]}, "not_text"),
    ],
)
def test_a_record_without_a_whole_key_is_rejected(row: dict[str, Any], code: str) -> None:
    mapped = keyed(["a", "b"]).apply(row)
    assert mapped.outcome == "rejected"
    assert [problem.code for problem in mapped.problems] == [f"mapping.{code}"]


def test_a_rejected_record_still_tells_its_key_when_it_can(make: Make) -> None:
    mapped = make({"n": "n | int"}).apply({"n": "x"})
    assert (mapped.outcome, mapped.key) == ("rejected", "K")


# --- groups -----------------------------------------------------------------------------------

STOCK = {
    "by": ["whcode", "invcode"],
    "sum": ["qty"],
    "min": ["made"],
    "max": ["price"],
    "count": ["batch"],
    "last": ["note"],
}


def test_rows_of_one_group_become_one_row(make: Make) -> None:
    group = make({"a": "qty"}, group=STOCK).group
    assert group is not None
    same = {"whcode": "W1", "invcode": "A"}
    rows = [
        {**same, "qty": "12.50", "made": "2026-02-01", "price": "9", "batch": "1", "name": None},
        {**same, "qty": Decimal("-2.5"), "made": "2026-01-01", "price": "10", "batch": "2"},
        {**same, "qty": None, "name": "球阀", "note": "x"},
        {**same, "name": "other", "note": None},
    ]
    assert group.fold(rows) == {
        "whcode": "W1", "invcode": "A", "qty": Decimal("10.00"), "made": "2026-01-01",
        "price": Decimal(10), "batch": 2, "name": "球阀", "note": "x",
    }  # fmt: skip
    assert group.key(rows[0]) == group.key(rows[1]) == "W1|A"


def test_group_keys_tell_rows_apart_and_never_fail_on_null(make: Make) -> None:
    group = make({"a": "qty"}, group=STOCK).group
    assert group is not None
    keys = [
        group.key({"whcode": a, "invcode": b})
        for a, b in [("a|b", "c"), ("a", "b|c"), (None, "c"), ("", "c"), ("\\0", "c"), (1, "c")]
    ]
    assert len(set(keys)) == len(keys)
    assert group.key({"whcode": Decimal("1.0"), "invcode": "c"}) == keys[-1]


@pytest.mark.parametrize("spec", ["qty", "qty | int", "{qty}", {"expr": "qty + 1"}])
def test_a_sum_of_words_rejects_the_folded_record_naming_the_value(make: Make, spec: Any) -> None:
    mapping = make({"a": spec}, group=STOCK)
    assert mapping.group is not None
    folded = mapping.group.fold([{"whcode": "W1", "qty": 1}, {"qty": "many"}])
    problems = mapping.apply(folded).problems
    assert [(problem.field, problem.value) for problem in problems] == [("a", "many")]


def test_odd_values_in_a_group_key_stay_apart_and_never_fail(make: Make) -> None:
    group = make({"a": "qty"}, group=STOCK).group
    assert group is not None
    odd = [[1], {"a": "|"}, "a\0", "\ud800", b"x", "x" * 70_000, "\\?[1]"]
    assert len({group.key({"whcode": value, "invcode": "c"}) for value in odd}) == len(odd)


def test_problems_can_always_be_stored(make: Make) -> None:
    mapping = make({"a": "a | int", "c": {"link": "customer", "by": "a"}})
    for value in (
        "\ud800",
        "\0",
        "x" * 1000,
        2**80,
        b"x",
        {"n": [1]},
        float("nan"),
        Decimal("sNaN"),
    ):
        mapped = mapping.apply({"a": value})
        assert mapped.outcome == "rejected"
        assert mapping.references({"a": "\0"}) == ()
        for problem in mapped.problems:
            stored = msgspec.json.decode(msgspec.json.encode(problem.value))
            assert "\0" not in str(stored)
            assert len(str(stored)) <= 220
            problem.message("zh").encode()


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ({"sum": ["a"]}, "by: [source fields]"),
        ({"by": ["a"], "summ": ["b"]}, "did you mean 'sum'"),
        ({"by": "a"}, "list"),
        ({"by": ["a"], "sum": ["b"], "max": ["b"]}, "two ways"),
        ({"by": ["a"], "sum": ["a"]}, "two ways"),
    ],
)
def test_a_wrong_group_is_one_clear_line(make: Make, group: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=r".") as caught:
        make({"a": "a"}, group=group)
    assert words in str(caught.value)


# --- examples and origin ----------------------------------------------------------------------


def test_examples_of_a_mapping_pass_or_say_what_differs(make: Make) -> None:
    tests = [
        {"in": {"a": " x ", "q": "1"}, "out": {"a": "x", "q": "1.00"}},
        {"in": {"a": "x", "q": 1}, "out": {"q": 1}},
        {"in": {"a": "x"}, "out": {"a": "x"}},
        {"in": {"a": "skip"}, "skipped": True},
        {"in": {"q": "z"}, "errors": ["a", "q"]},
        {"in": {"a": "x", "c": "C1"}, "links": {"customer": {"C1": 7}}, "out": {"c": "7"}},
        {"in": {"a": "x", "c": "C1"}, "held": True},
        {"name": "wrong", "in": {"a": "x", "q": "2"}, "out": {"q": 3, "a": "y", "nope": 1}},
        {"in": {"a": "x"}, "skipped": True},
        {"in": {"a": "x"}, "errors": ["a"]},
        {"in": {"q": "z"}, "out": {"a": "x"}},
    ]
    mapping = make(
        {
            "a": "a | trim | required",
            "q": {"from": "q", "type": "decimal(9,2)"},
            "c": {"link": "customer", "by": "c"},
        },
        when="a != 'skip'",
        tests=tests,
    )
    failures = mapping.run_tests()
    assert [(failure.example, failure.field) for failure in failures] == [
        ("wrong", "q"),
        ("wrong", "a"),
        ("wrong", "nope"),
        ("tests[8]", "outcome"),
        ("tests[9]", "errors"),
        ("tests[10]", "a"),
    ]
    assert "should be 3" in failures[0].message()
    assert "required" in failures[-1].message()


def test_lineage_tells_sources_steps_and_tables_of_each_field(make: Make) -> None:
    mapping = make(
        {
            "s": {"from": "规模 | trim", "lookup": "size", "default": None},
            "l": {"each": "entry", "mapping": "order_line"},
            "e": {"expr": "a + row['b c']"},
        }
    )
    lineage = mapping.lineage()
    assert lineage["s"].sources == ("规模",)
    assert lineage["s"].steps == ("copy", "trim", "lookup size")
    assert lineage["s"].lookups == ("size",)
    assert lineage["l[].order"].sources == ("parent.code",)
    assert lineage["e"].sources == ("a", "b c")


def test_marked_fields_are_known_on_both_sides_nested_ones_too(make: Make) -> None:
    mapping = make(
        {
            "plain": "name",
            "mobile": {"from": "手机 | trim", "type": "phone", "masked": True},
            "who": {"expr": "a + row['b c']", "masked": True},
            "first": {"first": ["x", {"from": "y", "masked": True}]},
            "lines": {
                "each": "entry",
                "fields": {"card": {"from": "id.no", "masked": True}, "of": "parent.code"},
            },
            "home": {"object": {"street": "addr.street"}, "masked": True},
        }
    )
    assert mapping.apply({"手机": "13812345678", "a": 1, "b c": 2}).outcome == "ok"
    masked = mapping.masked()
    assert masked.target == {
        ("mobile",), ("who",), ("first",), ("lines", "card"), ("home",), ("home", "street"),
    }  # fmt: skip
    assert masked.source == {
        ("手机",), ("a",), ("b c",), ("x",), ("y",), ("entry", "id", "no"), ("addr", "street"),
    }  # fmt: skip


def test_a_mark_that_is_neither_true_nor_false_is_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match="masked"):
        make({"a": {"from": "a", "masked": "yes please"}})
    with pytest.raises(ConfigError, match="did you mean 'masked'"):
        make({"a": {"from": "a", "maskd": True}})


def test_messages_of_problems_exist_in_both_languages(make: Make) -> None:
    problems = make({"a": "a | required", "b": "b | int"}).apply({"b": "x"}).problems
    assert (
        problems[0].message("en")
        == "a: is required but the source has null; fill it in at the source"
    )
    assert "不是数字" in problems[1].message("zh")


def test_every_code_of_this_room_has_a_message() -> None:
    import re

    from hub.sdk.messages import LANGUAGES, templates

    room = Path(__file__).parents[2] / "hub" / "mapping"
    codes = {
        code
        for path in room.glob("*.py")
        for code in re.findall(r'"(mapping\.[a-z_]+)"', path.read_text(encoding="utf-8"))
    }
    assert codes
    for language in LANGUAGES:
        assert codes <= set(templates(language))


# --- fast and careful path --------------------------------------------------------------------

WORDS = ["", " ", "　", "a", " A ", "1", "-1.50", "1e5", "1_0", "NaN", "2026-11-20 10:11:12", "是"]
NASTY = ["a|b", "\\", "e\u0301", "\0", "\ud800", "13812345678", "1-50人", "中文", "x" * 70_000]
PLAIN = (
    st.sampled_from(WORDS + NASTY)
    | st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.decimals()
    | st.sampled_from([0, 1, 1.5, float("nan"), b"x", Decimal("-0.0")])
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(["a", "b", "q"])
    return st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)


ODD = st.recursive(PLAIN, _nested, max_leaves=4)
EVERYTHING: dict[str, Any] = {
    "key": ["k", "copy"],
    "fields": {
        "k": "k | trim",
        "copy": "a",
        "deep": "a.b.0",
        "n": {"from": "a", "type": "decimal(9,2)"},
        "i": "b | int",
        "t": {"from": "b", "type": "datetime", "zone": "Asia/Shanghai"},
        "s": {"from": "a", "lookup": "size", "default": None},
        "f": {"first": ["a", "b", "q"]},
        "text": "{a} {b:.1f} × {q | trim}",
        "e": {"expr": "a if a == b else coalesce(b, q)"},
        "c": {"expr": "q > 3 or a < b"},
        "j": {"expr": "trim(a) + '-' + b"},
        "l": {"each": "l", "mapping": "order_line"},
        "o": {"object": {"p": "a | phone", "q": "b | bool"}},
        "x": {"link": "customer", "by": "q"},
    },
    "when": "empty(skip)",
}


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "b", "q", "k", "l", "skip"]), ODD, max_size=6),
    st.sets(st.sampled_from(sorted(EVERYTHING["fields"])), max_size=4),
)
def test_any_record_gets_an_outcome_and_both_paths_agree(
    folder: Path, row: dict[str, Any], chosen: set[str]
) -> None:
    fields = {
        name: EVERYTHING["fields"][name] for name in ["k", "copy", *sorted(chosen - {"k", "copy"})]
    }
    mapping = load_mapping({**EVERYTHING, "fields": fields}, where="t", library=Library([folder]))
    links = {("customer", "1"): "77"}
    mapped = mapping.apply(row, links)
    assert repr(mapped) == repr(mapping.careful(row, links)[0])
    list(mapping.references(row))
    if mapped.outcome == "ok":
        msgspec.json.encode(mapped.data)
        assert mapped.key
