"""Dead letters go their way again: once, never over something newer, with a trace of who did it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hub.engine.hub import Hub
from hub.engine.operations import LocalOperations
from hub.engine.planning import start_run
from hub.sdk.errors import ConfigError
from hub.sdk.testing import Fault
from tests.engine.conftest import Rig, finish
from tests.engine.letter_rig import (
    FLOW,
    ME,
    materials,
    only_letter,
    replay_all,
    replay_one,
    send_to,
    settled,
    shorten_waits,
    spoil,
    until,
    with_doubtful,
    with_refused,
)


@pytest.fixture
def rig(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    shorten_waits(monkeypatch)
    return rig


@pytest.fixture
def refused(rig: Rig) -> Iterator[tuple[Hub, str]]:
    with with_refused(rig) as made:
        yield made


# --- records ----------------------------------------------------------------------------------


def test_a_record_that_fails_again_stays_open_with_its_reason(rig: Rig) -> None:
    send_to(rig, "customer")
    spoil(rig, name=None)
    rig.run(FLOW)
    with rig.open() as hub:
        before = only_letter(hub)
        after = replay_one(hub, before["id"])
    assert (after["state"], after["error_code"]) == ("open", "mapping.required")
    assert after["payload"] == before["payload"]


def test_an_edit_that_fails_leaves_the_letter_open_with_its_own_reason(embedded: Rig) -> None:
    send_to(embedded, "customer", name="{from: name, type: int}")
    embedded.run(FLOW)
    with embedded.open() as hub:
        before = LocalOperations(hub).dead_letters({}, 1)["items"][0]
        after = replay_one(hub, before["id"], set={"name": "still wrong"})
    assert (after["state"], after["run_id"]) == ("open", before["run_id"])
    assert "still wrong" in after["reason"]["en"]
    assert after["payload"] == before["payload"]


def test_an_edited_record_arrives_and_the_original_is_kept(rig: Rig) -> None:
    send_to(rig, "customer")
    (code,) = spoil(rig, name=None)
    rig.run(FLOW)
    with rig.open() as hub:
        letter = only_letter(hub)
        after = replay_one(hub, letter["id"][:12], set={"name": "Nut"})
        assert (after["state"], after["closed_how"], after["closed_by"]) == (
            "resolved", "replayed", ME,
        )  # fmt: skip
        assert after["payload"]["name"] is None
        assert after["edited"]["name"] == "Nut"
    found = rig.crm.find("customer", code)
    assert found is not None
    assert found["name"] == "Nut"
    assert rig.crm.effects_of("customer")[code] == 1


def test_an_edit_stands_until_the_source_changes(rig: Rig) -> None:
    send_to(rig, "customer")
    (code,) = spoil(rig, name=None)
    rig.run(FLOW)
    with rig.open() as hub:
        replay_one(hub, only_letter(hub)["id"], set={"name": "Nut"})
    again = rig.run(FLOW, full=True)
    assert rig.letters() == []
    assert (again.counts["rejected"], again.counts["written"]) == (0, 0)
    materials(rig)[code]["name"] = "Bolt"
    rig.u8.refresh()
    assert rig.run(FLOW, full=True).counts["written"] == 1
    found = rig.crm.find("customer", code)
    assert found is not None
    assert found["name"] == "Bolt"


def test_a_record_replayed_into_the_hubs_own_store_is_resolved_at_once(rig: Rig) -> None:
    rig.write_flow(
        FLOW,
        f"flow: {FLOW}\nfrom: {{connection: u8, stream: material}}\n"
        "mapping: {key: [code], fields: {code: code, name: name | required}}\n"
        "to: {entity: material}\n",
    )
    spoil(rig, name=None)
    rig.run(FLOW)
    with rig.open() as hub:
        after = replay_one(hub, only_letter(hub)["id"], set={"name": "Nut"})
        assert after["state"] == "resolved"
        assert LocalOperations(hub).count_records("material")["count"] == 30


def test_a_row_without_a_key_can_be_given_one(rig: Rig) -> None:
    send_to(rig, "customer")
    rig.u8.alter("/api/inventory/batch_get", "change_row", at="inventory", values={"code": None})
    rig.run(FLOW)
    with rig.open() as hub:
        letter = only_letter(hub)
        assert replay_one(hub, letter["id"])["state"] == "open"
        after = replay_one(hub, letter["id"], set={"code": "NEW-1"})
        assert after["state"] == "resolved"
        until(lambda: rig.crm.effects_of("customer").get("NEW-1") == 1)


def test_an_edit_that_makes_another_record_of_it_is_refused(rig: Rig) -> None:
    send_to(rig, "customer")
    spoil(rig, name=None)
    rig.run(FLOW)
    with rig.open() as hub:
        letter = only_letter(hub)
        with pytest.raises(ConfigError, match="another record"):
            replay_one(hub, letter["id"], set={"code": "OTHER", "name": "Nut"})
        assert only_letter(hub)["state"] == "open"


# --- deliveries -------------------------------------------------------------------------------


def test_a_refused_write_is_sent_again_with_an_edit(rig: Rig, refused: tuple[Hub, str]) -> None:
    hub, code = refused
    letter = only_letter(hub)
    assert letter["kind"] == "delivery"
    assert replay_one(hub, letter["id"])["state"] == "open", "the CRM refuses it still"
    after = replay_one(hub, letter["id"], set={"name": "fine", "subject": "fine"})
    assert (after["state"], after["closed_how"]) == ("resolved", "replayed")
    assert after["payload"]["name"] == "REJECT me"
    assert after["run_id"] == letter["run_id"]
    assert rig.crm.effects_of("customer")[code] == 1
    assert finish(hub, start_run(hub, FLOW, full=True)).counts["written"] == 0, "the edit stands"


def test_a_letter_replayed_twice_at_once_has_one_effect(rig: Rig, refused: tuple[Hub, str]) -> None:
    hub, code = refused
    letter, ops = only_letter(hub), LocalOperations(hub)
    asked: list[str] = []
    refusals: list[str] = []

    def ask() -> None:
        try:
            change = {"set": {"name": "fine", "subject": "fine"}}
            asked.append(ops.replay_letter(letter["id"], change, actor=ME)["id"])
        except ConfigError as error:
            refusals.append(error.code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(asked), refusals) == (1, ["dead_letter.not_open"] * 3)
    settled(ops, asked[0])
    assert rig.crm.effects_of("customer")[code] == 1


def test_an_old_payload_does_not_overwrite_what_the_source_said_since(
    rig: Rig, refused: tuple[Hub, str]
) -> None:
    hub, code = refused
    letter, ops = only_letter(hub), LocalOperations(hub)
    hub.durable.stop()  # nobody works: the request waits
    with pytest.raises(RuntimeError, match="not open"):
        start_run(hub, FLOW)
    replay = ops.replay_letter(letter["id"], {}, actor=ME)
    materials(rig)[code]["name"] = "newer"
    rig.u8.refresh()
    hub.close()
    with rig.open() as second:
        finish(second, start_run(second, FLOW, full=True))
        settled(LocalOperations(second), replay["id"])
        after = LocalOperations(second).dead_letter(letter["id"])
    assert after["state"] == "resolved"
    found = rig.crm.find("customer", code)
    assert found is not None
    assert found["name"] == "newer"
    assert rig.crm.effects_of("customer")[code] == 1


def test_a_newer_version_that_went_through_closes_the_letter(
    rig: Rig, refused: tuple[Hub, str]
) -> None:
    hub, code = refused
    materials(rig)[code]["name"] = "fine"
    rig.u8.refresh()
    finish(hub, start_run(hub, FLOW, full=True))
    after = LocalOperations(hub).dead_letters({"state": "all"}, 10)["items"]
    assert [(one["state"], one["closed_how"]) for one in after] == [("resolved", "recovered")]
    with pytest.raises(ConfigError, match="is resolved"):
        replay_one(hub, after[0]["id"])


def test_writes_given_up_that_had_landed_are_not_done_twice(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.engine.settlement.MAX_ATTEMPTS", 1)
    send_to(rig, "customer")
    path = "/api/v1/customers/upsert"
    rig.crm.misbehave(Fault.STATUS_AFTER, path, method="POST", times=1)
    assert rig.run(FLOW, seconds=60).counts["refused"] == 30
    with rig.open() as hub:
        letter = LocalOperations(hub).dead_letters({}, 1)["items"][0]
        assert letter["error_code"] == "delivery.gave_up"
        replay = replay_all(hub, code="delivery.gave_up")
    assert (replay["total"], replay["letters"]) == (30, {"resolved": 30})
    assert sorted(rig.crm.effects_of("customer").values()) == [1] * 30


@pytest.mark.parametrize("decision", ["landed", "send_again"])
def test_a_creation_given_up_that_had_landed_holds_newer_versions_until_a_person_decides(
    rig: Rig, decision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.engine.settlement.MAX_ATTEMPTS", 1)
    send_to(rig, "sale_order")
    rig.crm.misbehave(Fault.STATUS_AFTER, "/api/v1/sale_orders", method="POST", times=1)
    assert rig.run(FLOW, seconds=60).counts["refused"] == 1
    with rig.open() as hub:
        letter = only_letter(hub)
        assert (letter["kind"], letter["error_code"]) == ("review", "delivery.unanswered")
        code = letter["source_key"]
        there = rig.crm.find("sale_order", code)
        assert there is not None
        wanted = {"landed": {"target_id": there["id"]}, "send_again": {}}[decision]
        if decision == "landed":  # what waits behind it goes to the object that is there
            materials(rig)[code]["name"] = "newer"
            rig.u8.refresh()
            finish(hub, start_run(hub, FLOW, full=True))
        after = replay_one(hub, letter["id"], decision=decision, **wanted)
        assert after["state"] == "resolved"
        versions = 2 if decision == "landed" else 1
        until(lambda: rig.crm.effects_of("sale_order")[code] == versions)
    assert rig.crm.duplicates("sale_order") == []


def test_a_change_given_up_that_may_have_landed_is_replayed_as_it_is_or_not_at_all(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.engine.settlement.MAX_ATTEMPTS", 1)
    send_to(rig, "sale_order")
    rig.run(FLOW, seconds=60)
    (code,) = spoil(rig, name="newer")
    rig.crm.misbehave(Fault.STATUS_AFTER, method="PUT", times=1)
    with rig.open() as hub:
        finish(hub, start_run(hub, FLOW, full=True), 60)
        letter = only_letter(hub)
        assert letter["error_code"] == "delivery.gave_up"
        with pytest.raises(ConfigError, match="without an edit"):
            replay_one(hub, letter["id"], set={"name": "x"})
        assert replay_one(hub, letter["id"])["state"] == "resolved"
    assert rig.crm.effects_of("sale_order")[code] == 2


# --- doubtful writes --------------------------------------------------------------------------


@pytest.fixture
def doubtful(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Hub, dict[str, Any]]]:
    with with_doubtful(rig, monkeypatch) as made:
        yield made


def test_a_doubtful_write_is_not_replayed_without_a_decision(
    rig: Rig, doubtful: tuple[Hub, dict[str, Any]]
) -> None:
    hub, letter = doubtful
    assert letter["kind"] == "review"
    with pytest.raises(ConfigError, match=r"--landed .* or --send-again"):
        replay_one(hub, letter["id"])
    with pytest.raises(ConfigError, match="cannot be edited"):
        replay_one(hub, letter["id"], decision="send_again", set={"name": "x"})
    replay = replay_all(hub)
    assert (replay["replayed"], replay["passed_over"]) == (0, 1)
    assert rig.crm.effects_of("ticket")[letter["source_key"]] == 1


def test_what_landed_is_adopted_and_what_waited_behind_it_goes_on(
    rig: Rig, doubtful: tuple[Hub, dict[str, Any]]
) -> None:
    hub, letter = doubtful
    code = letter["source_key"]
    found = rig.crm.find("ticket", code)
    assert found is not None
    materials(rig)[code]["name"] = "newer"
    rig.u8.refresh()
    finish(hub, start_run(hub, FLOW, full=True))
    assert rig.crm.effects_of("ticket")[code] == 1, "the newer version waits"
    after = replay_one(hub, letter["id"], decision="landed", target_id=found["id"])
    assert (after["state"], after["closed_how"]) == ("resolved", "landed")
    until(lambda: rig.crm.effects_of("ticket")[code] == 2)
    assert rig.crm.duplicates("ticket") == []


def test_what_is_not_there_is_sent_again(rig: Rig, doubtful: tuple[Hub, dict[str, Any]]) -> None:
    hub, letter = doubtful
    after = replay_one(hub, letter["id"], decision="send_again")
    assert after["state"] == "resolved"
    assert rig.crm.effects_of("ticket")[letter["source_key"]] == 2, "as the person said"


def test_a_decision_about_a_known_outcome_is_refused(rig: Rig, refused: tuple[Hub, str]) -> None:
    hub, _ = refused
    with pytest.raises(ConfigError, match="whose outcome is known"):
        replay_one(hub, only_letter(hub)["id"], decision="landed")


# --- all at once ------------------------------------------------------------------------------


def test_all_letters_of_a_reason_go_again_and_the_others_stay(rig: Rig) -> None:
    send_to(rig, "customer")
    codes = spoil(rig, 10, name=None)
    rig.run(FLOW)
    send_to(rig, "customer", name="code")
    with rig.open() as hub:
        assert replay_all(hub, code="nothing.such")["total"] == 0
        replay = replay_all(hub, code="mapping.required")
        assert (replay["total"], replay["replayed"]) == (10, 10)
        assert replay["letters"] == {"resolved": 10}
    effects = rig.crm.effects_of("customer")
    assert {effects[code] for code in codes} == {1}


def test_a_letter_that_fails_again_is_taken_up_once_per_replay(rig: Rig) -> None:
    send_to(rig, "customer")
    spoil(rig, 5, name=None)
    rig.run(FLOW)
    with rig.open() as hub:
        replay = replay_all(hub)
    assert (replay["replayed"], replay["letters"]) == (5, {"open": 5})


def test_a_replay_keeps_to_its_rate(rig: Rig) -> None:
    send_to(rig, "customer")
    spoil(rig, 6, name=None)
    rig.run(FLOW)
    with rig.open() as hub:
        ops = LocalOperations(hub)
        replay = ops.replay_letters({"flow": FLOW}, 2.0, dry_run=False, actor=ME)
        until(lambda: ops.replay(replay["id"])["replayed"] > 0)
        assert ops.replay(replay["id"])["replayed"] <= 4
        done = settled(ops, replay["id"])
    assert done["replayed"] == 6


def test_a_cancelled_replay_stops_and_says_how_far_it_came(rig: Rig) -> None:
    send_to(rig, "customer")
    spoil(rig, 10, name=None)
    rig.run(FLOW)
    with rig.open() as hub:
        ops = LocalOperations(hub)
        replay = ops.replay_letters({"flow": FLOW}, 1.0, dry_run=False, actor=ME)
        until(lambda: ops.replay(replay["id"])["replayed"] > 0)
        found = ops.cancel_replay(replay["id"], actor=ME)
        assert found["state"] == "cancelled"
        assert found["replayed"] < 10
        with pytest.raises(ConfigError, match="nothing to cancel"):
            ops.cancel_replay(replay["id"], actor=ME)


def test_a_dry_run_counts_and_changes_nothing(rig: Rig) -> None:
    send_to(rig, "customer")
    spoil(rig, 3, name=None)
    rig.run(FLOW)
    with rig.open() as hub:
        ops = LocalOperations(hub)
        found = ops.replay_letters({"flow": FLOW}, None, dry_run=True, actor=ME)
        assert (found["total"], found["dry_run"]) == (3, True)
        assert ops.replays(10) == []
        assert ops.audit({}, 10)["items"] == []


def test_a_replay_disturbs_neither_counts_nor_the_next_read(rig: Rig) -> None:
    send_to(rig, "customer")
    spoil(rig, 3, name=None)
    first = rig.run(FLOW)
    send_to(rig, "customer", name="code")
    with rig.open() as hub:
        replay_all(hub)
        assert [one["id"] for one in LocalOperations(hub).runs(FLOW, 10)] == [first.id]
        again = finish(hub, start_run(hub, FLOW, full=True))
    assert again.id == first.id + 1
    assert again.counts["mapped"] == 30
