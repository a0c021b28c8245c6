"""Discards, and what the audit says of all that people decide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hub.engine.hub import Hub
from hub.engine.operations import LocalOperations
from hub.engine.planning import start_run
from hub.sdk.errors import ConfigError
from tests.engine.conftest import Rig, finish
from tests.engine.letter_rig import (
    FLOW,
    ME,
    materials,
    only_letter,
    replay_all,
    replay_one,
    send_to,
    shorten_waits,
    spoil,
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


@pytest.fixture
def doubtful(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Hub, dict[str, Any]]]:
    with with_doubtful(rig, monkeypatch) as made:
        yield made


# --- discards ---------------------------------------------------------------------------------


def test_what_was_discarded_stays_so_until_the_row_changes(rig: Rig) -> None:
    send_to(rig, "customer")
    (code,) = spoil(rig, name=None)
    rig.run(FLOW)
    with rig.open() as hub:
        done = LocalOperations(hub).discard_letter(only_letter(hub)["id"], "a test row", actor=ME)
        assert (done["state"], done["note"], done["closed_by"]) == ("discarded", "a test row", ME)
    again = rig.run(FLOW, full=True)
    assert (again.counts["rejected"], again.counts["skipped"]) == (0, 1)
    assert rig.letters() == []
    materials(rig)[code]["memo"] = "changed, still without a name"
    rig.u8.refresh()
    assert rig.run(FLOW, full=True).counts["rejected"] == 1
    assert [one["source_key"] for one in rig.letters()] == [code]


def test_a_changed_mapping_judges_a_discarded_row_anew(rig: Rig) -> None:
    send_to(rig, "customer")
    spoil(rig, name=None)
    rig.run(FLOW)
    with rig.open() as hub:
        LocalOperations(hub).discard_letter(only_letter(hub)["id"], "no", actor=ME)
    send_to(rig, "customer", name="name | trim | required")
    assert rig.run(FLOW, full=True).counts["rejected"] == 1


def test_a_discarded_letter_can_be_taken_up_after_all(rig: Rig) -> None:
    send_to(rig, "customer")
    (code,) = spoil(rig, name=None)
    rig.run(FLOW)
    with rig.open() as hub:
        letter = only_letter(hub)["id"]
        LocalOperations(hub).discard_letter(letter, "no", actor=ME)
        assert replay_one(hub, letter, set={"name": "Nut"})["state"] == "resolved"
    assert rig.crm.effects_of("customer")[code] == 1


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_discard_needs_a_reason(embedded: Rig, reason: str) -> None:
    send_to(embedded, "customer")
    spoil(embedded, name=None)
    embedded.run(FLOW)
    with embedded.open() as hub:
        ops = LocalOperations(hub)
        for discard in (
            lambda: ops.discard_letter(only_letter(hub)["id"], reason, actor=ME),
            lambda: ops.discard_letters({"flow": FLOW}, reason, actor=ME),
        ):
            with pytest.raises(ConfigError, match="--reason"):
                discard()


def test_discarding_all_wants_a_filter_and_leaves_doubtful_writes(
    rig: Rig, doubtful: tuple[Hub, dict[str, Any]]
) -> None:
    hub, _ = doubtful
    ops = LocalOperations(hub)
    with pytest.raises(ConfigError, match="every letter"):
        ops.discard_letters({}, "because", actor=ME)
    assert ops.discard_letters({"flow": FLOW}, "because", actor=ME) == {"discarded": 0}


def test_a_doubtful_write_that_is_given_up_holds_up_nothing(
    rig: Rig, doubtful: tuple[Hub, dict[str, Any]]
) -> None:
    hub, letter = doubtful
    code = letter["source_key"]
    LocalOperations(hub).discard_letter(letter["id"], "gone at the customer", actor=ME)
    materials(rig)[code]["name"] = "newer"
    rig.u8.refresh()
    finish(hub, start_run(hub, FLOW, full=True))
    assert rig.crm.effects_of("ticket")[code] == 2


# --- the audit --------------------------------------------------------------------------------


def test_everything_a_person_does_is_in_the_audit_without_what_the_record_holds(
    rig: Rig, doubtful: tuple[Hub, dict[str, Any]]
) -> None:
    hub, letter = doubtful
    ops = LocalOperations(hub)
    replay_one(hub, letter["id"], decision="landed")
    spoil(rig, 2, name=None)
    finish(hub, start_run(hub, FLOW, full=True))
    first, second = (one["id"] for one in ops.dead_letters({"kind": "record"}, 2)["items"])
    replay_one(hub, first, set={"name": "CANARY"})
    ops.discard_letter(second, "a test row", actor=ME)
    replay_all(hub)
    entries = ops.audit({}, 10)["items"]
    assert [one["action"] for one in reversed(entries)] == [
        "dead_letter.decide", "dead_letter.replay", "dead_letter.discard",
        "dead_letter.replay_all",
    ]  # fmt: skip
    assert {one["actor"] for one in entries} == {ME}
    assert entries[2]["details"]["fields"] == ["name"]
    assert "CANARY" not in str(entries)
    assert ops.verify_audit()["ok"]
