"""Both directions at work at the same time, with real jobs, while people go on editing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from hub.engine.deployment import create_deployment
from hub.engine.hub import Hub, open_hub
from hub.engine.planning import start_run
from hub.sdk.clock import SystemClock
from hub.sdk.testing import Fault
from hub.store.runs import RunState
from hub.store.tables import audit
from tests.engine import offices
from tests.engine.conftest import finish
from tests.engine.offices import BACK, FIELDS, FORTH, Office, furnish

RECORDS = 8


@pytest.fixture
def sides() -> Iterator[tuple[Office, Office]]:
    clock = SystemClock()
    with Office("L", clock) as left, Office("R", clock) as right:
        yield left, right


@pytest.mark.timeout(180)
def test_two_busy_directions_lose_no_edit_and_double_nothing(
    tmp_path: Path, url: str, sides: tuple[Office, Office]
) -> None:
    left, right = sides
    folder = tmp_path / "hub"
    create_deployment(folder)
    (folder / "hub.toml").write_text(f'[store]\nurl = "{url}"\n', encoding="utf-8")
    furnish(folder, left, right, update="patch")
    left.mangle = right.mangle = offices.tidies
    chance = random.Random(7)
    last: dict[str, tuple[str, str]] = {}
    for number in range(RECORDS):
        (left if number % 2 else right).add(name=f"n{number}", amount="1.239")
    with open_hub(folder, jobs=True) as hub:
        both(hub)
        pairs = {one["name"]: one["id"] for one in left.things.values()}
        assert len(pairs) == len(left.things) == len(right.things) == RECORDS
        for count in range(30):
            one = chance.randrange(RECORDS)
            # Each record is edited on one side only, another field each time: nothing conflicts.
            office, field = (left, "phone") if one % 3 else (right, "remark")
            number = next(key for key, it in office.things.items() if it["name"] == f"n{one}")
            office.edit(number, **{field: f"{count}"})
            last[f"n{one}"] = (field, str(count))
            if count % 6 == 0:
                right.misbehave(Fault.LOST_ANSWER, "/things/{id}", method="PATCH")
            for flow in (FORTH, BACK):
                start_run(hub, flow)
        for _ in range(3):
            both(hub)
        check(left, right, last)
        quiet = left.writes, right.writes
        both(hub)
        assert (left.writes, right.writes) == quiet
        with hub.store.reading() as connection:
            actions = connection.execute(sa.select(audit.c.action)).scalars().all()
        assert "two_way.conflict" not in actions


def both(hub: Hub) -> None:
    """A run of each direction that begins now, both at the same time, to their ends."""
    for flow in (FORTH, BACK):
        finish(hub, start_run(hub, flow), seconds=60)
    runs = [start_run(hub, flow) for flow in (FORTH, BACK)]
    for run in runs:
        assert finish(hub, run, seconds=60).state == RunState.DONE


def check(left: Office, right: Office, last: dict[str, tuple[str, str]]) -> None:
    assert len(left.things) == len(right.things) == RECORDS
    theirs = {one["name"]: one for one in right.things.values()}
    for mine in left.things.values():
        other = theirs[mine["name"]]
        field, value = last.get(mine["name"], ("name", mine["name"]))
        assert mine[field] == other[field] == value
        assert all(mine.get(name) == other.get(name) for name in FIELDS if name != "amount")
        assert float(mine["amount"]) == pytest.approx(float(other["amount"]), abs=0.01)
