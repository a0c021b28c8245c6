from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from connectors.u8.fake import FakeU8
from connectors.u8.fake_data import Sizes
from hub.sdk.errors import AuthError, ConfigError, ContractBroken, TransientError
from hub.sdk.records import Row
from hub.sdk.session import Session
from hub.sdk.testing import FakeClock, Fault
from tests.connectors.conftest import OpenSession

STOCK = "/api/currentstock/batch_get"
CUSTOMERS = "/api/customer/batch_get"


@pytest.fixture
def u8(clock: FakeClock) -> Iterator[FakeU8]:
    with FakeU8(sizes=Sizes(450, 900, 610, 12), clock=clock) as server:
        yield server


@pytest.fixture
def session(u8: FakeU8, open_session: OpenSession) -> Session:
    return open_session("u8", u8)


def rows(session: Session, stream: str, since: datetime | None = None) -> list[Row]:
    return [row for page in session.stream(stream).read(None, since) for row in page.rows]


# --- what comes back --------------------------------------------------------------------------


def test_every_row_of_every_page_is_read(u8: FakeU8, session: Session) -> None:
    assert len(rows(session, "material")) == 450
    assert len(rows(session, "current_stock")) == 900
    assert len(rows(session, "customer")) == 610
    assert [page["page_index"] for page in queries(u8, CUSTOMERS)] == ["1", "2", "3", "4"]


def queries(u8: FakeU8, path: str) -> list[Any]:
    return [request.query for request in u8.requests if request.path == path]


def test_every_call_names_the_ledger_and_the_accounts(u8: FakeU8, session: Session) -> None:
    rows(session, "warehouse")
    (query,) = queries(u8, "/api/warehouse/batch_get")
    assert query["ds_sequence"] == "1"
    assert query["from_account"] == "fake_developer"
    assert query["to_account"] == "test_enterprise"
    assert re.fullmatch("[0-9a-f]{32}", query["token"])
    assert "app_secret" not in query


def test_orders_come_with_their_lines(u8: FakeU8, session: Session) -> None:
    orders = rows(session, "sales_order")
    assert [order["code"] for order in orders] == list(u8.ledgers["1"].orders)
    assert all(order["entry"] for order in orders)
    assert u8.count("/api/saleorder/get") == 12
    headers = rows(session, "sales_order_header")
    assert not any("entry" in header for header in headers)
    assert orders[1]["currency_name"] == "美元"
    assert any(Decimal(str(line["quantity"])) < 0 for line in orders[2]["entry"])


def test_rows_without_a_batch_still_have_a_whole_key(session: Session) -> None:
    stock = rows(session, "current_stock")
    assert {"-"} < {row["batch"] for row in stock}
    assert {row["free1"] for row in stock} == {"-"}


def test_text_and_number_quantities_are_exact(session: Session) -> None:
    first = rows(session, "current_stock")[:4]
    assert [row["qty"] for row in first] == ["120.500000", 30, Decimal("7.25"), "-5.000000"]


def test_another_data_source_has_other_data(u8: FakeU8, open_session: OpenSession) -> None:
    first = {r["code"]: r["name"] for r in rows(open_session("u8", u8), "customer")}
    second = {r["code"]: r["name"] for r in rows(open_session("u8", u8, ds_sequence=2), "customer")}
    assert len(second) == 3
    assert second.items() - first.items()


def test_no_data_is_an_empty_read(u8: FakeU8, session: Session) -> None:
    u8.ledgers["1"].customers.clear()
    assert rows(session, "customer") == []
    assert u8.count(CUSTOMERS) == 1


def test_an_incremental_read_takes_what_changed_and_one_day_more(
    u8: FakeU8, session: Session, clock: FakeClock
) -> None:
    since = clock.now()
    for row in u8.ledgers["1"].materials.values():
        row["ModifyDate"] = "2024-01-01 00:00:00"
    u8.change("inventory", 3)
    assert [row["code"] for row in rows(session, "material", since)] == [
        "A00001",
        "A00002",
        "A00003",
    ]
    assert queries(u8, "/api/inventory/batch_get")[0]["modifydate_begin"] == "2025-01-05"


def test_orders_are_filtered_by_voucher_date(u8: FakeU8, session: Session) -> None:
    days = sorted(order["date"] for order in u8.ledgers["1"].orders.values())
    since = datetime.fromisoformat(f"{days[-1]}T12:00:00+08:00").astimezone(UTC)
    found = rows(session, "sales_order", since)
    yesterday = str((since - timedelta(days=1)).date())
    assert len(found) == sum(day >= yesterday for day in days)
    assert "date_end" not in queries(u8, "/api/saleorderlist/batch_get")[0]


# --- tokens and refusals ----------------------------------------------------------------------


def test_one_login_serves_all_streams(u8: FakeU8, session: Session) -> None:
    assert all(result.ok for result in session.check())
    assert u8.state()["logins"] == 1


def test_a_token_that_expires_between_pages_is_renewed_once(u8: FakeU8, session: Session) -> None:
    pages = session.stream("customer").read(None)
    next(pages)
    u8.expire_tokens()
    assert sum(len(page.rows) for page in pages) == 410
    assert u8.state()["logins"] == 2


def test_a_token_is_renewed_before_its_two_hours_are_over(
    u8: FakeU8, session: Session, clock: FakeClock
) -> None:
    rows(session, "warehouse")
    clock.advance(7000)
    rows(session, "warehouse")
    assert u8.state()["logins"] == 2
    assert u8.count("/api/warehouse/batch_get") == 2


def test_a_token_refused_for_good_pauses_the_connection(u8: FakeU8, session: Session) -> None:
    u8.alter(STOCK, "expired_token", times=None)
    with pytest.raises(AuthError, match="token已过期"):
        rows(session, "current_stock")
    assert u8.count(STOCK) == 2


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("app_secret", "wrong-secret", AuthError),
        ("app_key", "opa_other", ConfigError),
        ("to_account", "somebody", ConfigError),
        ("ds_sequence", 9, ConfigError),
    ],
)
def test_wrong_settings_are_told_apart_and_never_retried(
    u8: FakeU8, open_session: OpenSession, setting: str, value: object, error: type[Exception]
) -> None:
    session = open_session("u8", u8, **{setting: value})
    with pytest.raises(error) as caught:
        rows(session, "warehouse")
    assert "wrong-secret" not in str(caught.value)
    assert u8.count() <= 2


def test_a_lost_authorisation_is_a_setting_to_change(u8: FakeU8, session: Session) -> None:
    u8.alter(STOCK, "not_authorised")
    with pytest.raises(ConfigError, match="应用未授权"):
        rows(session, "current_stock")


# --- trouble ----------------------------------------------------------------------------------


def test_an_agent_that_comes_back_is_waited_for(u8: FakeU8, session: Session) -> None:
    u8.offline(2.0)
    assert len(rows(session, "warehouse")) == 4


def test_an_agent_that_stays_away_is_transient(u8: FakeU8, session: Session) -> None:
    u8.offline(100_000.0)
    with pytest.raises(TransientError, match="未登录"):
        rows(session, "warehouse")


def test_throttling_inside_a_200_is_obeyed(u8: FakeU8, session: Session, clock: FakeClock) -> None:
    u8.alter(STOCK, "throttle", times=2)
    assert len(rows(session, "current_stock")) == 900
    assert sum(clock.slept) > 2


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_server_error_or_html_on_any_page_loses_nothing(
    u8: FakeU8, session: Session, after: int
) -> None:
    u8.misbehave(Fault.STATUS, STOCK, after=after, status=502)
    assert len(rows(session, "current_stock")) == 900


@pytest.mark.parametrize(
    "alteration", ["wrong_total", "wrong_page", "empty_page", "repeat_previous"]
)
def test_a_page_that_does_not_add_up_fails_the_read(
    u8: FakeU8, session: Session, alteration: str
) -> None:
    # From the second page on: the first is right.
    times = None if alteration in ("wrong_total", "repeat_previous") else 1
    u8.alter(STOCK, alteration, times=times, after=0 if alteration == "repeat_previous" else 1)
    with pytest.raises(ContractBroken):
        rows(session, "current_stock")


def test_a_payload_under_another_name_fails_the_read(u8: FakeU8, session: Session) -> None:
    u8.alter(STOCK, "drop", at="currentstock", after=2)
    with pytest.raises(ContractBroken):
        rows(session, "current_stock")


def test_a_row_that_appears_between_pages_is_noticed(u8: FakeU8, session: Session) -> None:
    u8.drift("customer", "insert", after_page=2)
    read = list(session.stream("customer").read(None))
    codes = [row["code"] for page in read for row in page.rows]
    assert len(codes) == read[-1].total == 611
    assert len(set(codes)) == 610  # which the engine compares with the total


def test_a_row_that_vanishes_between_pages_hides_another_until_the_next_read(
    u8: FakeU8, session: Session
) -> None:
    # Page numbers cannot show this: the total shrinks with the rows. Hence full reads, often.
    before = {row["code"] for row in rows(session, "customer")}
    u8.drift("customer", "delete", after_page=1)
    read = [page.total for page in session.stream("customer").read(None)]
    assert read == [610, 609, 609, 609]
    assert {row["code"] for row in rows(session, "customer")} == before - {"C00001"}
