"""Who works on which part, and what a process that lost its parts can still do: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import sqlalchemy as sa

from hub.store.tables.telemetry import position
from hub.store.telemetry.changes import COUNTER, append_change, read_changes, trim_changes
from hub.store.telemetry.positions import (
    advance,
    advance_held,
    leave,
    positions,
    release,
    renew_parts,
    take_lease,
)
from tests.telemetry.projector.plant import NOW, Plant


def held(
    plant: Plant, owner: str, *, parts: int = 6, after: str = "", seconds: float = 60
) -> list[int]:
    with plant.store.transaction() as connection:
        found = renew_parts(connection, owner, range(parts), 60, after=after)
    return [one.part for one in found]


def expire(plant: Plant, owner: str) -> None:
    with plant.store.transaction() as connection:
        mine = position.c.owner == owner
        connection.execute(position.update().where(mine).values(owned_until=1))


def test_one_process_holds_everything(solo: Plant) -> None:
    assert held(solo, "a") == [0, 1, 2, 3, 4, 5]
    assert held(solo, "a") == [0, 1, 2, 3, 4, 5]


def test_parts_are_evened_out_when_a_process_joins_and_leaves(plant: Plant) -> None:
    held(plant, "a")
    assert held(plant, "b") == []
    assert held(plant, "a") == [0, 1, 2]
    assert held(plant, "b") == [3, 4, 5]
    assert held(plant, "c") == []
    assert (len(held(plant, "a")), len(held(plant, "b")), len(held(plant, "c"))) == (2, 2, 2)
    with plant.store.transaction() as connection:
        leave(connection, "b")
    held(plant, "a")
    held(plant, "c")
    assert len(held(plant, "a")) == len(held(plant, "c")) == 3


def test_abandoned_parts_are_taken_over(solo: Plant) -> None:
    held(solo, "a")
    expire(solo, "a")
    assert held(solo, "b") == [0, 1, 2, 3, 4, 5]


def test_a_successor_takes_the_parts_of_its_dead_predecessor_at_once(solo: Plant) -> None:
    held(solo, "a")
    assert held(solo, "b", after="a") == [0, 1, 2, 3, 4, 5]


def test_there_may_be_more_processes_than_parts(solo: Plant) -> None:
    assert held(solo, "a", parts=1) == [0]
    assert held(solo, "b", parts=1) == []
    assert held(solo, "a", parts=1) == [0]


def test_only_the_holder_at_the_right_place_moves_a_part(plant: Plant) -> None:
    held(plant, "a")
    with plant.store.transaction() as connection:
        assert advance_held(connection, 0, "a", 0, 7, NOW)
        assert not advance_held(connection, 0, "a", 0, 8, NOW)
        assert not advance_held(connection, 0, "b", 7, 8, NOW)


def test_a_lease_is_exclusive_until_it_ends(plant: Plant) -> None:
    with plant.store.transaction() as connection:
        advance(connection, "rollup", 5, NOW)
        assert take_lease(connection, "rollup", "a", 60)
        assert take_lease(connection, "rollup", "a", 60)
        assert not take_lease(connection, "rollup", "b", 60)
        release(connection, ["rollup"], "a")
        assert take_lease(connection, "rollup", "b", -1)
        assert take_lease(connection, "rollup", "a", 60)
        assert positions(connection)["rollup"] == 5


def test_ticks_are_counted_and_hours_come_back(plant: Plant) -> None:
    hours = np.array([[7, 3_600_000], [-1, 0], [2**40, 1_795_629_600_000]], np.int64)
    with plant.store.transaction() as connection:
        assert append_change(connection, hours, NOW) == 1
        assert append_change(connection, hours[:1], NOW) == 2
        assert positions(connection)[COUNTER] == 2
        first, second = read_changes(connection, 0, 10)
        assert sorted(first.hours.tolist()) == sorted(hours.tolist())
        assert second.hours.tolist() == [[7, 3_600_000]]
        assert trim_changes(connection, 1) == 1
        assert [one.tick for one in read_changes(connection, 0, 10)] == [2]


def test_a_zombie_writes_nothing(plant: Plant) -> None:
    zombie = plant.projector(owner="zombie")
    zombie.step()
    plant.send(samples=[["", "a", NOW, 1.0]])
    expire(plant, "zombie")
    successor = plant.projector(owner="successor")
    assert plant.run(successor).messages == 1
    plant.send(samples=[["", "a", NOW + 1, 2.0]])
    assert zombie.step().messages == 0
    assert plant.points("D1", "a") == {NOW: 1.0}
    assert plant.run(successor).messages == 1
    assert plant.device("D1").readings == 2
    assert len(plant.changes()) == 2


def test_several_parts_are_projected_in_one_transaction(plant: Plant) -> None:
    for number in range(20):
        plant.send(sender=f"D{number}", samples=[["", "a", NOW, 1.0]])
    assert plant.run(plant.projector()).messages == 20
    assert len(plant.changes()) == 1
    assert plant.number_of_points() == 20


def test_a_message_that_killed_its_reader_three_times_is_quarantined_unread(
    solo: Plant,
) -> None:
    solo.send(samples=[["", "a", NOW, 1.0]])
    solo.send(b"kill", samples=[])
    solo.send(samples=[["", "a", NOW + 1, 1.0]])
    for _ in range(3):
        projector = solo.projector(careful=True)
        with pytest.raises(SystemExit):
            solo.run(projector)
    solo.run(solo.projector(careful=True))
    assert solo.points("D1", "a") == {NOW: 1.0, NOW + 1: 1.0}
    assert [row.code for row in solo.quarantined()] == ["malformed"]


def test_a_store_that_fails_for_another_reason_keeps_the_messages(plant: Plant) -> None:
    plant.send(samples=[["", "a", NOW, 1.0]])
    projector = plant.projector()
    with plant.store.transaction() as connection:
        connection.execute(sa.text("ALTER TABLE hub_quarantine RENAME TO hub_gone"))
        connection.execute(sa.text("ALTER TABLE test_point RENAME TO test_gone"))
    with pytest.raises(sa.exc.SQLAlchemyError):
        projector.step()
    with plant.store.transaction() as connection:
        connection.execute(sa.text("ALTER TABLE hub_gone RENAME TO hub_quarantine"))
        connection.execute(sa.text("ALTER TABLE test_gone RENAME TO test_point"))
    plant.run(projector)
    assert plant.points("D1", "a") == {NOW: 1.0}
