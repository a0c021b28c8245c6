"""Whatever happens on the way to a target, every version has exactly one effect there."""

from __future__ import annotations

import time
from typing import Any

import pytest
import sqlalchemy as sa

from hub.engine import delivery, sending
from hub.engine.planning import start_run
from hub.sdk.sinks import SinkWriter
from hub.sdk.testing import Fault
from hub.store import deliveries
from hub.store.runs import RunState, load_run
from hub.store.tables import drain
from tests.engine.conftest import Rig, finish

MATERIALS = 30
SINKS = {
    "customer": ("POST", "/api/v1/customers/upsert"),
    "sale_order": ("POST", "/api/v1/sale_orders"),
    "ticket": ("POST", "/api/v1/tickets"),
}
FAULTS: dict[str, dict[str, Any]] = {
    "timeout before commit": {"fault": Fault.SILENCE},
    "timeout after commit": {"fault": Fault.TIMEOUT_AFTER},
    "lost answer": {"fault": Fault.LOST_ANSWER},
    "500 after commit": {"fault": Fault.STATUS_AFTER},
    "500 before commit": {"fault": Fault.STATUS, "status": 500},
    "reset before commit": {"fault": Fault.RESET},
    "HTML after commit": {"fault": Fault.CUT_BODY},
    "429": {"fault": Fault.TOO_MANY_REQUESTS, "retry_after": 1},
}


@pytest.fixture
def fast(embedded: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A deployment whose flow `send` writes 30 materials to a sink; short waits."""
    monkeypatch.setattr("hub.engine.settlement.FIRST_WAIT", 0.2)
    embedded.connections["crm"]["limits"] |= {"deadline": "0.6s"}
    # Each object of the fake CRM shows up in a search at once here; see the lag test for more.
    manifest_sinks = {"visibility_lag": 0.2}
    monkeypatch.setattr("hub.sdk.sinks.SinkWriter.visibility_lag", manifest_sinks["visibility_lag"])
    embedded.write_connections()
    return embedded


def _send_to(rig: Rig, sink: str) -> None:
    rig.write_flow(
        "send",
        "flow: send\nfrom: {connection: u8, stream: material}\n"
        "mapping: {key: [code], fields: {code: code, name: name, subject: name}}\n"
        f"to: {{connection: crm, sink: {sink}}}\n",
    )


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_on_the_way_leaves_one_effect_per_key(fast: Rig, sink: str, name: str) -> None:
    _send_to(fast, sink)
    method, path = SINKS[sink]
    options = dict(FAULTS[name])
    fault = options.pop("fault")
    fast.crm.misbehave(fault, path, method=method, times=2, **options)
    run = fast.run("send", seconds=60)
    assert run.state == RunState.DONE, run.error_text
    assert run.counts["written"] == MATERIALS
    assert sorted(fast.crm.effects_of(sink).values()) == [1] * MATERIALS
    assert fast.crm.duplicates(sink) == []


def test_each_item_of_a_batch_has_its_own_fate(fast: Rig) -> None:
    _send_to(fast, "customer")
    fast.crm.fail_items(busy=3, unanswered=4)
    run = fast.run("send", seconds=60)
    assert run.counts["written"] == MATERIALS
    assert sorted(fast.crm.effects_of("customer").values()) == [1] * MATERIALS


def test_a_refused_record_becomes_a_dead_letter_with_the_vendors_words(fast: Rig) -> None:
    _send_to(fast, "customer")
    code = next(iter(fast.u8.ledgers["1"].materials))
    fast.u8.ledgers["1"].materials[code]["name"] = "REJECT me"
    fast.u8.refresh()
    run = fast.run("send")
    assert (run.state, run.counts["refused"]) == (RunState.DONE, 1)
    assert run.counts["written"] == MATERIALS - 1
    (letter,) = fast.letters()
    assert (letter["kind"], letter["source_key"]) == ("delivery", code)
    assert letter["vendor_code"]
    assert letter["payload"]["name"] == "REJECT me"
    assert fast.run("send").counts["written"] == 0, "the same refused content is not sent again"


def test_a_ticket_that_cannot_be_seen_yet_is_not_written_again(
    fast: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.sdk.sinks.SinkWriter.visibility_lag", 1.0)
    fast.crm.set_lag(0.8)
    _send_to(fast, "ticket")
    fast.crm.misbehave(Fault.LOST_ANSWER, "/api/v1/tickets", method="POST", times=5)
    run = fast.run("send", seconds=60)
    assert run.counts["written"] == MATERIALS
    assert sorted(fast.crm.effects_of("ticket").values()) == [1] * MATERIALS


def test_a_doubtful_write_without_a_look_up_is_put_before_a_person(
    fast: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.sdk.sinks.SinkWriter.can_find", False)
    _send_to(fast, "ticket")
    fast.crm.misbehave(Fault.LOST_ANSWER, "/api/v1/tickets", method="POST", times=1)
    run = fast.run("send", seconds=60)
    assert (run.state, run.counts["refused"]) == (RunState.DONE, 1)
    assert [letter["kind"] for letter in fast.letters()] == ["review"]
    assert sorted(fast.crm.effects_of("ticket").values()) == [1] * MATERIALS


def test_a_newer_version_waits_for_the_doubtful_one_and_then_wins(fast: Rig) -> None:
    _send_to(fast, "sale_order")
    fast.run("send")
    keys = fast.u8.change("inventory", 2)
    fast.crm.misbehave(Fault.TIMEOUT_AFTER, method="PUT", times=1)
    run = fast.run("send", full=True, seconds=60)
    assert run.counts["written"] == 2
    effects = fast.crm.effects_of("sale_order")
    assert {key: effects[key] for key in keys} == dict.fromkeys(keys, 2)


@pytest.mark.parametrize("name", ["reset before commit", "500 before commit", "lost answer"])
def test_a_fault_on_the_way_of_a_change_leaves_the_newest_version_in_the_target(
    fast: Rig, name: str
) -> None:
    sink = "ticket"  # where a creation is looked up
    _send_to(fast, sink)
    fast.run("send")
    keys = fast.u8.change("inventory", 2)
    fault = {"times": 1, **FAULTS[name]}
    fast.crm.misbehave(fault.pop("fault"), method="PUT", **fault)
    run = fast.run("send", full=True, seconds=60)
    assert run.counts["written"] == 2
    materials = fast.u8.ledgers["1"].materials
    for key in keys:
        found = fast.crm.find(sink, key)
        assert found is not None
        assert found["name"] == materials[key]["name"]
    effects = fast.crm.effects_of(sink)
    assert {key: effects[key] for key in keys} == dict.fromkeys(keys, 2)


def test_a_target_that_is_down_keeps_its_deliveries_until_it_is_back(fast: Rig) -> None:
    _send_to(fast, "customer")
    fast.crm.misbehave(Fault.STATUS, times=4, status=503)
    run = fast.run("send", seconds=60)
    assert run.counts["written"] == MATERIALS
    assert sorted(fast.crm.effects_of("customer").values()) == [1] * MATERIALS


def test_a_token_refused_by_the_target_makes_deliveries_wait_not_vanish(
    fast: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.engine.breaker.REFUSED_WAIT", 0.5)
    _send_to(fast, "customer")
    fast.crm.expire_token()
    with fast.open() as hub:
        run = start_run(hub, "send")
        time.sleep(2)
        fast.crm.accept()
        run = finish(hub, run)
    assert run.counts["written"] == MATERIALS


def test_a_record_before_a_person_holds_up_neither_its_run_nor_the_job(
    fast: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.sdk.sinks.SinkWriter.can_find", False)
    _send_to(fast, "ticket")
    fast.crm.misbehave(Fault.LOST_ANSWER, "/api/v1/tickets", method="POST", times=1)
    assert fast.run("send", seconds=60).counts["refused"] == 1
    for row in fast.u8.ledgers["1"].materials.values():
        row["name"] = f"{row['name']} new"
    fast.u8.refresh()
    with fast.open() as hub:
        run = finish(hub, start_run(hub, "send", full=True), 20)
        assert run.counts["refused"] == 1
        time.sleep(2)
        with hub.store.reading() as connection:
            wakes = connection.execute(sa.select(drain.c.wakes)).scalar_one()
            assert deliveries.next_due(connection, "crm/ticket") is None
        assert wakes < 8


def test_a_fault_in_a_sinks_own_code_is_a_doubt_about_its_records_only(
    fast: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _send_to(fast, "customer")
    original = SinkWriter.write
    left = [2]

    def faulty(self: SinkWriter, writes: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            raise KeyError("bug")
        return original(self, writes)

    monkeypatch.setattr(SinkWriter, "write", faulty)
    run = fast.run("send", seconds=20)
    assert (run.state, run.counts["written"]) == (RunState.DONE, MATERIALS)


def test_a_store_that_is_away_between_claim_and_call_is_not_the_connectors_fault(
    fast: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _send_to(fast, "sale_order")
    original = SinkWriter.write
    left = [2]

    def without_store(self: SinkWriter, writes: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            raise sa.exc.OperationalError("SELECT", {}, ConnectionError("server closed"))
        return original(self, writes)

    monkeypatch.setattr(SinkWriter, "write", without_store)
    run = fast.run("send", seconds=30)
    assert (run.state, run.counts["written"]) == (RunState.DONE, MATERIALS)
    assert sorted(fast.crm.effects_of("sale_order").values()) == [1] * MATERIALS
    assert "own code" not in caplog.text


def test_nul_in_a_key_or_in_a_vendors_words_stops_no_batch(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _send_to(rig, "customer")
    rows = list(rig.u8.ledgers["1"].materials)
    rig.u8.alter("/api/inventory/batch_get", "change_row", at="inventory", values={"code": "a\0b"})
    run = rig.run("send", seconds=20)
    assert run.state == RunState.DONE, run.error_text
    assert run.counts["rejected"] == 1
    assert run.counts["written"] == len(rows) - 1


def test_an_outcome_is_counted_once_when_two_jobs_had_the_same_intent(fast: Rig) -> None:
    _send_to(fast, "customer")
    with fast.open() as hub:
        sink = hub.session("crm").sink("customer")
        stale: list[Any] = []
        real = delivery.settle

        def keep(
            connection: Any, hub_: Any, ref: str, sink_: Any, results: Any, **how: Any
        ) -> None:
            stale.append(list(results))
            real(connection, hub_, ref, sink_, results, **how)

        delivery.settle = keep
        try:
            run = finish(hub, start_run(hub, "send"))
        finally:
            delivery.settle = real
        for results in stale:
            with hub.store.transaction() as connection:
                real(connection, hub, "crm/customer", sink, results)
        with hub.store.reading() as connection:
            again = load_run(connection, run.id)
        assert again is not None
        assert again.counts == run.counts


def test_a_process_that_slept_between_claim_and_send_does_not_send_what_another_took_over(
    fast: Rig,
) -> None:
    with fast.open() as hub:
        sink = hub.session("crm").sink("ticket")
        with hub.store.transaction() as connection:
            wish = {"target_key": "T", "flow_id": "f", "source_key": "T", "run_id": 0}
            wish |= {"op": "upsert", "revision": 1, "payload_text": '{"subject": "x"}'}
            deliveries.put_deliveries(connection, "x/ticket", [wish], 0)
            claimed = deliveries.claim(connection, "x/ticket", 1, "me", hub.now_ms() - 60_000)
            deliveries.take_over(connection, claimed, "another", hub.now_ms())
        sent = sending.send(hub, sink, claimed, hub.clock.monotonic() - 60)
    assert sent.results == []
    assert fast.crm.effects_of("ticket") == {}
