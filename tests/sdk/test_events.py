"""The body of an event: whatever arrives becomes records or one clear reason why not."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sdk.errors import ContractBroken
from hub.sdk.events import MAX_ROWS, decode_event, rows_of
from hub.sdk.loading import validate
from hub.sdk.manifest_hooks import Event

FORM = "application/x-www-form-urlencoded"


def decoded(body: bytes, media_type: str = "application/json") -> Any:
    return decode_event(body, media_type, "shop")


def event(**parts: Any) -> Event:
    return validate(Event, {"key": ["id"], **parts}, "test")


# --- decoding ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "application/json",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; charset=UTF8; boundary=x",
        "application/cloudevents+json",
        "text/plain",
        "application/json;",
        "APPLICATION/JSON; CHARSET=us-ascii",
    ],
)
def test_json_is_read_under_every_name_senders_give_it(media_type: str) -> None:
    assert decoded('{"名": 0.10}'.encode(), media_type) == {"名": Decimal("0.10")}


@pytest.mark.parametrize("charset", ["gbk", "GB2312", "gb18030", "big5"])
def test_a_declared_charset_is_decoded(charset: str) -> None:
    body = '{"name": "上海"}'.encode(charset)
    assert decoded(body, f"application/json; charset={charset}") == {"name": "上海"}


def test_gbk_that_is_not_declared_is_refused() -> None:
    with pytest.raises(ContractBroken) as caught:
        decoded('{"name": "上海"}'.encode("gbk"))
    assert caught.value.code == "http.undecodable"


@pytest.mark.parametrize("charset", ["utf-16", "utf-7", "rot13", "zip", "x" * 500, "上"])
def test_any_other_charset_is_refused_by_name(charset: str) -> None:
    with pytest.raises(ContractBroken) as caught:
        decoded(b"{}", f"application/json; charset={charset}")
    assert caught.value.code in ("hook.charset", "http.undecodable")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "http.not_json"),
        (b"\0", "http.not_json"),
        (b"<xml/>", "http.not_json"),
        (b'{"a": NaN}', "http.not_json"),
        (b'{"a": Infinity}', "http.not_json"),
        (b"{'a': 1}", "http.not_json"),
        (b'{"a": 1}{"a": 2}', "http.not_json"),
        (b'{"a": "\\ud800"}', "http.not_json"),
        (b'{"a": "\xed\xa0\x80"}', "http.undecodable"),
        (b'{"a": "\xff"}', "http.undecodable"),
        (b"[" * 10_000 + b"]" * 10_000, "http.too_deep"),
        (b'{"a": 1e999999999999999999999}', "http.number_range"),
        (b"\xff\xfe{\0}\0", "http.not_json"),
    ],
)
def test_a_body_that_is_no_json_is_refused_without_being_shown(body: bytes, code: str) -> None:
    with pytest.raises(ContractBroken) as caught:
        decoded(body)
    assert caught.value.code == code
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": 1e400}', {"a": Decimal("1e400")}),
        (b'{"a": "\\u0000"}', {"a": "\0"}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}),
        (b'{"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        (b"null", None),
        (b"[]", []),
        (b' "text" ', "text"),
    ],
)
def test_odd_but_legal_bodies_are_read_exactly(body: bytes, found: Any) -> None:
    assert decoded(body) == found


def test_a_form_is_read_as_fields() -> None:
    assert decoded(b"id=1&name=%E4%B8%8A+%26&empty=", FORM) == {
        "id": "1",
        "name": "上 &",
        "empty": "",
    }
    assert decoded(b"name=%C9%CF%BA%A3", f"{FORM}; charset=gbk") == {"name": "上海"}
    assert decoded(b"", FORM) == {}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"name=%C9%CF", "http.undecodable"),
        ("name=上".encode(), "http.undecodable"),
        (b"&".join(b"a=1" for _ in range(1001)), "hook.form"),
    ],
)
def test_a_broken_form_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(ContractBroken) as caught:
        decoded(body, FORM)
    assert caught.value.code == code


@given(body=st.binary(max_size=300), media_type=st.text(max_size=60))
def test_noise_is_read_or_refused_and_never_breaks_the_reader(body: bytes, media_type: str) -> None:
    for media in (media_type, FORM, f"application/json; charset={media_type}", "a/b;" + media_type):
        with suppress(ContractBroken):
            decoded(body, media)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


@given(JSON)
def test_every_json_value_is_read_as_it_was_written(value: Any) -> None:
    assert decoded(msgspec.json.encode(value)) == value


# --- records ----------------------------------------------------------------------------------


def test_records_are_one_object_or_a_list_at_a_path() -> None:
    assert rows_of(event(), {"id": 1}).rows == [{"id": 1}]
    assert rows_of(event(data="data.items"), {"data": {"items": [{"id": 1}, {"id": 2}]}}).rows == [
        {"id": 1},
        {"id": 2},
    ]
    assert rows_of(event(), [{"id": 3}]).rows == [{"id": 3}]
    assert rows_of(event(data="items"), {"items": []}).rows == []


def test_a_body_of_another_kind_holds_no_records_and_no_problems() -> None:
    only = event(match={"path": "type", "in": ["order"]}, data="order")
    assert rows_of(only, {"type": "order", "order": {"id": 1}}).rows == [{"id": 1}]
    for other in ({"type": "invoice"}, {}, [], None, "order", 1):
        found = rows_of(only, other)
        assert (found.rows, found.problems) == ([], [])


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": "x"}, {"data": 1}, [], None, "x"])
def test_records_that_are_not_where_they_should_be_are_a_problem(body: Any) -> None:
    found = rows_of(event(data="data"), body)
    assert found.rows == []
    ((kept, error),) = found.problems
    assert (kept, error.code) == (body, "hook.no_data")


def test_an_item_that_is_no_record_does_not_stop_the_others() -> None:
    found = rows_of(event(), [{"id": 1}, "x", None, {"id": 2}, [1]])
    assert found.rows == [{"id": 1}, {"id": 2}]
    assert [item for item, _ in found.problems] == ["x", None, [1]]
    assert {error.code for _, error in found.problems} == {"hook.not_an_object"}


def test_ten_thousand_records_fit_and_one_more_does_not() -> None:
    rows = [{"id": n} for n in range(MAX_ROWS)]
    assert len(rows_of(event(), rows).rows) == MAX_ROWS
    found = rows_of(event(), [*rows, {"id": -1}])
    assert found.rows == []
    ((kept, error),) = found.problems
    assert kept == {"rows": MAX_ROWS + 1}
    assert error.code == "hook.too_many_rows"
    assert "10001" in str(error)


@given(JSON, st.sampled_from(["$", "a", "a.b", "0", "a.0.id", ""]))
def test_any_body_gives_records_or_problems(body: Any, path: str) -> None:
    found = rows_of(event(data=path), body)
    assert all(isinstance(row, dict) for row in found.rows)
    assert all(isinstance(error, ContractBroken) for _, error in found.problems)
