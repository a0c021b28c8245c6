"""Deaths between any two steps, and whatever people do: two-way flows come to rest and agree."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.engine.sameness import same
from hub.sdk.testing import FakeClock
from hub.store.runs import RunState
from tests.engine import offices
from tests.engine.offices import BACK, FIELDS, FORTH, Office, furnish
from tests.engine.paper import Died, QuietHub, dying
from tests.engine.two_way_rig import ON_BOTH, Make, alike, events, letters, turn, writes

POINTS = (
    "page.before_commit",
    "page.after_commit",
    "delivery.claimed",
    "two_way.looked",
    "two_way.written",
    "delivery.sent",
    "delivery.before_commit",
    "delivery.settled",
)
SAFETIES = ("upsert", "idempotency_key", "look_up")
SAME_HISTORIES = settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@contextmanager
def death(point: str) -> Iterator[None]:
    with dying(lambda name: name == point):
        try:
            yield
        except Died:
            return


def go_on(hub: QuietHub) -> None:
    """Bring to an end what a death left open: one direction may have to wait for the other."""
    for flow in (BACK, FORTH, BACK, FORTH):
        hub.deliver(flow, rounds=3)


def other(flow: str) -> str:
    return BACK if flow == FORTH else FORTH


@ON_BOTH
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("first", [FORTH, BACK])
def test_a_death_at_any_step_doubles_nothing_and_loses_no_edit(
    make: Make, left: Office, right: Office, point: str, first: str
) -> None:
    left.mangle = right.mangle = offices.tidies
    hub = make(update="patch")
    left.add(name="old", amount="1")
    turn(hub)
    left.add(name=" new left ", amount="1.239")
    right.add(name=" new right ", amount="2.345")
    left.edit("L1", phone="l", amount="7.777")
    right.edit("R1", remark="r")
    with death(point):
        hub.run(first)
    with death(point):
        hub.run(other(first))
    hub = make(update="patch")
    hub.time.advance(1000)
    go_on(hub)
    turn(hub, other(first), first, times=2)
    assert len(left.things) == len(right.things) == 3
    assert (left.said("L1")["remark"], right.said("R1")["phone"]) == ("r", "l")
    assert right.said("R1")["amount"] == "7.78"
    assert left.said("L1")["amount"] == "7.777", "what the other side cannot keep came back"
    assert events(hub) == letters(hub) == []
    quiet = writes(left, right)
    turn(hub)
    assert writes(left, right) == quiet


@pytest.mark.parametrize("safety", SAFETIES)
@pytest.mark.parametrize("point", POINTS)
def test_a_new_record_is_made_once_however_its_target_recognises_repeats(
    make: Make, left: Office, right: Office, safety: str, point: str
) -> None:
    left.safety = right.safety = safety
    hub = make()
    right.add(name="born right")
    with death(point):
        hub.run(BACK)
    hub = make()
    run = hub.run(FORTH, deliver=False)
    hub.deliver(FORTH, rounds=2)
    assert list(right.things) == ["R1"], "made twice"
    hub.time.advance(1000)
    go_on(hub)
    turn(hub, BACK, FORTH, times=2)
    assert hub.look(run.id).state == RunState.DONE
    assert (list(left.things), list(right.things)) == (["L1"], ["R1"])
    right.edit("R1", phone="2")
    turn(hub, times=2)
    assert alike(left, right)


def test_an_edit_after_a_write_that_nobody_heard_of_is_no_conflict(
    make: Make, left: Office, right: Office
) -> None:
    hub = make()
    left.add(name="a", remark="x")
    turn(hub)
    right.edit("R1", remark="first")
    with death("two_way.written"):
        hub.run(BACK)
    assert left.said("L1")["remark"] == "first"
    right.edit("R1", remark="second")
    hub = make()
    hub.time.advance(1000)
    go_on(hub)
    turn(hub, times=2)
    assert left.said("L1")["remark"] == right.said("R1")["remark"] == "second"
    assert events(hub) == []


# --- random histories ---------------------------------------------------------------------------

SIDES = st.sampled_from("LR")
NUMBERS = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("edit"), SIDES, NUMBERS, st.sampled_from(FIELDS)),
    st.tuples(st.just("run"), st.sampled_from([FORTH, BACK])),
    st.tuples(st.just("die"), st.sampled_from([FORTH, BACK]), st.sampled_from(POINTS)),
)
POLICIES = st.sampled_from(
    [
        {"owner": "left"},
        {"owner": "right"},
        {"owner": "left", "default": "latest"},
        {"owner": "left", "fields": {"tags": "union", "amount": "max", "name": "owner:right"}},
    ]
)


@SAME_HISTORIES
@given(steps=st.lists(STEPS, min_size=4, max_size=14), policy=POLICIES)
def test_whatever_people_edit_both_sides_come_to_agree_and_then_nothing_is_written(
    empty_hub: Path, tmp_path: Path, steps: list[tuple[Any, ...]], policy: dict[str, Any]
) -> None:
    folder, clock = tmp_path / "random", FakeClock()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(empty_hub, folder)
    more = {"clock": {side: {"path": "changed_at"} for side in ("left", "right")}}
    with Office("L", clock) as left, Office("R", clock) as right:
        furnish(folder, left, right, policy, more=more)
        hub = QuietHub(folder, clock=clock)
        try:
            History(hub, left, right, policy).play(steps)
        finally:
            hub.close()


class History:
    """What people did to three records, and what must have become of it."""

    def __init__(self, hub: QuietHub, left: Office, right: Office, policy: dict[str, Any]) -> None:
        self.hub, self.left, self.right, self.policy = hub, left, right, policy
        self.edits: dict[tuple[int, str], list[tuple[str, Any]]] = {}
        for number in range(3):
            left.add(name=f"n{number}", tags=["t"], amount="1")
            turn(hub)

    def play(self, steps: list[tuple[Any, ...]]) -> None:
        for count, step in enumerate(steps):
            # An hour between the steps: nothing here is meant to look like a circle.
            self.hub.time.advance(3600)
            if step[0] == "edit":
                self._edit(count, *step[1:])
            else:
                with death(step[2] if step[0] == "die" else "never"):
                    self.hub.run(step[1])
        self._rest()
        self._check(sum(step[0] == "edit" for step in steps))

    def _edit(self, count: int, side: str, number: int, field: str) -> None:
        value: Any = f"{field}{count}"
        value = [f"t{count}"] if field == "tags" else f"{count}.25" if field == "amount" else value
        office = self.left if side == "L" else self.right
        office.edit(f"{side}{number + 1}", **{field: value})
        self.edits.setdefault((number, field), []).append((side, value))

    def _rest(self) -> None:
        self.hub.time.advance(1000)
        go_on(self.hub)
        turn(self.hub, times=3)

    def _check(self, edits: int) -> None:
        for number in range(3):
            assert alike(self.left, self.right, f"L{number + 1}", f"R{number + 1}")
        for (number, field), done in self.edits.items():
            found = self.left.said(f"L{number + 1}")[field]
            if len({side for side, _ in done}) == 1:
                assert same(done[-1][1], found), "an edit that nobody contested is lost"
            elif field != "tags":
                assert any(same(value, found) for _, value in done), "nobody has ever said this"
        assert len(self.left.things) == len(self.right.things) == 3
        quiet = writes(self.left, self.right)
        turn(self.hub)
        self.hub.run(FORTH, full=True)
        self.hub.run(BACK, full=True)
        assert writes(self.left, self.right) == quiet
        assert sum(quiet) <= 3 + 2 * edits
        assert letters(self.hub) == []


# --- rounds of edits against a model ------------------------------------------------------------

VALUES: dict[str, Any] = {
    "name": st.sampled_from(["a", "b", "c"]),
    "phone": st.sampled_from(["1", "2", None]),
    "amount": st.sampled_from(["1", "2.5", "30"]),
    "tags": st.lists(st.sampled_from("xyz"), unique=True).map(sorted),
    "remark": st.sampled_from(["r", "s", None]),
}
EDITS = st.fixed_dictionaries({}, optional=VALUES)
ROUNDS = st.lists(st.tuples(EDITS, EDITS, st.booleans()), min_size=1, max_size=4)
RULES = {
    "name": "owner:right",
    "phone": "latest",
    "amount": "max",
    "tags": "union",
    "remark": "fill_blank",
}


def ruled(field: str, ours: Any, theirs: Any, was: Any) -> Any:
    """What the rules say where the left (the owner) and the right, later, say different things."""
    if field == "tags":
        kept = [
            one for one in {*ours, *theirs} if one not in was or (one in ours and one in theirs)
        ]
        return sorted(kept)
    if field == "amount":
        return max(ours, theirs, key=float)
    if field == "remark":
        return theirs if ours is None else ours
    return theirs


@SAME_HISTORIES
@given(rounds=ROUNDS)
def test_edits_on_both_sides_end_as_the_rules_of_their_fields_say(
    empty_hub: Path, tmp_path: Path, rounds: list[tuple[dict[str, Any], dict[str, Any], bool]]
) -> None:
    folder, clock = tmp_path / "rounds", FakeClock()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(empty_hub, folder)
    more = {"clock": {side: {"path": "changed_at"} for side in ("left", "right")}}
    with Office("L", clock) as left, Office("R", clock) as right:
        furnish(folder, left, right, {"owner": "left", "fields": RULES}, more=more)
        hub = QuietHub(folder, clock=clock)
        try:
            start = {"name": "a", "phone": "1", "amount": "1", "tags": ["x"], "remark": "r"}
            left.add(**start)
            turn(hub)
            for ours, theirs, forth_first in rounds:
                start = _one_round(hub, left, right, start, (ours, theirs), forth_first)
            assert letters(hub) == []
        finally:
            hub.close()


def _one_round(
    hub: QuietHub,
    left: Office,
    right: Office,
    before: dict[str, Any],
    edits: tuple[dict[str, Any], dict[str, Any]],
    forth_first: bool,
) -> dict[str, Any]:
    hub.time.advance(3600)
    left.edit("L1", **edits[0])
    hub.time.advance(30)
    right.edit("R1", **edits[1])
    order = (FORTH, BACK) if forth_first else (BACK, FORTH)
    count = writes(left, right)
    turn(hub, *order, times=2)
    expected = dict(before)
    for field in FIELDS:
        was, ours, theirs = before[field], *(one.get(field, before[field]) for one in edits)
        if same(ours, theirs) or same(theirs, was):
            expected[field] = ours
        else:
            expected[field] = theirs if same(ours, was) else ruled(field, ours, theirs, was)
        assert same(left.said("L1")[field], expected[field]), (field, was, ours, theirs)
        assert same(right.said("R1")[field], expected[field]), (field, was, ours, theirs)
    after = writes(left, right)
    assert all(new - old <= 1 for new, old in zip(after, count, strict=True)), "more than one write"
    turn(hub, *order)
    assert writes(left, right) == after, "it does not come to rest"
    return expected


# --- deletions among the edits ------------------------------------------------------------------

LIVES = st.lists(
    st.one_of(
        st.tuples(st.just("edit"), SIDES, st.sampled_from(["name", "phone"])),
        st.tuples(st.just("remove"), SIDES),
        st.tuples(st.just("restore"), SIDES),
        st.tuples(st.just("run"), st.sampled_from([FORTH, BACK])),
        st.tuples(st.just("die"), st.sampled_from([FORTH, BACK]), st.sampled_from(POINTS)),
    ),
    min_size=3,
    max_size=12,
)
DELETIONS = st.sampled_from(["owner", "win", "lose"])


@SAME_HISTORIES
@given(steps=LIVES, deletions=DELETIONS, delete=st.sampled_from(["deactivate", "delete"]))
def test_whatever_is_deleted_and_restored_both_sides_end_with_the_same_records(
    empty_hub: Path, tmp_path: Path, steps: list[tuple[Any, ...]], deletions: str, delete: str
) -> None:
    folder, clock = tmp_path / "lives", FakeClock()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(empty_hub, folder)
    with Office("L", clock) as left, Office("R", clock) as right:
        furnish(folder, left, right, {"owner": "left", "deletions": deletions}, delete=delete)
        hub = QuietHub(folder, clock=clock)
        try:
            left.add(name="a")
            turn(hub)
            for count, step in enumerate(steps):
                hub.time.advance(3600)
                if step[0] in ("run", "die"):
                    with death(step[2] if step[0] == "die" else "never"):
                        hub.run(step[1])
                else:
                    _live(left if step[1] == "L" else right, count, *step[:1], *step[2:])
            hub.time.advance(1000)
            go_on(hub)
            turn(hub, times=3)
            assert len(left.live()) == len(right.live()) <= 1
            for mine, theirs in zip(left.live(), right.live(), strict=True):
                assert alike(left, right, mine, theirs)
            quiet = writes(left, right)
            turn(hub)
            assert writes(left, right) == quiet
        finally:
            hub.close()


def _live(office: Office, count: int, what: str, field: str = "") -> None:
    """Do something with the newest record of an office, if it can be done."""
    if not office.things:
        return
    newest = list(office.things)[-1]
    alive = newest in office.live()
    if what == "edit" and alive:
        office.edit(newest, **{field: f"{field}{count}"})
    elif what == "remove" and alive:
        office.remove(newest)
    elif what == "restore" and not alive:
        office.restore(newest)
