"""Two systems kept alike in both directions: echoes die, edits survive, conflicts are ruled."""

from __future__ import annotations

from typing import Any

import pytest

from hub.engine.sameness import same
from tests.engine import offices
from tests.engine.offices import BACK, FORTH, Office
from tests.engine.two_way_rig import (
    BOTH_ORDERS,
    ON_BOTH,
    Make,
    alike,
    events,
    turn,
    writes,
)

# --- echoes -------------------------------------------------------------------------------------


@ON_BOTH
def test_a_record_is_written_once_and_its_echo_dies(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    left.add(name="泵", phone="1", amount="1.5", tags=["a", "b"])
    turn(hub, times=3)
    hub.run(BACK, full=True)
    assert writes(left, right) == (0, 1)
    assert alike(left, right)


@ON_BOTH
def test_an_edit_on_either_side_arrives_on_the_other_with_one_write(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    left.add(name="a")
    turn(hub)
    right.edit("R1", phone="2")
    turn(hub, times=2)
    left.edit("L1", name="b")
    turn(hub, times=2)
    assert alike(left, right)
    assert right.said("R1")["name"] == "b"
    assert left.said("L1")["phone"] == "2"
    assert writes(left, right) == (1, 2)


def test_a_record_born_on_the_other_side_comes_over_and_stays_one(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    right.add(name="born right")
    turn(hub, times=3)
    assert list(left.things) == ["L1"]
    assert list(right.things) == ["R1"]
    assert writes(left, right) == (1, 0)
    left.edit("L1", remark="seen")
    turn(hub, times=2)
    assert right.said("R1")["remark"] == "seen"
    assert writes(left, right) == (1, 1)


def test_the_echo_is_recognised_by_a_hub_that_was_started_anew(
    make: Make, left: Office, right: Office
) -> None:
    left.mangle = right.mangle = offices.tidies
    hub = make()
    left.add(name=" a long name of a pump ", amount="1.2345", tags=["b", "a"])
    turn(hub, FORTH)
    hub = make()
    turn(hub, BACK)
    right.edit("R1", phone="7")
    turn(hub, BACK)
    hub = make()
    turn(hub, FORTH)
    assert writes(left, right) == (1, 1)
    assert events(hub) == []


@pytest.mark.parametrize("update", ["put", "patch"])
def test_what_a_target_trims_rounds_cuts_and_reorders_does_not_come_back_as_an_edit(
    make: Make, left: Office, right: Office, update: str
) -> None:
    left.mangle = right.mangle = offices.tidies
    hub = make(update=update)
    left.add(name=" a long name of a pump ", amount="1.2345", tags=["b", "a"])
    right.add(name="another long name ", amount="9.999", tags=["x", "y", "z"])
    turn(hub, times=4)
    assert writes(left, right) == (1, 1)
    assert left.said("L1")["amount"] == "1.2345"
    assert left.said("L1")["name"] == " a long name of a pump "
    left.edit("L1", phone="7")
    turn(hub, times=3)
    assert writes(left, right) == (1, 2)
    assert right.said("R2")["phone"] == "7"
    assert right.said("R2")["amount"] == "1.23"
    assert events(hub) == []


def test_a_value_set_back_by_a_person_after_our_write_is_an_edit(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    left.add(name="one")
    turn(hub)
    right.edit("R1", name="two")
    turn(hub, times=2)
    left.edit("L1", name="three")
    turn(hub, FORTH)
    right.edit("R1", name="two")
    turn(hub, times=2)
    assert left.said("L1")["name"] == right.said("R1")["name"] == "two"


def test_a_copy_of_a_record_is_a_record_of_its_own(make: Make, left: Office, right: Office) -> None:
    hub = make()
    right.add(name="original")
    turn(hub, times=2)
    left.add(**left.said("L1") | {"name": "copy", "ref": left.things["L1"]["ref"]})
    turn(hub, times=2)
    assert {one["name"] for one in right.things.values()} == {"original", "copy"}
    assert (len(left.things), len(right.things)) == (2, 2)
    assert alike(left, right, "L2", "R2")


def test_a_run_tells_how_many_of_its_rows_were_echoes(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    for number in range(3):
        left.add(name=f"n{number}")
    turn(hub, FORTH)
    counts = hub.run(BACK).counts
    assert (counts["mapped"], counts["unchanged"], counts["written"]) == (3, 3, 0)


# --- edits on both sides ------------------------------------------------------------------------


@BOTH_ORDERS
@pytest.mark.parametrize("update", ["put", "patch"])
def test_edits_of_different_fields_both_survive(
    make: Make, left: Office, right: Office, order: tuple[str, str], update: str
) -> None:
    hub = make(update=update)
    left.add(name="a", phone="1", remark="r")
    turn(hub)
    left.edit("L1", phone="2")
    right.edit("R1", remark="changed")
    turn(hub, *order, times=2)
    assert alike(left, right)
    assert (left.said("L1")["phone"], left.said("L1")["remark"]) == ("2", "changed")
    assert events(hub) == []


@ON_BOTH
@BOTH_ORDERS
@pytest.mark.parametrize(("owner", "wins"), [("left", "l"), ("right", "r")])
def test_the_owner_wins_where_both_changed_the_same_field(
    make: Make, left: Office, right: Office, order: tuple[str, str], owner: str, wins: str
) -> None:
    hub = make({"owner": owner})
    left.add(name="a", remark="x")
    turn(hub)
    left.edit("L1", name="l")
    right.edit("R1", name="r", phone="kept")
    turn(hub, *order, times=2)
    assert alike(left, right)
    assert (left.said("L1")["name"], left.said("L1")["phone"]) == (wins, "kept")
    (event,) = events(hub)
    assert {event["source"], event["target"]} == {"l", "r"}
    assert (event["field"], event["rule"]) == ("name", f"owner:{owner}")


def test_both_sides_changed_to_the_same_value_is_no_conflict(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    left.add(name="a", amount="1")
    turn(hub)
    left.edit("L1", amount="2.5", name="b ")
    right.edit("R1", amount="2.5", name="b")
    before = writes(left, right)
    turn(hub, times=2)
    assert writes(left, right) == before
    assert events(hub) == []


RULES = [
    ("union", "tags", ["a", "l"], ["r", "a", "z"], ["a", "l", "r"]),
    ("union", "tags", ["a"], ["a", "z", "n"], ["a", "n"]),
    ("max", "amount", "3", "12", "12"),
    ("min", "amount", "3", "12", "3"),
    ("fill_blank", "remark", None, "r", "r"),
    ("fill_blank", "remark", "l", None, "l"),
    ("fill_blank", "remark", "l", "r", "l"),
    ("owner:right", "phone", "l", "r", "r"),
    ("latest", "phone", "l", "r", "r"),
    ("human_wins", "phone", "l", "r", "l"),
]
CLOCKS = {"left": {"path": "changed_at"}, "right": {"path": "changed_at"}}
HUMANS = {side: {"path": "by", "in": ["person"]} for side in ("left", "right")}


@BOTH_ORDERS
@pytest.mark.parametrize(("rule", "field", "ours", "theirs", "result"), RULES)
def test_each_rule_ends_with_both_sides_equal(
    make: Make,
    left: Office,
    right: Office,
    order: tuple[str, str],
    rule: str,
    field: str,
    ours: Any,
    theirs: Any,
    result: Any,
) -> None:
    more = {"clock": CLOCKS, "human": HUMANS}
    hub = make({"owner": "left", "fields": {field: rule}}, more=more)
    left.add(name="a", tags=["a", "z"], amount="1", remark="x", phone="p")
    turn(hub)
    left.edit("L1", **{field: ours})
    hub.time.advance(30)
    right.edit("R1", **{field: theirs, "by": "robot"})
    turn(hub, *order, times=3)
    got = left.said("L1")[field], right.said("R1")[field]
    assert same(result, got[0]), got
    assert same(result, got[1]), got
    assert len(events(hub)) == 1


def test_the_newest_edit_wins_by_default_and_within_five_seconds_the_owner(
    make: Make, left: Office, right: Office
) -> None:
    hub = make({"owner": "right", "default": "latest"}, more={"clock": CLOCKS})
    left.add(name="a", phone="1")
    turn(hub)
    right.edit("R1", name="older")
    hub.time.advance(6)
    left.edit("L1", name="newer")
    turn(hub, times=2)
    assert right.said("R1")["name"] == left.said("L1")["name"] == "newer"
    right.edit("R1", phone="owner")
    hub.time.advance(4)
    left.edit("L1", phone="too close")
    turn(hub, times=2)
    assert right.said("R1")["phone"] == left.said("L1")["phone"] == "owner"
    assert [one["rule"] for one in events(hub)] == ["latest", "latest → owner:right"]


def test_two_way_turned_on_for_records_that_were_written_one_way_takes_the_owners_values(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    folder = hub.deployment.folder / "mappings" / "flows"
    (folder / f"{BACK}.yaml").unlink()
    text = (folder / f"{FORTH}.yaml").read_text(encoding="utf-8")
    (folder / f"{FORTH}.yaml").write_text(text[: text.index("two_way:")], encoding="utf-8")
    hub.refresh()
    left.add(name="a", phone="1")
    turn(hub, FORTH)
    right.edit("R1", name="changed before", remark="only right")
    hub = make()
    turn(hub, times=3)
    assert alike(left, right)
    assert left.said("L1")["name"] == "a"
    assert len(left.things) == len(right.things) == 1
