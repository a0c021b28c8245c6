"""Two-way flows where somebody deletes, two automations quarrel, or a person has to decide."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from hub.engine.operations import LocalOperations
from hub.store.runs import RunState
from hub.store.tables import link
from tests.engine.offices import BACK, FORTH, Office
from tests.engine.paper import QuietHub
from tests.engine.two_way_rig import (
    BOTH_ORDERS,
    ON_BOTH,
    Make,
    alike,
    events,
    letter_about,
    letters,
    replay,
    turn,
    writes,
)

# --- deletions ----------------------------------------------------------------------------------


@ON_BOTH
@pytest.mark.parametrize("delete", ["deactivate", "delete"])
def test_a_deletion_reaches_the_other_side_and_its_echo_dies(
    make: Make, left: Office, right: Office, delete: str
) -> None:
    hub = make(delete=delete)
    left.add(name="a")
    turn(hub)
    left.add(name="b")
    turn(hub)
    left.remove("L1")
    turn(hub, times=3)
    assert right.live() == ["R2"]
    assert left.live() == ["L2"]
    assert [what for what, _ in right.log] == [
        "create",
        "create",
        *(["off"] if delete == "deactivate" else ["delete"]),
    ]
    assert left.log == []


def test_a_stale_row_does_not_bring_a_deleted_record_back(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    left.add(name="a")
    turn(hub)
    right.edit("R1", phone="just before the deletion")
    stale = dict(right.things["R1"])
    left.remove("L1")
    turn(hub, FORTH)
    gone = dict(right.things["R1"])
    right.things["R1"] = stale  # a list that lags behind ...
    shown = right._show
    right.route("GET", "/late/{id}", shown)
    run = hub.run(BACK, deliver=False)
    right.things["R1"] = gone  # ... while the record itself says what it is
    hub.deliver(BACK)
    assert hub.look(run.id).state == RunState.DONE
    assert left.live() == right.live() == []
    assert left.log == []


@ON_BOTH
def test_a_record_deleted_and_made_again_keeps_its_partner(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    left.add(name="a", phone="1")
    turn(hub)
    left.remove("L1")
    turn(hub, times=2)
    left.restore("L1")
    turn(hub, times=2)
    assert right.live() == ["R1"]
    right.edit("R1", phone="3")
    turn(hub, times=2)
    assert left.said("L1")["phone"] == "3"
    assert (list(left.things), list(right.things)) == (["L1"], ["R1"])


@BOTH_ORDERS
@pytest.mark.parametrize(
    ("policy", "alive"),
    [
        ({"owner": "left"}, False),
        ({"owner": "right"}, True),
        ({"owner": "left", "deletions": "lose"}, True),
        ({"owner": "right", "deletions": "win"}, False),
    ],
)
def test_a_deletion_against_an_edit_is_ruled_by_the_policy(
    make: Make,
    left: Office,
    right: Office,
    order: tuple[str, str],
    policy: dict[str, str],
    *,
    alive: bool,
) -> None:
    hub = make(policy)
    left.add(name="a")
    turn(hub)
    left.remove("L1")
    right.edit("R1", remark="still needed")
    turn(hub, *order, times=3)
    assert len(left.live()) == len(right.live()) == int(alive)
    assert [one["field"] for one in events(hub)][:1] == ["*"]
    assert not alive or alike(left, right)


def test_what_was_deleted_outright_and_restored_is_created_anew(
    make: Make, left: Office, right: Office
) -> None:
    hub = make(delete="delete")
    left.add(name="a")
    turn(hub)
    left.remove("L1")
    turn(hub, times=2)
    assert right.things == {}
    left.restore("L1", name="again")
    turn(hub, times=2)
    assert [one["name"] for one in right.things.values()] == ["again"]
    assert left.live() == ["L1"]
    right.edit("R2", phone="4")
    turn(hub, times=2)
    assert left.said("L1")["phone"] == "4"


def test_a_record_deleted_before_its_echo_was_read_is_deleted_on_the_other_side(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    right.add(name="born right")
    turn(hub, BACK)
    left.remove("L1")
    turn(hub, times=2)
    assert right.live() == []


# --- circles ------------------------------------------------------------------------------------


def test_a_field_that_keeps_turning_is_stopped_and_goes_on_after_a_persons_word(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    left.add(name="a", phone="1")
    turn(hub)
    left.add(name="b", phone="1")
    turn(hub)
    for number in range(6):
        left.edit("L1", name=f"as left wants it {number}")
        turn(hub, FORTH)
        right.edit("R1", name=f"as right wants it {number}")
        turn(hub, BACK)
    assert writes(left, right) == (1, 2 + 2), "forth, back and forth again, then no more"
    assert {one[1] for one in letters(hub)} == {"two_way.stopped"}
    left.edit("L2", phone="2")
    turn(hub)
    assert right.said("R2")["phone"] == "2"
    replay(hub, FORTH, "L1")
    turn(hub)
    assert alike(left, right)
    states = dict(hub.rows(sa.select(link.c.source_key, link.c.state)))
    assert states["L1"] == "synced"


def test_edits_of_different_fields_in_turn_are_no_circle(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    left.add(name="a")
    turn(hub)
    for number in range(6):
        left.edit("L1", phone=str(number))
        turn(hub)
        right.edit("R1", remark=str(number))
        turn(hub)
    assert alike(left, right)
    assert letters(hub) == []


# --- a person decides ---------------------------------------------------------------------------


def disputed(make: Make, left: Office, right: Office) -> QuietHub:
    hub = make({"owner": "left", "fields": {"remark": "manual"}})
    left.add(name="a", remark="x", phone="1")
    turn(hub)
    left.edit("L1", remark="l", phone="2")
    right.edit("R1", remark="r")
    turn(hub, times=2)
    hub.run(FORTH, full=True)
    return hub


def test_manual_leaves_both_values_writes_the_rest_and_asks_once(
    make: Make, left: Office, right: Office
) -> None:
    hub = disputed(make, left, right)
    assert (left.said("L1")["remark"], right.said("R1")["remark"]) == ("l", "r")
    assert right.said("R1")["phone"] == "2"
    assert letters(hub) == [(FORTH, "two_way.disputed", "remark")]
    assert len(events(hub)) == 1


def test_a_dispute_about_a_masked_field_shows_neither_value(
    make: Make, left: Office, right: Office
) -> None:
    hub = make({"owner": "left", "fields": {"remark": "manual"}})
    for name in (FORTH, BACK):
        path = hub.deployment.folder / "mappings" / "flows" / f"{name}.yaml"
        text = path.read_text(encoding="utf-8")
        assert "remark: remark" in text
        path.write_text(
            text.replace("remark: remark", "remark: {from: remark, masked: true}"), encoding="utf-8"
        )
    hub.refresh()
    left.add(name="a", remark="x")
    turn(hub)
    left.edit("L1", remark="ours-secret")
    right.edit("R1", remark="theirs-secret")
    turn(hub)
    shown = str(LocalOperations(hub).dead_letter(letter_about(FORTH, "L1"))) + str(events(hub))
    assert "secret" not in shown
    assert "***" in shown


@ON_BOTH
@pytest.mark.parametrize(
    ("wanted", "result"),
    [({}, "l"), ({"set": {"remark": "r"}}, "r"), ({"set": {"remark": "both"}}, "both")],
)
def test_a_dispute_ends_as_the_replay_of_its_letter_says(
    make: Make, left: Office, right: Office, wanted: dict[str, Any], result: str
) -> None:
    hub = disputed(make, left, right)
    left.edit("L1", phone="edited meanwhile")
    replay(hub, FORTH, "L1", **wanted)
    hub.deliver(BACK)
    turn(hub, times=2)
    assert left.said("L1")["remark"] == right.said("R1")["remark"] == result
    assert right.said("R1")["phone"] == "edited meanwhile"
    assert letters(hub) == []


def test_a_dispute_ends_with_the_next_edit_of_the_field(
    make: Make, left: Office, right: Office
) -> None:
    hub = disputed(make, left, right)
    right.edit("R1", remark="decided")
    turn(hub, times=2)
    assert left.said("L1")["remark"] == "decided"
    assert letters(hub) == []


def test_a_dispute_that_is_discarded_leaves_both_values_and_is_not_asked_again(
    make: Make, left: Office, right: Office
) -> None:
    hub = disputed(make, left, right)
    LocalOperations(hub).discard_letter(letter_about(FORTH, "L1"), "both are right", actor="tester")
    for _ in range(2):
        hub.run(FORTH, full=True)
        turn(hub)
    assert (left.said("L1")["remark"], right.said("R1")["remark"]) == ("l", "r")
    assert letters(hub) == []
