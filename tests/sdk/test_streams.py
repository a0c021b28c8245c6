"""Pages: complete or loud, and resumable at every page."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.sdk.errors import ConfigError, ContractBroken, TransientError
from hub.sdk.records import Page
from hub.sdk.session import Session
from hub.sdk.testing import FakeServer, Fault, Request, Response
from tests.sdk.shop import (
    CURSOR,
    KINDS,
    LINK,
    NONE,
    NUMBER,
    OFFSET,
    PAGED,
    Shop,
    ids,
    read_all,
    stream,
)

OpenSession = Callable[..., Session]


@pytest.fixture
def shop(fake: FakeServer) -> Shop:
    return Shop(fake)


# --- complete reads ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_read_once(shop: Shop, open_session: OpenSession, kind: str) -> None:
    pages = read_all(open_session(streams=stream(KINDS[kind])))
    assert ids(pages) == list(range(7))
    assert pages[-1].cursor is None
    assert all(page.cursor is not None for page in pages[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_at_all_is_a_complete_read(
    shop: Shop, open_session: OpenSession, kind: str
) -> None:
    shop.rows = []
    pages = read_all(open_session(streams=stream(KINDS[kind])))
    assert [(list(page.rows), page.cursor) for page in pages] == [([], None)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_without_data_is_a_complete_read(
    fake: FakeServer, open_session: OpenSession, kind: str
) -> None:
    headers = {"X-Total": "0"}
    fake.route("GET", "/items", lambda _: Response(json={"code": 204}, headers=headers))
    assert ids(read_all(open_session(streams=stream(KINDS[kind])))) == []


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(kind=st.sampled_from(sorted(KINDS)), rows=st.integers(0, 14), cap=st.integers(1, 6))
def test_a_read_restarted_after_any_page_gives_every_row_once(
    open_session: OpenSession, fake: FakeServer, kind: str, rows: int, cap: int
) -> None:
    shop = Shop(fake)
    shop.rows = [{"id": n} for n in range(rows)]
    # Page numbers and `none` only work when the vendor keeps the size that was asked for.
    shop.cap = cap if kind.startswith(("offset", "cursor", "link")) else 1000
    session = open_session(streams=stream(KINDS[kind]))
    whole = read_all(session)
    assert ids(whole) == list(range(rows))
    for number, page in enumerate(whole[:-1]):
        cursor = json.loads(json.dumps(page.cursor))
        rest = read_all(open_session(streams=stream(KINDS[kind])), cursor)
        assert ids(whole[: number + 1]) + ids(rest) == list(range(rows))


def test_a_short_page_is_not_the_end(shop: Shop, open_session: OpenSession) -> None:
    shop.cap = 2
    pages = read_all(open_session(streams=stream(OFFSET)))
    assert ids(pages) == list(range(7))
    assert pages[0].total == 7


def test_a_growing_total_is_followed(shop: Shop, open_session: OpenSession) -> None:
    found: list[int] = []
    for page in open_session(streams=stream(NUMBER)).stream("items").read(None):
        found += [row["id"] for row in page.rows]
        if len(shop.rows) < 9:
            shop.rows.append({"id": len(shop.rows)})
    assert found == list(range(9))


def test_a_shrinking_total_is_followed(shop: Shop, open_session: OpenSession) -> None:
    reading = open_session(streams=stream(NUMBER)).stream("items").read(None)
    next(reading)
    shop.rows = shop.rows[:2]
    assert [len(page.rows) for page in reading] == [0]


def test_a_bare_list_is_read(fake: FakeServer, open_session: OpenSession) -> None:
    fake.route("GET", "/items", lambda _: Response(json=[{"id": 1}, {"id": 2}]))
    items = {"items": {"key": ["id"], "request": {"get": "/items"}, "data": "$"}}
    envelope = {"ok": {"path": "$", "is": "list"}}
    assert ids(read_all(open_session(streams=items, envelope=envelope))) == [1, 2]


def test_rows_without_their_key_are_left_to_the_engine(
    shop: Shop, open_session: OpenSession
) -> None:
    shop.rows = [{"other": 1}]
    assert read_all(open_session(streams=stream(NUMBER)))[0].rows == [{"other": 1}]


# --- loud reads -------------------------------------------------------------------------------


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda body: body.__setitem__(path, value)


def drop(path: str) -> Callable[[dict[str, Any]], None]:
    return lambda body: body.pop(path) and None


FIRST_ROWS = [{"id": 0}, {"id": 1}, {"id": 2}]
LOUD = [
    ("number", 1, change("rows", []), "read.empty_page"),
    ("number", 1, change("code", 204), "read.empty_page"),
    ("number with pages", 1, change("rows", []), "read.empty_page"),
    ("number with pages", 1, change("code", 204), "read.empty_page"),
    ("number without total", 1, change("rows", []), "read.empty_page"),
    ("offset", 1, change("rows", []), "read.empty_page"),
    ("offset without total", 1, change("rows", []), "read.empty_page"),
    ("cursor", 1, change("rows", []), "read.empty_page"),
    ("link", 1, change("rows", []), "read.empty_page"),
    ("number", 1, change("rows", FIRST_ROWS), "read.repeated_page"),
    ("number without total", 1, change("rows", FIRST_ROWS), "read.repeated_page"),
    ("offset", 1, change("rows", FIRST_ROWS), "read.repeated_page"),
    ("cursor", 1, change("rows", FIRST_ROWS), "read.repeated_page"),
    ("link", 1, change("rows", FIRST_ROWS), "read.repeated_page"),
    ("cursor", 1, change("next", "c3"), "read.cursor_back"),
    ("cursor with more", 0, change("next", None), "read.no_next"),
    ("cursor with more", 0, change("more", "perhaps"), "read.bad_more"),
    ("cursor", 0, change("next", {"a": 1}), "read.bad_cursor"),
    ("number with pages", 1, change("page", "1"), "read.page_mismatch"),
    ("number", 0, change("total", "many"), "read.not_a_count"),
    ("number", 0, change("total", None), "read.not_a_count"),
    ("number", 0, change("total", -1), "read.not_a_count"),
    ("number", 0, drop("total"), "read.not_a_count"),
    ("number with pages", 0, change("pages", True), "read.not_a_count"),
    ("none", 0, change("total", 8), "read.total_not_reached"),
    ("number", 0, change("total", 2), "read.more_than_total"),
    ("none", 0, change("total", 6), "read.more_than_total"),
    ("number", 0, drop("rows"), "read.no_data_path"),
    ("number", 0, change("rows", None), "read.no_data_path"),
    ("number", 0, change("rows", {"id": 1}), "read.no_data_path"),
    ("number", 0, change("rows", [{"id": 1}, "x"]), "read.row_not_object"),
    ("none", 0, change("rows", [None]), "read.row_not_object"),
]


@pytest.mark.parametrize(("kind", "after", "damage", "code"), LOUD)
def test_a_damaged_page_ends_the_read_loudly(
    shop: Shop,
    open_session: OpenSession,
    kind: str,
    after: int,
    damage: Callable[[dict[str, Any]], None],
    code: str,
) -> None:
    def damaged(body: dict[str, Any], request: Request) -> dict[str, Any]:
        damage(body)
        return body

    shop.fake.alter("/items", damaged, after=after)
    reading = open_session(streams=stream(KINDS[kind])).stream("items").read(None)
    pages: list[Page] = []
    with pytest.raises(ContractBroken) as caught:
        pages.extend(reading)
    assert caught.value.code == code
    assert len(pages) == after
    assert "shop.items" in str(caught.value)


@pytest.mark.parametrize("kind", ["number", "offset", "cursor", "link"])
def test_a_repeated_page_is_noticed_after_a_restart(
    shop: Shop, open_session: OpenSession, kind: str
) -> None:
    session = open_session(streams=stream(KINDS[kind]))
    first = next(iter(session.stream("items").read(None)))
    shop.fake.alter("/items", lambda body, _: {**body, "rows": FIRST_ROWS})
    with pytest.raises(ContractBroken) as caught:
        read_all(session, first.cursor)
    assert caught.value.code == "read.repeated_page"


def test_a_total_that_is_never_reached_is_loud(shop: Shop, open_session: OpenSession) -> None:
    page = {**PAGED, "total": "total"}
    shop.fake.alter("/items", lambda body, _: {**body, "total": 8}, times=None)
    with pytest.raises(ContractBroken) as caught:
        read_all(open_session(streams=stream(page)))
    assert caught.value.code == "read.total_not_reached"


def test_empty_pages_are_fine_where_the_vendor_is_known_for_them(
    shop: Shop, open_session: OpenSession
) -> None:
    shop.fake.alter("/items", lambda body, _: {**body, "rows": []}, after=1)
    pages = read_all(open_session(streams=stream({**CURSOR, "allow_empty": True})))
    assert ids(pages) == [0, 1, 2, 6]


def test_a_link_to_another_host_is_not_followed(
    fake: FakeServer, open_session: OpenSession
) -> None:
    headers = {"Link": '<http://evil.example/items>; rel="next"', "X-Total": "9"}
    fake.route(
        "GET", "/items", lambda _: Response(json={"code": 0, "rows": [{"id": 1}]}, headers=headers)
    )
    with pytest.raises(ContractBroken) as caught:
        read_all(open_session(streams=stream(LINK)))
    assert caught.value.code == "egress.foreign_address"


def test_a_saved_link_holds_no_credentials(
    fake: FakeServer, open_session: OpenSession, canary: str
) -> None:
    from urllib.parse import quote

    def items(request: Request) -> Response:
        headers = {"X-Total": "2"}
        if "after" not in request.query:
            target = f"{fake.url}/items?after=1&sig={quote(canary)}&key={quote(canary)}"
            headers["Link"] = f"<{target}>; rel=next"
        row = {"id": 1 if "after" in request.query else 0}
        return Response(json={"code": 0, "rows": [row]}, headers=headers)

    fake.route("GET", "/items", items)
    auth = {"kind": "api_key", "query": "key", "value": "{secret}"}
    pages = read_all(open_session(streams=stream(LINK), auth=auth))
    assert ids(pages) == [0, 1]
    assert pages[0].cursor is not None
    assert pages[0].cursor["at"] == f"{fake.url}/items?after=1"
    assert fake.requests[-1].query == {"after": "1", "key": canary}


def test_a_cursor_of_another_pager_is_refused(shop: Shop, open_session: OpenSession) -> None:
    first = next(iter(open_session(streams=stream(NUMBER)).stream("items").read(None)))
    with pytest.raises(ConfigError, match="start over"):
        read_all(open_session(streams=stream(OFFSET)), first.cursor)


def test_a_page_beyond_the_row_limit_is_loud(fake: FakeServer, open_session: OpenSession) -> None:
    body = b'{"code": 0, "total": 100001, "rows": [' + b"{}," * 100_000 + b"{}]}"
    fake.route("GET", "/items", lambda _: Response(body=body))
    with pytest.raises(ContractBroken) as caught:
        read_all(open_session(streams=stream(NONE)))
    assert caught.value.code == "read.page_too_large"


def test_an_interrupted_read_continues_where_it_stood(
    shop: Shop, open_session: OpenSession
) -> None:
    session = open_session(streams=stream(NUMBER))
    shop.fake.misbehave(Fault.RESET, "/items", times=3, after=1)
    pages: list[Page] = []
    with pytest.raises(TransientError):
        pages.extend(session.stream("items").read(None))
    pages += read_all(session, pages[-1].cursor)
    assert ids(pages) == list(range(7))
