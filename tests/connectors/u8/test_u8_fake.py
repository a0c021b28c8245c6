"""The fake itself: what a connector may rely on when it passes against it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from connectors.u8.fake import FakeU8
from connectors.u8.fake_data import STATES, Sizes, make_ledger
from hub.sdk.testing import FakeClock


@pytest.fixture
def u8(clock: FakeClock) -> Iterator[FakeU8]:
    with FakeU8(sizes=Sizes(600, 30, 20, 24), clock=clock) as server:
        yield server


@pytest.fixture
def client(u8: FakeU8) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=u8.url, timeout=5, trust_env=False) as client:
        yield client


class Caller:
    """Calls like a U8 client: everything in the query, the token too."""

    def __init__(self, u8: FakeU8, client: httpx.Client) -> None:
        config = u8.config()
        self.client = client
        self.accounts = {"from_account": config["from_account"], "app_key": config["app_key"]}
        self.business = {**self.accounts, "to_account": config["to_account"], "ds_sequence": "1"}
        secret = {"app_secret": config["app_secret"]}
        answer = client.get("/system/token", params={**self.accounts, **secret}).json()
        self.token = {"token": answer["token"]["id"]}

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(path, params={**self.business, **self.token, **query}).json()

    def post(self, path: str, body: Any, **query: Any) -> Any:
        params = {**self.business, **self.token, **query}
        return self.client.post(path, params=params, json=body).json()


@pytest.fixture
def caller(u8: FakeU8, client: httpx.Client) -> Caller:
    return Caller(u8, client)


def order(**more: Any) -> dict[str, Any]:
    line = {"inventorycode": "A00001", "quantity": 1}
    return {"saleorder": {"custcode": "C00001", "entry": [line], **more}}


def test_the_same_seed_makes_the_same_data() -> None:
    assert make_ledger(5, Sizes()) == make_ledger(5, Sizes())
    assert make_ledger(5, Sizes()) != make_ledger(6, Sizes())


def test_every_order_state_and_red_orders_occur() -> None:
    orders = list(make_ledger(1, Sizes(orders=24)).orders.values())
    assert len(orders) == 24 == 4 * len(STATES)
    assert sum("verifier" not in o for o in orders) == 4
    assert sum("closer" in o for o in orders) == 8
    assert any(str(o["sum"]).startswith("-") for o in orders)
    assert {o["currency_name"] for o in orders} > {"人民币", "美元"}


def test_a_page_has_at_most_500_rows_and_totals_as_text(caller: Caller) -> None:
    answer = caller.get("/api/inventory/batch_get", rows_per_page=1000)
    assert len(answer["inventory"]) == 500
    totals = [answer[n] for n in ("page_index", "rows_per_page", "row_count", "page_count")]
    assert totals == ["1", "500", "600", "2"]
    assert len(caller.get("/api/inventory/batch_get")["inventory"]) == 20


def test_filters_are_dates_with_both_ends_included(caller: Caller, u8: FakeU8) -> None:
    row = next(r for r in u8.ledgers["1"].materials.values() if "ModifyDate" in r)
    day = row["ModifyDate"][:10]
    found = caller.get("/api/inventory/batch_get", modifydate_begin=day, modifydate_end=day)
    assert row["code"] in [r["code"] for r in found["inventory"]]
    approved = caller.get("/api/saleorderlist/batch_get", state="Approved", rows_per_page=500)
    assert {r["state"] for r in approved["saleorderlist"]} == {"审核"}


def test_tokens_end_after_two_hours_or_by_order(
    caller: Caller, u8: FakeU8, clock: FakeClock
) -> None:
    assert caller.get("/api/warehouse/batch_get")["errcode"] == "0"
    clock.advance(7201)
    assert "token" in caller.get("/api/warehouse/batch_get")["errmsg"]
    caller.token = {"token": "f" * 32}
    assert caller.get("/api/warehouse/batch_get")["errmsg"] == "token无效"


def test_one_token_mode_ends_the_older_token(caller: Caller, u8: FakeU8) -> None:
    u8.one_token = True
    newer = Caller(u8, caller.client)
    assert "token" in caller.get("/api/warehouse/batch_get")["errmsg"]
    assert newer.get("/api/orderstatus/get")["orderstatus"]["status"] == "1"


def test_an_agent_is_offline_for_as_long_as_told(
    caller: Caller, u8: FakeU8, clock: FakeClock
) -> None:
    u8.offline(10)
    assert "未登录" in caller.get("/api/warehouse/batch_get")["errmsg"]
    clock.advance(10)
    assert caller.get("/api/warehouse/batch_get")["errcode"] == "0"


def test_unknown_numbers_have_no_data(caller: Caller) -> None:
    assert caller.get("/api/saleorder/get", id="nope")["errcode"] == "20002"
    assert caller.get("/api/warehouse/batch_get", page_index=2)["errcode"] == "20002"


def test_a_repeated_business_id_returns_the_first_voucher(caller: Caller, u8: FakeU8) -> None:
    first = caller.post("/api/saleorder/add", order(), biz_id="hub-1")
    again = caller.post("/api/saleorder/add", order(memo="other"), biz_id="hub-1")
    assert first["errcode"] == "0"
    assert again["id"] == first["id"]
    assert u8.state()["vouchers"] == {"hub-1": 1}
    assert caller.get("/api/saleorder/get", id=first["id"])["saleorder"]["custcode"] == "C00001"


def test_a_trade_id_must_be_one_of_ours_and_alone(caller: Caller) -> None:
    trade = caller.get("/system/tradeid")["trade"]["id"]
    assert caller.post("/api/saleorder/add", order(), tradeid=trade)["errcode"] == "0"
    assert caller.post("/api/saleorder/add", order(), tradeid="x")["errcode"] != "0"
    assert caller.post("/api/saleorder/add", order())["errcode"] != "0"
    assert caller.post("/api/saleorder/add", order(), tradeid=trade, biz_id="1")["errcode"] != "0"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"custcode": "C99999"}, "客户编码C99999不存在"),
        ({"entry": []}, "表体不能为空"),
        ({"entry": [{"inventorycode": "ZZ"}]}, "存货编码ZZ不存在"),
        ({"code": "0000000001"}, "编码0000000001重复"),
    ],
)
def test_a_faulty_order_is_refused_and_leaves_nothing(
    caller: Caller, u8: FakeU8, change: dict[str, Any], problem: str
) -> None:
    assert caller.post("/api/saleorder/add", order(**change), biz_id="1")["errmsg"] == problem
    assert u8.state()["ledgers"]["1"]["orders"] == 24
    assert u8.state()["vouchers"] == {}


def test_a_queued_order_is_finished_after_some_polls(caller: Caller, u8: FakeU8) -> None:
    u8.writes.queue(2)
    answer = caller.post("/api/saleorder/add", order(), biz_id="q")
    assert answer["ping_after"] == 1
    polls = [caller.client.get(answer["url"]).json() for _ in range(2)]
    assert "url" in polls[0]
    assert polls[1]["id"] == "0000000025"


def test_a_queued_order_may_never_say_so(caller: Caller, u8: FakeU8) -> None:
    u8.writes.queue(None)
    answer = caller.post("/api/saleorder/add", order(), biz_id="q")
    assert all("url" in caller.client.get(answer["url"]).json() for _ in range(25))
    assert u8.state()["vouchers"] == {"q": 1}
    assert caller.client.get("/result?requestid=x").json()["errcode"] != "0"


def test_orders_are_verified_and_customers_added(caller: Caller) -> None:
    code = caller.post("/api/saleorder/add", order(), biz_id="v")["id"]
    caller.post("/api/saleorder/verify", {"saleorder": {"voucher_code": code}})
    assert caller.get("/api/saleorder/get", id=code)["saleorder"]["verifier"] == "接口用户"
    caller.post("/api/saleorder/unverify", {"saleorder": {"voucher_code": code}})
    assert "verifier" not in caller.get("/api/saleorder/get", id=code)["saleorder"]
    body = {"customer": {"code": "N1", "name": "新客户"}}
    assert caller.post("/api/customer/add", body, biz_id="n1")["id"] == "N1"
    assert caller.get("/api/customer/get", id="N1")["customer"]["name"] == "新客户"


def test_demos_can_change_and_remove_records_over_http(client: httpx.Client, u8: FakeU8) -> None:
    for options in ({"resource": "customer", "count": 2}, {"resource": "currentstock"}):
        answer = client.post("/_fake/do", json={"name": "change", "options": options}).json()
        assert answer["ok"], answer
    removed = {"name": "remove", "options": {"resource": "inventory", "count": 5}}
    assert client.post("/_fake/do", json=removed).json()["ok"]
    assert client.get("/_fake/state").json()["ledgers"]["1"]["materials"] == 595


def test_it_runs_as_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "connectors.u8.fake", "--records", "20", "--orders", "3"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        ledgers = httpx.get(url + "/_fake/state", trust_env=False).json()["ledgers"]
        assert ledgers["1"] == {"materials": 20, "stock": 20, "customers": 20, "orders": 3}
        process.terminate()
        process.communicate(timeout=10)
        assert process.returncode == 0
