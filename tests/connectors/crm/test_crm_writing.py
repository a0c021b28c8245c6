from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from connectors.crm.fake import FakeCrm
from hub.sdk.errors import AuthError, ConfigError, HubError, TransientError
from hub.sdk.records import Op, Outcome, Receipt, Write
from hub.sdk.session import Session
from hub.sdk.testing import FakeClock, Fault
from tests.connectors.conftest import OpenSession

ORDERS = "/api/v1/sale_orders"
TICKETS = "/api/v1/tickets"
CUSTOMERS = "/api/v1/customers/upsert"


@pytest.fixture
def crm(clock: FakeClock) -> Iterator[FakeCrm]:
    with FakeCrm(clock=clock) as server:
        yield server


@pytest.fixture
def session(crm: FakeCrm, open_session: OpenSession) -> Session:
    return open_session("crm", crm)


def writes(count: int, name: str = "客户") -> list[Write]:
    return [Write(f"C{n}", {"name": f"{name}{n}"}) for n in range(count)]


def one(session: Session, sink: str, write: Write) -> Receipt:
    (receipt,) = session.sink(sink).write([write])
    return receipt


def order(key: str = "SO-1", idempotency_key: str = "k1", **data: Any) -> Write:
    return Write(key, {"order_no": key, **data}, idempotency_key=idempotency_key)


# --- batches ----------------------------------------------------------------------------------


def test_customers_travel_200_at_a_time_and_each_gets_its_id(
    crm: FakeCrm, session: Session
) -> None:
    receipts = session.sink("customer").write(writes(450))
    assert {receipt.outcome for receipt in receipts} == {Outcome.WRITTEN}
    assert len({receipt.target_id for receipt in receipts}) == 450
    assert crm.count(CUSTOMERS) == 3
    found = crm.find("customer", "C7")
    assert found is not None
    assert found["name"] == "客户7"


def test_writing_the_same_again_has_no_effect(crm: FakeCrm, session: Session) -> None:
    session.sink("customer").write(writes(3))
    session.sink("customer").write(writes(3))
    assert crm.effects_of("customer") == {"C0": 1, "C1": 1, "C2": 1}
    assert crm.state()["writes"] == 6
    session.sink("customer").write(writes(1, "新客户"))
    assert crm.effects_of("customer") == {"C0": 2, "C1": 1, "C2": 1}


def test_a_bad_item_does_not_spoil_its_batch(crm: FakeCrm, session: Session) -> None:
    batch = [*writes(2), Write("X", {"name": "REJECT me"})]
    receipts = session.sink("customer").write(batch)
    assert [r.outcome.value for r in receipts] == ["written", "written", "rejected"]
    assert receipts[2].reason == "name is not acceptable"
    assert receipts[2].code == "42200"


def test_busy_items_are_tried_again_and_silent_ones_are_unknown(
    crm: FakeCrm, session: Session
) -> None:
    crm.fail_items(busy=1)
    outcomes = [r.outcome.value for r in session.sink("stock").write(writes(3))]
    assert outcomes == ["written", "written", "retry"]
    crm.fail_items(unanswered=1)
    outcomes = [r.outcome.value for r in session.sink("stock").write(writes(3))]
    assert outcomes == ["written", "written", "unknown"]
    assert crm.state()["objects"]["stock"] == 3


def test_a_batch_whose_answer_is_lost_is_unknown_and_harmless_to_repeat(
    crm: FakeCrm, session: Session
) -> None:
    crm.misbehave(Fault.LOST_ANSWER, CUSTOMERS)
    receipts = session.sink("customer").write(writes(5))
    assert {receipt.outcome for receipt in receipts} == {Outcome.UNKNOWN}
    receipts = session.sink("customer").write(writes(5))
    assert {receipt.outcome for receipt in receipts} == {Outcome.WRITTEN}
    assert set(crm.effects_of("customer").values()) == {1}


# --- orders: idempotency keys -----------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.STATUS_AFTER, Fault.CUT_BODY])
def test_an_order_whose_answer_is_lost_is_made_once(
    crm: FakeCrm, session: Session, fault: Fault
) -> None:
    crm.misbehave(fault, ORDERS)
    assert one(session, "sale_order", order()).outcome is Outcome.UNKNOWN
    receipt = one(session, "sale_order", order())
    assert receipt.outcome is Outcome.WRITTEN
    assert receipt.target_id == "S000000001"
    assert crm.effects_of("sale_order") == {"SO-1": 1}
    assert crm.duplicates("sale_order") == []


def test_an_answer_before_anything_was_done_makes_nothing(crm: FakeCrm, session: Session) -> None:
    crm.misbehave(Fault.TOO_MANY_REQUESTS, ORDERS)
    with pytest.raises(TransientError):
        one(session, "sale_order", order())
    assert crm.effects_of("sale_order") == {}


def test_an_update_goes_to_the_known_order(crm: FakeCrm, session: Session) -> None:
    made = one(session, "sale_order", order())
    changed = Write(
        "SO-1", {"order_no": "SO-1", "total": 5}, Op.UPSERT, "k2", target_id=made.target_id
    )
    assert one(session, "sale_order", changed).target_id == made.target_id
    assert one(session, "sale_order", changed).outcome is Outcome.WRITTEN
    assert crm.effects_of("sale_order") == {"SO-1": 2}
    found = crm.find("sale_order", "SO-1")
    assert found is not None
    assert (found["total"], found["version"]) == (5, 2)


def test_a_key_used_with_another_body_is_refused(crm: FakeCrm, session: Session) -> None:
    one(session, "sale_order", order())
    receipt = one(session, "sale_order", order(total=9))
    assert receipt.outcome is Outcome.REJECTED
    assert crm.effects_of("sale_order") == {"SO-1": 1}


def test_an_order_without_a_key_is_refused(crm: FakeCrm, session: Session) -> None:
    headers = {"Authorization": "Bearer fake-token"}
    answer = httpx.post(crm.url + ORDERS, json={}, headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (400, 40001)


# --- tickets: looked up -----------------------------------------------------------------------


def test_every_post_of_a_ticket_makes_one_more(crm: FakeCrm, session: Session) -> None:
    for _ in range(2):
        assert one(session, "ticket", Write("T-1", {"title": "过热"})).target_id
    assert crm.duplicates("ticket") == ["T-1"]
    assert crm.effects_of("ticket") == {"T-1": 2}
    assert crm.find("ticket", "T-1") is None
    with pytest.raises(HubError):
        session.sink("ticket").find("T-1")


def test_a_lost_ticket_is_found_when_the_search_index_has_it(
    crm: FakeCrm, session: Session, clock: FakeClock
) -> None:
    crm.set_lag(2.0)
    crm.misbehave(Fault.LOST_ANSWER, TICKETS, "POST")
    assert one(session, "ticket", Write("T-1", {"title": "过热"})).outcome is Outcome.UNKNOWN
    assert session.sink("ticket").find("T-1") is None
    clock.advance(session.sink("ticket").visibility_lag)
    assert session.sink("ticket").find("T-1") == "T000000001"
    assert session.sink("ticket").find("T-2") is None


# --- the rest ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sink", ["customer", "stock", "sale_order", "ticket"])
def test_objects_are_deactivated_revived_and_deleted(
    crm: FakeCrm, session: Session, sink: str
) -> None:
    made = one(session, sink, Write("A/1", {"name": "x"}, idempotency_key="1"))
    assert one(session, sink, Write("A/1", {}, Op.DEACTIVATE)).outcome is Outcome.WRITTEN
    assert crm.state()["objects"][sink] == 1
    assert crm.state()["active"][sink] == 0
    again = Write("A/1", {"name": "x"}, Op.UPSERT, "2", target_id=made.target_id)
    assert one(session, sink, again).target_id == made.target_id
    assert crm.state()["active"][sink] == 1
    assert one(session, sink, Write("A/1", {}, Op.DELETE)).outcome is Outcome.WRITTEN
    assert one(session, sink, Write("A/1", {}, Op.DELETE)).outcome is Outcome.WRITTEN
    assert crm.state()["objects"][sink] == 0


def test_a_refused_token_asks_for_a_new_one(crm: FakeCrm, session: Session) -> None:
    crm.expire_token()
    with pytest.raises(AuthError) as caught:
        one(session, "ticket", Write("T", {}))
    assert "fake-token" not in str(caught.value)
    crm.accept()
    assert one(session, "ticket", Write("T", {})).outcome is Outcome.WRITTEN


@pytest.mark.parametrize(
    ("body", "error"),
    [({"code": 42900, "message": "slow"}, TransientError), ({"code": 40300}, ConfigError)],
)
def test_codes_in_a_200_are_believed(
    crm: FakeCrm, session: Session, body: dict[str, Any], error: type[Exception]
) -> None:
    crm.alter(TICKETS, "replace_body", method="POST", body=body)
    with pytest.raises(error):
        one(session, "ticket", Write("T", {}))


def test_a_server_error_in_a_200_is_an_unknown_outcome(crm: FakeCrm, session: Session) -> None:
    crm.alter(TICKETS, "server_error", method="POST")
    assert one(session, "ticket", Write("T", {})).outcome is Outcome.UNKNOWN


def test_everything_written_can_be_read_back(crm: FakeCrm, session: Session) -> None:
    session.sink("customer").write(writes(450))
    pages = list(session.stream("customer").read(None))
    assert [len(page.rows) for page in pages] == [200, 200, 50]
    assert {row["external_id"] for page in pages for row in page.rows} == {
        f"C{n}" for n in range(450)
    }


def test_an_incremental_read_gives_what_changed(
    crm: FakeCrm, session: Session, clock: FakeClock
) -> None:
    session.sink("customer").write(writes(3))
    clock.advance(timedelta(hours=1).total_seconds())
    since = clock.now()
    session.sink("customer").write(writes(1, "改名"))
    pages = list(session.stream("customer").read(None, since))
    assert [row["external_id"] for page in pages for row in page.rows] == ["C0"]


def test_it_runs_as_a_process_of_its_own_and_tells_what_happened() -> None:
    command = [sys.executable, "-m", "connectors.crm.fake", "--lag", "1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=url, trust_env=False) as client:
            headers = {"Authorization": "Bearer fake-token"}
            client.post(TICKETS, json={"external_id": "T"}, headers=headers)
            order = {"name": "effects", "options": {"object": "ticket"}}
            assert client.post("/_fake/do", json=order).json()["result"] == {"T": 1}
            assert client.get("/_fake/state").json()["objects"]["ticket"] == 1
        process.communicate("", timeout=10)
        assert process.returncode == 0
