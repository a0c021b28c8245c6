"""Held records go on by themselves when what they wait for arrives, however it arrives."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from hub.engine import references
from hub.engine.hub import Hub
from hub.engine.operations import LocalOperations
from hub.engine.planning import start_run
from hub.engine.sweep import sweep
from hub.store.tables import waiting
from tests.engine.conftest import Rig, finish
from tests.engine.letter_rig import materials, until

PARENTS = (
    "flow: parents\nfrom: {connection: u8, stream: customer}\n"
    "mapping: {key: [code], fields: {code: code, name: name}, when: \"code == 'C00001'\"}\n"
    "to: TARGET\n"
)
CHILDREN = (
    "flow: children\nfrom: {connection: u8, stream: material}\n"
    "mapping:\n  key: [code]\n  fields:\n    code: code\n"
    "    PARENT: {link: PARENT, by: {value: C00001}, missing: hold}\n"
    "to: TARGET\n"
)


def _flows(rig: Rig, parent: str, child: str, item: str) -> None:
    rig.write_flow("parents", PARENTS.replace("TARGET", parent))
    rig.write_flow("children", CHILDREN.replace("PARENT", item).replace("TARGET", child))


def _waits(hub: Hub) -> int:
    with hub.store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(waiting)).scalar_one())


def _open(hub: Hub) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = LocalOperations(hub).dead_letters({}, 100)["items"]
    return items


def test_records_go_on_when_another_flow_brings_what_they_wait_for(rig: Rig) -> None:
    _flows(rig, "{connection: crm, sink: customer}", "{connection: crm, sink: stock}", "customer")
    with rig.open() as hub:
        held = finish(hub, start_run(hub, "children"))
        assert held.counts["held"] == len(_open(hub)) == _waits(hub) == 30
        reason = _open(hub)[0]["reason"]
        assert "waits for customer C00001" in reason["en"]
        assert "等待 customer C00001" in reason["zh"]
        finish(hub, start_run(hub, "parents"))
        until(lambda: len(rig.crm.effects_of("stock")) == 30)
        ops = LocalOperations(hub)
        until(lambda: ops.count_dead_letters({"state": "resolved"})["total"] == 30)
        assert _waits(hub) == 0
        closed = ops.dead_letters({"state": "resolved"}, 100)["items"]
    assert {(one["closed_how"], one["closed_by"]) for one in closed} == {("released", "hub")}
    assert set(rig.crm.effects_of("stock").values()) == {1}
    parent = rig.crm.find("customer", "C00001")
    child = rig.crm.find("stock", next(iter(materials(rig))))
    assert parent is not None
    assert child is not None
    assert child["customer"] == parent["id"]


def test_records_go_on_when_an_entity_of_the_hub_has_what_they_wait_for(rig: Rig) -> None:
    _flows(rig, "{entity: owner}", "{entity: part}", "owner")
    with rig.open() as hub:
        assert finish(hub, start_run(hub, "children")).counts["held"] == 30
        finish(hub, start_run(hub, "parents"))
        ops = LocalOperations(hub)
        until(lambda: ops.count_records("part")["count"] == 30)
        assert (_open(hub), _waits(hub)) == ([], 0)


def test_a_record_that_waits_for_two_goes_on_with_the_second(rig: Rig) -> None:
    rig.write_flow("parents", PARENTS.replace("TARGET", "{entity: owner}"))
    rig.write_flow(
        "makers",
        PARENTS.replace("parents", "makers").replace("TARGET", "{entity: maker}"),
    )
    rig.write_flow(
        "children",
        CHILDREN.replace("PARENT", "owner")
        .replace("TARGET", "{entity: part}")
        .replace("to:", "    maker: {link: maker, by: {value: C00001}, missing: hold}\nto:"),
    )
    with rig.open() as hub:
        finish(hub, start_run(hub, "children"))
        assert _waits(hub) == 60
        finish(hub, start_run(hub, "parents"))
        ops = LocalOperations(hub)
        assert ops.count_dead_letters({"kind": "held"})["total"] == 30
        finish(hub, start_run(hub, "makers"))
        until(lambda: ops.count_records("part")["count"] == 30)
        assert _waits(hub) == 0


def test_what_arrives_while_nobody_works_is_found_by_the_next_process(rig: Rig) -> None:
    _flows(rig, "{entity: owner}", "{entity: part}", "owner")
    with rig.open() as hub:
        finish(hub, start_run(hub, "children"))
        with hub.store.transaction() as connection:
            connection.execute(waiting.update().values(ready=1))
        sweep(hub)
        until(lambda: _waits(hub) == 30)
        assert len(_open(hub)) == 30, "not there after all: they wait again"


def test_the_sweep_finds_what_arrived_unnoticed(rig: Rig) -> None:
    _flows(rig, "{entity: owner}", "{entity: part}", "owner")
    with rig.open() as hub:
        finish(hub, start_run(hub, "children"))
        with hub.store.transaction() as connection:
            connection.execute(waiting.update().values(item_name="hidden"))
        finish(hub, start_run(hub, "parents"))
        with hub.store.transaction() as connection:
            connection.execute(waiting.update().values(item_name="owner"))
        assert LocalOperations(hub).count_dead_letters({})["total"] == 30
        references.find_arrived(hub)
        until(lambda: LocalOperations(hub).count_records("part")["count"] == 30)


def test_a_held_record_that_was_discarded_stays_away(rig: Rig) -> None:
    _flows(rig, "{entity: owner}", "{entity: part}", "owner")
    with rig.open() as hub:
        finish(hub, start_run(hub, "children"))
        ops = LocalOperations(hub)
        ops.discard_letter(_open(hub)[0]["id"], "never", actor="lin")
        finish(hub, start_run(hub, "parents"))
        until(lambda: ops.count_records("part")["count"] == 29)
        again = finish(hub, start_run(hub, "children", full=True))
        assert (again.counts["skipped"], again.counts["unchanged"]) == (1, 29)
        assert ops.count_records("part")["count"] == 29
