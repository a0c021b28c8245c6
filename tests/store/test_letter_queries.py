"""Looking at dead letters: filters, paging that does not shift, and quick with a million."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from hub.store import letter_queries
from hub.store.database import Store
from hub.store.dead_letters import DeadLetter, DeadLetterKind, put_dead_letters
from hub.store.letter_queries import LetterFilter, Place, count_reasons, list_letters, load_letter
from hub.store.tables import dead_letter


def letter(key: str, **more: object) -> DeadLetter:
    problem = {"field": "name", "value": None, "code": "mapping.required", "message": "?"}
    base = DeadLetter(
        DeadLetterKind.RECORD, "f", 1, key, None, [problem], "{}", sink_ref="crm/customer"
    )
    return replace(base, **more)  # type: ignore[arg-type]  # fields of the class


def fill(store: Store, number: int) -> None:
    for n in range(number):
        with store.transaction() as connection:
            put_dead_letters(connection, [letter(f"K{n}")], 1_000 + n // 3)


def test_pages_follow_each_other_without_gap_or_repeat_while_letters_come(store: Store) -> None:
    fill(store, 10)
    seen: list[str] = []
    after: Place | None = None
    for round_no in range(10):
        with store.reading() as connection:
            page = list_letters(connection, LetterFilter(state="open"), 3, after)
        seen += [row["source_key"] for row in page.letters]
        after = page.after
        with store.transaction() as connection:
            put_dead_letters(connection, [letter(f"new{round_no}")], 5_000 + round_no)
        if after is None:
            break
    assert sorted(seen) == sorted(f"K{n}" for n in range(10))


@pytest.mark.parametrize("narrow", [LetterFilter(text="k7"), LetterFilter(text="k7", state="open")])
def test_a_narrow_filter_looks_at_a_bounded_number_and_says_where_to_go_on(
    store: Store, narrow: LetterFilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letter_queries, "MOST_LOOKED_AT", 4)
    fill(store, 20)
    found: list[str] = []
    after: Place | None = None
    pages = 0
    while pages == 0 or after is not None:
        with store.reading() as connection:
            page = list_letters(connection, narrow, 5, after)
        found += [row["source_key"] for row in page.letters]
        after, pages = page.after, pages + 1
        assert pages < 12
    assert found == ["K7"]


def test_every_filter_names_its_letters(store: Store) -> None:
    other = {"field": "size", "value": "x", "code": "mapping.number", "message": "?"}
    with store.transaction() as connection:
        put_dead_letters(connection, [letter("A"), letter("B%_", problems=[other])], 1_000)
        put_dead_letters(
            connection,
            [letter("C", kind=DeadLetterKind.DELIVERY, flow_id="g", sink_ref="erp/order",
                    vendor_code="42")],
            2_000,
        )  # fmt: skip
    cases = {
        LetterFilter(flow="g"): "C",
        LetterFilter(kind="delivery"): "C",
        LetterFilter(sink="erp/order"): "C",
        LetterFilter(connection="erp", flows=()): "C",
        LetterFilter(connection="e", flows=()): None,
        LetterFilter(connection="x", flows=("g",)): "C",
        LetterFilter(field="size"): "B%_",
        LetterFilter(code="mapping.number"): "B%_",
        LetterFilter(vendor_code="42"): "C",
        LetterFilter(text="b%"): "B%_",
        LetterFilter(text="'; DROP TABLE"): None,
        LetterFilter(since_ms=2_000): "C",
        LetterFilter(state="discarded"): None,
    }
    with store.reading() as connection:
        for wanted, key in cases.items():
            rows = list_letters(connection, wanted, 10).letters
            assert [row["source_key"] for row in rows] == ([] if key is None else [key]), wanted
        reasons = count_reasons(connection, LetterFilter(state="open"))
    found = {(one["flow_id"], one["kind"], one["error_code"]): one["letters"] for one in reasons}
    assert found == {
        ("f", "record", "mapping.required"): 1,
        ("f", "record", "mapping.number"): 1,
        ("g", "delivery", "mapping.required"): 1,
    }


def test_a_letter_is_found_by_the_beginning_of_its_id_alone(store: Store) -> None:
    fill(store, 3)
    with store.reading() as connection:
        whole = list_letters(connection, LetterFilter(), 1).letters[0]["id"]
        assert load_letter(connection, whole) is not None
        assert load_letter(connection, whole[:10]) is not None
        for wrong in ("", whole[:3], "zzzzzzzz", "%", "______", whole + "0", "0" * 5000):
            assert load_letter(connection, wrong) is None


@pytest.mark.parametrize("text", ["", "-", "1", "x-1", "-1-a", "1" * 30 + "-a", "１-a"])
def test_what_is_no_place_in_the_list_is_none(text: str) -> None:
    assert Place.read(text) is None


def test_a_letter_that_gets_a_new_reason_keeps_its_place_until_it_was_closed(store: Store) -> None:
    with store.transaction() as connection:
        put_dead_letters(connection, [letter("A")], 1_000)
        put_dead_letters(connection, [letter("A", attempts=2)], 2_000)
    with store.reading() as connection:
        (row,) = list_letters(connection, LetterFilter(), 10).letters
    assert (row["opened_at"], row["updated_at"], row["attempts"]) == (1_000, 2_000, 2)
    with store.transaction() as connection:
        connection.execute(dead_letter.update().values(state="resolved"))
        put_dead_letters(connection, [letter("A")], 3_000)
    with store.reading() as connection:
        (row,) = list_letters(connection, LetterFilter(), 10).letters
    assert (row["created_at"], row["opened_at"]) == (1_000, 3_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_page_of_a_million_letters_answers_in_time(store: Store) -> None:
    if not store.embedded:
        pytest.skip("measured on SQLite")
    insert = """
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999999)
        INSERT INTO hub_dead_letter (id, kind, flow_id, run_id, source_key, state, field_name,
            error_code, problems_text, payload_text, attempts, sink_ref, created_at, opened_at,
            updated_at)
        SELECT lower(hex(randomblob(16))), 'record', 'f' || (i % 5), 1, 'KEY' || i,
            CASE i % 10 WHEN 0 THEN 'resolved' ELSE 'open' END, 'name',
            CASE i WHEN 3 THEN 'rare.code' ELSE 'mapping.required' END,
            '[{"field":"name","value":null,"code":"c","message":"m"}]',
            '{"filler":"' || hex(zeroblob(200)) || '"}', 0, 'crm/customer', i, i, i
        FROM n
    """
    with store.transaction() as connection:
        connection.exec_driver_sql(insert)
    cases = {
        "newest": LetterFilter(state="open"),
        "all states": LetterFilter(),
        "one flow": LetterFilter(state="open", flow="f3"),
        "a rare code": LetterFilter(state="open", code="rare.code"),
        "text nobody has": LetterFilter(text="nothing"),
        "one sink": LetterFilter(state="open", sink="crm/customer"),
        "until": LetterFilter(state="open", until_ms=500),
    }
    slow = {}
    for name, wanted in cases.items():
        for after in (None, Place(500_000, "8")):
            began = time.perf_counter()
            with store.reading() as connection:
                list_letters(connection, wanted, 20, after)
            took = time.perf_counter() - began
            if took >= 0.3:
                slow[name] = took
    assert slow == {}
