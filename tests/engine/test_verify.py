"""Source and target compared record by record: everything found, nothing changed."""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from hub.engine.hub import Hub
from hub.engine.operations import LocalOperations
from hub.engine.planning import start_run
from hub.engine.verify.shelf import Item, Shelf, Side
from hub.sdk.errors import ConfigError
from hub.store.runs import RunState
from hub.store.tables import link, record
from tests.engine.conftest import Rig, finish

FLOW = "u8_customers_to_crm"


def verify(hub: Hub, flow: str = FLOW, *, repair: bool = False) -> dict[str, Any]:
    """A comparison to its end, with its differences."""
    operations = LocalOperations(hub)
    report = operations.start_verify(flow, repair=repair)
    deadline = time.monotonic() + 60
    while report["state"] not in ("done", "failed"):
        assert time.monotonic() < deadline, report
        time.sleep(0.02)
        report = operations.verification(flow)
    return {**report, "found": operations.differences(flow, 0, 1000)}


def found(report: dict[str, Any]) -> list[tuple[str, str, str, list[str]]]:
    return [(one["kind"], one["key"], one["reason"], one["fields"]) for one in report["found"]]


def run(hub: Hub, flow: str = FLOW, *, full: bool = False) -> None:
    done = finish(hub, start_run(hub, flow, full=full))
    assert done.state == RunState.DONE, done.error_text


def test_a_flow_in_step_has_no_differences_and_nothing_is_written(rig: Rig) -> None:
    with rig.open() as hub:
        run(hub)
        before = rig.crm.state()
        report = verify(hub)
    assert (report["state"], report["error"], report["checked_by"]) == ("done", None, "stream")
    assert found(report) == []
    assert report["counts"]["equal"] == report["read"]["source"] == report["read"]["target"] == 450
    assert rig.crm.state() == before


def test_before_the_first_run_everything_is_missing(embedded: Rig) -> None:
    with embedded.open() as hub:
        report = verify(hub)
    assert report["counts"]["missing"] == 450
    assert {one["reason"] for one in report["found"]} == {"never_sent"}
    assert len(report["examples"]["missing"]) == 5


def test_what_is_missing_extra_different_or_there_twice_is_named_with_the_reason(
    rig: Rig,
) -> None:
    with rig.open() as hub:
        run(hub)
        table = rig.crm.tables["customer"]
        rows = {row.external_id: row for row in table.rows.values()}
        lost, edited, off, doubled = sorted(rows)[-4:]
        del table.rows[rows[lost].id]
        rows[edited].data = {**rows[edited].data, "name": "别名", "phone": "x"}
        rows[off].active = False
        rig.crm._make("customer", {**rows[doubled].data, "external_id": doubled})
        rig.crm._make("customer", {"external_id": "ZZZ", "name": "own"})
        (changed,) = rig.u8.change("customer", 1)
        report = verify(hub)
    names = dict.fromkeys((lost, edited, off, doubled, "ZZZ", changed))
    assert set(names) >= {key for _, key, _, _ in found(report)}
    assert ("missing", lost, "drifted", []) in found(report)
    assert ("different", edited, "drifted", ["name", "phone"]) in found(report)
    assert ("missing", off, "inactive", []) in found(report)
    assert ("duplicate", doubled, "several_in_target", []) in found(report)
    assert ("extra", "ZZZ", "unknown", []) in found(report)
    assert [why for _, key, why, _ in found(report) if key == changed] == ["not_read"]


def test_repair_lets_the_next_run_write_what_is_missing_or_different(rig: Rig) -> None:
    with rig.open() as hub:
        run(hub)
        table = rig.crm.tables["customer"]
        lost, edited, off = list(table.rows.values())[:3]
        del table.rows[lost.id]
        edited.data = {**edited.data, "name": "别名"}
        off.active = False
        report = verify(hub, repair=True)
        assert report["repaired"] == 3
        again = finish(hub, start_run(hub, FLOW))
        assert (again.counts["written"], again.counts["unchanged"]) == (3, 447)
        assert found(verify(hub)) == []
    assert rig.crm.duplicates("customer") == []


def test_repair_creates_anew_where_the_target_is_written_by_its_own_id(embedded: Rig) -> None:
    embedded.write_flow(
        "send",
        "flow: send\nfrom: {connection: u8, stream: material}\n"
        "mapping: {key: [code], fields: {code: code, name: name, subject: name}}\n"
        "to: {connection: crm, sink: ticket}\n",
    )
    with embedded.open() as hub:
        run(hub, "send")
        table = embedded.crm.tables["ticket"]
        lost = next(iter(table.rows.values()))
        del table.rows[lost.id]
        assert verify(hub, "send", repair=True)["repaired"] == 1
        # The stream is read by changes: the repair asks for everything once.
        run(hub, "send")
        assert found(verify(hub, "send")) == []
    assert embedded.crm.duplicates("ticket") == []


def test_the_hubs_own_records_are_compared(rig: Rig) -> None:
    rig.write_flow(
        "keep",
        "flow: keep\nfrom: {connection: u8, stream: customer}\n"
        "mapping: {key: [code], fields: {code: code, name: name}}\nto: {entity: customer}\n",
    )
    with rig.open() as hub:
        run(hub, "keep")
        assert found(verify(hub, "keep")) == []
        key = min(rig.u8.ledgers["1"].customers)
        with hub.store.transaction() as connection:
            this = record.c.record_key == key
            connection.execute(record.update().where(this).values(doc_text='{"code":"?"}'))
        report = verify(hub, "keep")
        assert found(report) == [("different", key, "drifted", ["code", "name"])]
        with hub.store.transaction() as connection:
            connection.execute(record.update().where(this).values(deleted=1))
        assert found(verify(hub, "keep")) == [("missing", key, "drifted", [])]


def test_a_grouping_flow_is_compared_by_its_groups(embedded: Rig) -> None:
    with embedded.open() as hub:
        run(hub, "u8_stock_to_crm")
        report = verify(hub, "u8_stock_to_crm")
        assert found(report) == []
        assert report["counts"]["equal"] == len(embedded.crm.tables["stock"].rows)
        row = next(iter(embedded.crm.tables["stock"].rows.values()))
        row.data = {**row.data, "on_hand": "999999"}
        report = verify(hub, "u8_stock_to_crm")
    assert found(report) == [("different", row.external_id, "drifted", ["on_hand"])]


def test_a_rejected_record_is_neither_missing_nor_extra(embedded: Rig) -> None:
    with embedded.open() as hub:
        run(hub)
        embedded.u8.alter(
            "/api/customer/batch_get", "change_row", at="customer", values={"name": None}
        )
        report = verify(hub)
    assert found(report) == []
    assert (report["counts"]["stopped"], report["counts"]["equal"]) == (1, 449)


def test_records_that_another_flow_writes_to_the_same_target_are_not_extra(
    embedded: Rig,
) -> None:
    text = "flow: {name}\nfrom: {{connection: u8, stream: {stream}}}\n"
    text += "mapping: {{key: [code], fields: {{code: code, name: name}}}}\nto: {{entity: thing}}\n"
    for name, stream in (("one", "customer"), ("two", "material")):
        embedded.write_flow(name, text.format(name=name, stream=stream))
    with embedded.open() as hub:
        run(hub, "one")
        run(hub, "two")
        report = verify(hub, "one")
    assert found(report) == []
    assert (report["counts"]["equal"], report["counts"]["other_flows"]) == (450, 30)


def test_a_record_that_is_gone_from_the_source_is_extra(embedded: Rig) -> None:
    with embedded.open() as hub:
        run(hub)
        key = next(iter(embedded.u8.ledgers["1"].customers))
        embedded.u8.remove("customer", 1)
        assert found(verify(hub)) == [("extra", key, "gone", [])]


def test_a_target_that_cannot_be_listed_is_asked_for_one_record_after_the_other(
    embedded: Rig, tmp_path: Path
) -> None:
    manifest = yaml.safe_load(Path("connectors/crm/connector.yaml").read_text(encoding="utf-8"))
    del manifest["sinks"]["ticket"]["verify"]
    own = embedded.folder / "connectors" / "own"
    own.mkdir()
    text = yaml.safe_dump({**manifest, "connector": "own"}, allow_unicode=True)
    (own / "connector.yaml").write_text(text, encoding="utf-8")
    embedded.connections["own"] = {**deepcopy(embedded.connections["crm"]), "connector": "own"}
    embedded.write_connections()
    embedded.write_flow(
        "send",
        "flow: send\nfrom: {connection: u8, stream: material}\n"
        "mapping: {key: [code], fields: {code: code, subject: name}}\n"
        "to: {connection: own, sink: ticket}\n",
    )
    with embedded.open() as hub:
        run(hub, "send")
        table = embedded.crm.tables["ticket"]
        lost = next(iter(table.rows.values()))
        del table.rows[lost.id]
        report = verify(hub, "send")
        assert report["checked_by"] == "find"
        assert found(report) == [("missing", lost.external_id, "not_found", [])]
        assert (report["complete"], report["counts"]["equal"]) == (True, 29)
        capped = hub.verifications.start(
            hub, hub.catalogue.flow("send"), repair=False, most_finds=10
        )
        while capped.running:
            time.sleep(0.02)
        assert capped.report()["complete"] is False
        assert capped.report()["read"]["target"] == 10


def test_a_source_that_breaks_ends_with_its_reason(embedded: Rig) -> None:
    with embedded.open() as hub:
        run(hub)
        embedded.u8.alter("/api/customer/batch_get", "wrong_total", times=99)
        report = verify(hub)
    assert report["state"] == "failed"
    assert report["error"]["message"]
    assert report["found"] == []


def test_a_flow_that_was_never_verified_says_what_to_do(embedded: Rig) -> None:
    with embedded.open() as hub, pytest.raises(ConfigError, match=f"hub flow verify {FLOW}"):
        LocalOperations(hub).verification(FLOW)


def test_a_comparison_leaves_the_ledger_as_it_is(embedded: Rig) -> None:
    with embedded.open() as hub:
        run(hub)
        with hub.store.reading() as connection:
            before = connection.execute(sa.select(link)).all()
        next(iter(embedded.crm.tables["customer"].rows.values())).data = {"name": "x"}
        assert verify(hub)["counts"]["different"] == 1
        with hub.store.reading() as connection:
            assert connection.execute(sa.select(link)).all() == before


def test_the_shelf_hands_items_out_by_key_without_holding_them() -> None:
    shelf = Shelf()
    numbers = range(2_000)
    for side in (Side.THERE, Side.WANTED):
        shelf.put(Item(f"K{n:05}", side, f"R{n}", "ok", marks=b"x" * 8) for n in reversed(numbers))
    pairs = [(key, [one.side for one in items]) for key, items in shelf.by_key()]
    assert pairs == [(f"K{n:05}", [Side.WANTED, Side.THERE]) for n in numbers]
    assert shelf.distinct(Side.WANTED) == 2_000
    shelf.close()
