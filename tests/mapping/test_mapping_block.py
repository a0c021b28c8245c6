"""The `mapping:` block and its files: mistakes, tables, contract, versions."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hub.mapping import Library, Mapping, fields_seen, load_mapping
from hub.sdk.errors import ConfigError
from tests.mapping.tables import TABLES, write_tables

Make = Callable[..., Mapping]


# --- the block itself -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"key": ["a"], "fields": {"a": "a"}, "wehn": "a"}, "did you mean 'when'"),
        ({"key": ["b"], "fields": {"a": "a"}}, "key names b"),
        ({"key": [], "fields": {"a": "a"}}, "key: [field"),
        ({"fields": {"a": "a"}}, "key: [field"),
        ({"key": ["a"]}, "needs 1 to"),
        ({"key": ["a"], "fields": {"a\0": "a"}}, "field name"),
        ({"key": ["a"], "fields": {"a": "a"}, "when": 5}, "is no expression"),
        (
            {"key": ["a"], "fields": {"a": "a"}, "contract": {"new_field": "report"}},
            "new_source_field",
        ),
        ({"key": ["a"], "fields": {"a": "a"}, "contract": {"type_error": "ignore"}}, "type_error"),
        ({"key": ["a"], "fields": {"a": "a"}, "tests": [{"in": {}}]}, "a test is"),
        (
            {"key": ["a"], "fields": {"a": "a"}, "tests": [{"in": {}, "uot": {}}]},
            "did you mean 'out'",
        ),
        ({"key": ["a"], "fields": {"a": "a"}, "tests": {}}, "list"),
    ],
)
def test_a_mistake_in_the_block_is_one_clear_line(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_mapping(spec, where="flow.yaml: mapping", library=Library([]))
    assert words in str(caught.value)
    assert "flow.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mapping_that_uses_itself_is_refused(tmp_path: Path) -> None:
    write_tables(tmp_path, {"loop.yaml": "fields: {a: {each: a, mapping: loop}}\n"})
    spec = {"key": ["k"], "fields": {"k": "k", "l": {"each": "l", "mapping": "loop"}}}
    with pytest.raises(ConfigError, match="use itself"):
        load_mapping(spec, where="t", library=Library([tmp_path]))


def test_files_come_from_the_first_folder_that_has_them(tmp_path: Path) -> None:
    own = write_tables(tmp_path / "own", {"lookups/size.yaml": "entries: {S: 9}\n"})
    shipped = write_tables(tmp_path / "shipped")
    library = Library([own, shipped])
    assert library.lookups.get("size").find("S") == 9
    assert library.lookups.keywords("urgent").find("停机") == ["stop"]
    assert library.mapping("order_line")["mapping"] == "order_line"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("entries: {}", "at least one entry"),
        ("entrys: {a: 1}", "needs `entries:`"),
        ("entries: {a: 1}\nnormalise: [trim]", "did you mean 'normalize'"),
        ("entries: {a: 1}\nnormalize: [trimm]", "did you mean 'trim'"),
        ("entries: {a: 1, ' a': 2}\nnormalize: [trim]", "stands twice"),
        ("entries: {a: [1]}", "cannot be a constant"),
        ('entries: {a: "\\ud800"}', "cannot be a constant"),
        ('entries: {a: "\\0"}', "cannot be a constant"),
    ],
)
def test_a_wrong_table_is_one_clear_line(tmp_path: Path, table: str, words: str) -> None:
    write_tables(tmp_path, {"lookups/t.yaml": table})
    with pytest.raises(ConfigError) as caught:
        Library([tmp_path]).lookups.get("t", "x")
    assert words in str(caught.value)


def test_table_words_may_be_numbers_and_values_stay_exact(tmp_path: Path) -> None:
    write_tables(tmp_path, {"lookups/t.yaml": "entries: {1: 0.1, b: null}\n"})
    table = Library([tmp_path]).lookups.get("t")
    assert [table.find(word) for word in ("1", 1, Decimal(1), "b")] == [
        Decimal("0.1"), Decimal("0.1"), Decimal("0.1"), None,
    ]  # fmt: skip


# --- contract ---------------------------------------------------------------------------------


def test_new_and_missing_source_fields_are_found_per_page(make: Make) -> None:
    contract = {"new_source_field": "report", "missing_source_field": "hold", "known": ["extra"]}
    mapping = make({"a": "a", "b": "b"}, contract=contract)
    page = [{"a": 1}, {"a": 1, "extra": 2}, {"a": 1, "surprise": 3}]
    found = [(f.kind, f.field, f.action) for f in mapping.contract_findings(page)]
    assert found == [
        ("new_source_field", "surprise", "report"),
        ("missing_source_field", "b", "hold"),
    ]
    assert mapping.contract_findings([]) == []
    again = mapping.contract_findings(page, frozenset({"a", "surprise"}))
    assert again == []  # b was never there, surprise no longer is one
    assert "surprise" in mapping.contract_findings(page)[0].message("zh")


def test_without_a_contract_shapes_are_not_compared(make: Make) -> None:
    assert make({"a": "a"}).contract_findings([{"z": 1}]) == []
    assert (
        make({"a": "a"}, contract={"new_source_field": "fail"}).contract_findings([{"z": 1}]) == []
    )
    assert fields_seen([{"a": 1}, {"b": 1}, {"b": 2}]) == {"a", "b"}


def test_source_fields_hold_every_name_the_mapping_reads(make: Make) -> None:
    mapping = make(
        {
            "a": "a.b | trim",
            "b": "{c} {d | upper}",
            "e": {"expr": "f + row['g']['x']"},
            "h": {"link": "x", "by": "i"},
            "j": {"each": "l", "fields": {"m": "inner", "n": "parent.o"}},
            "p": {"object": {"q": "r"}},
        },
        when="s",
        group={"by": ["t"], "sum": ["u"]},
    )
    assert mapping.source_fields == set("acdfgilorstu")


# --- versions ---------------------------------------------------------------------------------

SPEC: dict[str, Any] = {
    "key": ["k"],
    "fields": {
        "k": "k",
        "s": {"from": "s", "lookup": "size", "default": None},
        "t": {"from": "t", "keywords": "urgent"},
        "l": {"each": "l", "mapping": "order_line"},
    },
}


def version(folder: Path, spec: dict[str, Any]) -> str:
    return load_mapping(spec, where="t", library=Library([folder])).version


def test_the_version_follows_everything_that_decides_the_output(tmp_path: Path) -> None:
    write_tables(tmp_path)
    first = version(tmp_path, SPEC)
    assert first == version(tmp_path, SPEC)
    assert first == version(tmp_path, {**SPEC, "tests": [{"in": {"k": 1}, "out": {"k": 1}}]})
    assert first != version(tmp_path, {**SPEC, "when": "k"})
    seen = {first}
    for name, content in TABLES.items():
        write_tables(tmp_path, {name: content.replace("2", "3").replace("漏电", "冒烟")})
        seen.add(version(tmp_path, SPEC))
    assert len(seen) == 1 + len(TABLES)
