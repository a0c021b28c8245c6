"""A total that is too low must not end a read: a full last page is followed by one look more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hub.sdk.errors import ContractBroken, TransientError
from hub.sdk.session import Session
from hub.sdk.testing import FakeServer, Request, Response
from tests.sdk.shop import HEADER_TOTAL, NUMBER, OFFSET, PAGED, Shop, ids, read_all, stream

OpenSession = Callable[..., Session]


@pytest.fixture
def shop(fake: FakeServer) -> Shop:
    return Shop(fake)


def total_of(number: int) -> Callable[[Any, Request], Any]:
    return lambda body, _: {**body, "total": number}


def behind(fake: FakeServer, shop: Shop, answer: Callable[[Request], Response]) -> None:
    """What the vendor says to a page behind the last."""

    def items(request: Request) -> Response:
        start = int(request.query.get("offset", (int(request.query.get("page", 1)) - 1) * 3))
        return shop.items(request) if start < len(shop.rows) else answer(request)

    fake.route("GET", "/items", items)


@pytest.mark.parametrize("page", [NUMBER, OFFSET])
def test_a_total_too_low_that_ends_with_a_page_is_seen(
    fake: FakeServer, shop: Shop, open_session: OpenSession, page: dict[str, Any]
) -> None:
    fake.alter("/items", total_of(6), times=None)
    with pytest.raises(ContractBroken) as caught:
        read_all(open_session(streams=stream(page)))
    assert caught.value.code == "read.more_than_total"


def test_a_total_too_low_is_seen_where_a_vendor_caps_its_pages(
    fake: FakeServer, shop: Shop, open_session: OpenSession
) -> None:
    shop.rows = [{"id": n} for n in range(7)]
    shop.cap = 2
    fake.alter("/items", total_of(4), times=None)
    with pytest.raises(ContractBroken):
        read_all(open_session(streams=stream(NUMBER)))


@pytest.mark.parametrize("page", [NUMBER, OFFSET, HEADER_TOTAL])
@pytest.mark.parametrize(
    "answer",
    [
        Response(json={"code": 0, "rows": [], "total": 6}, headers={"X-Total": "6"}),
        Response(json={"code": 0, "rows": [], "total": 0}),
        Response(json={"code": 0, "rows": []}),
        Response(json={"code": 204}),
        Response(json={"code": 1, "msg": "no such page"}),
        Response(json={"code": 77, "msg": "no such page"}),
        Response(404, json={"detail": "Invalid page."}),
        Response(404, body=b"<html>", media_type="text/html"),
        Response(400, body=b""),
        Response(json={"code": 0, "rows": [{"id": 3}, {"id": 4}, {"id": 5}], "total": 6}),
    ],
    ids=[
        "empty",
        "total 0",
        "no total",
        "no data",
        "refused",
        "else",
        "404",
        "html",
        "400",
        "again",
    ],
)
def test_whatever_a_vendor_says_behind_its_last_page_the_read_is_complete(
    fake: FakeServer,
    shop: Shop,
    open_session: OpenSession,
    page: dict[str, Any],
    answer: Response,
) -> None:
    shop.rows = shop.rows[:6]
    behind(fake, shop, lambda _: answer)
    pages = read_all(open_session(streams=stream(page)))
    assert ids(pages) == [0, 1, 2, 3, 4, 5]
    assert pages[-1].cursor is None
    assert {one.total for one in pages} == {6}
    assert fake.count("/items") == 3


def test_trouble_behind_the_last_page_is_no_end(
    fake: FakeServer, shop: Shop, open_session: OpenSession
) -> None:
    shop.rows = shop.rows[:6]
    behind(fake, shop, lambda _: Response(503, body=b""))
    with pytest.raises(TransientError):
        read_all(open_session(streams=stream(NUMBER)))


@pytest.mark.parametrize(
    ("page", "rows"), [(NUMBER, 7), (NUMBER, 2), (NUMBER, 0), (OFFSET, 7), (PAGED, 6), (PAGED, 7)]
)
def test_no_look_is_needed_behind_a_short_page_or_a_count_of_pages(
    fake: FakeServer, shop: Shop, open_session: OpenSession, page: dict[str, Any], rows: int
) -> None:
    shop.rows = shop.rows[:rows]
    assert ids(read_all(open_session(streams=stream(page)))) == list(range(rows))
    assert fake.count("/items") == max(-(-rows // 3), 1)


def test_a_read_can_go_on_at_the_look_itself(
    fake: FakeServer, shop: Shop, open_session: OpenSession
) -> None:
    shop.rows = shop.rows[:6]
    session = open_session(streams=stream(NUMBER))
    pages = read_all(session)
    assert [len(page.rows) for page in pages] == [3, 3, 0]
    (last,) = read_all(session, cursor=pages[1].cursor)
    assert (last.rows, last.cursor, last.total) == ([], None, 6)


def test_a_row_that_came_meanwhile_is_read(
    fake: FakeServer, shop: Shop, open_session: OpenSession
) -> None:
    shop.rows = shop.rows[:6]

    def grow(body: Any, request: Request) -> Any:
        if request.query["page"] == "2":
            shop.rows = [*shop.rows, {"id": 6}]
        return body

    fake.alter("/items", grow, times=None)
    assert ids(read_all(open_session(streams=stream(NUMBER)))) == list(range(7))
