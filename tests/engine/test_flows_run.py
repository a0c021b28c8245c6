"""The built-in flows from U8 to the CRM, end to end."""

from __future__ import annotations

from decimal import Decimal

import pytest

from hub.engine.planning import start_run
from hub.sdk.testing import Response
from hub.store.runs import RunState
from tests.engine.conftest import Rig, finish


def test_every_customer_arrives_once_and_a_second_run_writes_nothing(rig: Rig) -> None:
    first = rig.run("u8_customers_to_crm")
    again = rig.run("u8_customers_to_crm")
    assert first.state == RunState.DONE, first.error_text
    assert first.counts["rows_read"] == first.source_total == len(rig.u8.ledgers["1"].customers)
    assert first.counts["written"] == first.counts["mapped"] == len(rig.crm.tables["customer"].rows)
    assert set(rig.crm.effects_of("customer").values()) == {1}
    assert (again.counts["written"], again.counts["unchanged"]) == (0, first.counts["mapped"])


def test_only_what_changed_is_written_again(rig: Rig) -> None:
    rig.run("u8_customers_to_crm")
    keys = rig.u8.change("customer", 3)
    run = rig.run("u8_customers_to_crm")
    assert run.counts["written"] == 3
    effects = rig.crm.effects_of("customer")
    assert {key for key, number in effects.items() if number == 2} == set(keys)


def test_rows_of_one_warehouse_and_item_become_one_stock_record(rig: Rig) -> None:
    run = rig.run("u8_stock_to_crm")
    rows = rig.u8.ledgers["1"].stock.values()
    wanted: dict[str, Decimal] = {}
    for row in rows:
        key = f"{row['whcode']}|{row['invcode'].strip()}"
        wanted[key] = wanted.get(key, Decimal(0)) + Decimal(str(row.get("qty") or 0))
    assert run.state == RunState.DONE, run.error_text
    assert run.counts["rows_read"] == len(rows) > run.counts["grouped"] == len(wanted)
    held = rig.crm.tables["stock"].rows.values()
    got = {one.external_id: Decimal(one.shown()["on_hand"]) for one in held}
    assert got == wanted


def test_an_order_waits_for_its_customer_and_goes_on_once_the_customer_is_there(rig: Rig) -> None:
    early = rig.run("u8_orders_to_crm")
    orders = len(rig.u8.ledgers["1"].orders)
    assert early.counts["held"] == early.counts["rows_read"] == orders
    assert {letter["kind"] for letter in rig.letters()} == {"held"}
    rig.run("u8_customers_to_crm")
    late = rig.run("u8_orders_to_crm", full=True)
    assert late.counts["held"] == 0
    assert late.counts["mapped"] == len(rig.crm.tables["sale_order"].rows)
    assert set(rig.crm.effects_of("sale_order").values()) == {1}
    assert {letter["kind"] for letter in rig.letters()} <= {"record"}


def test_the_counts_of_a_run_add_up(rig: Rig) -> None:
    for flow in ("u8_customers_to_crm", "u8_stock_to_crm", "u8_orders_to_crm"):
        counts = rig.run(flow).counts
        units = counts["grouped"] or counts["rows_read"]
        assert units == sum(counts[name] for name in ("mapped", "skipped", "held", "rejected"))
        ends = ("unchanged", "written", "refused", "coalesced", "pending")
        assert counts["mapped"] == sum(counts[name] for name in ends)


def test_asking_twice_for_a_run_gives_the_one_that_is_on_its_way(embedded: Rig) -> None:
    with embedded.open() as hub:
        first = start_run(hub, "u8_customers_to_crm")
        second = start_run(hub, "u8_customers_to_crm")
        assert first.id == second.id
        finish(hub, first)


def test_a_bad_row_becomes_a_dead_letter_and_the_others_go_on(rig: Rig) -> None:
    rig.u8.alter("/api/customer/batch_get", "change_row", at="customer", values={"name": None})
    run = rig.run("u8_customers_to_crm")
    assert run.state == RunState.DONE
    assert run.counts["rejected"] == 1
    assert run.counts["written"] == run.counts["rows_read"] - 1
    (letter,) = rig.letters()
    assert (letter["field_name"], letter["kind"]) == ("name", "record")
    assert letter["payload"]["code"]
    healed = rig.run("u8_customers_to_crm")
    assert healed.counts["written"] == 1
    assert rig.letters() == []


def test_a_row_without_its_key_is_rejected_once_however_often_it_is_read(rig: Rig) -> None:
    for _ in range(2):
        rig.u8.alter("/api/customer/batch_get", "change_row", at="customer", values={"code": None})
        run = rig.run("u8_customers_to_crm")
        assert run.counts["rejected"] == 1
    assert [letter["error_code"] for letter in rig.letters()] == ["record.key_missing"]


def test_a_flow_may_end_in_the_hubs_own_store(rig: Rig) -> None:
    rig.write_flow(
        "keep_customers",
        "flow: keep_customers\nfrom: {connection: u8, stream: customer}\n"
        "mapping: {key: [code], fields: {code: code, name: name}}\nto: {entity: customer}\n",
    )
    run = rig.run("keep_customers")
    with rig.open() as hub, hub.store.reading() as connection:
        from hub.store.records import count_records

        assert count_records(connection, "customer") == run.counts["written"] == 450


def test_a_changed_mapping_is_applied_to_rows_that_did_not_change(rig: Rig) -> None:
    text = (
        "flow: keep_customers\nfrom: {connection: u8, stream: customer}\n"
        "mapping: {key: [code], fields: {code: code, name: name}}\nto: {entity: customer}\n"
    )
    rig.write_flow("keep_customers", text)
    rig.run("keep_customers")
    rig.write_flow("keep_customers", text.replace("name: name", "name: name, size: self_define1"))
    run = rig.run("keep_customers")
    assert run.counts["written"] == run.counts["rows_read"]


def test_an_incremental_stream_reads_only_what_changed_since_the_last_complete_read(
    rig: Rig,
) -> None:
    rig.write_flow(
        "keep_materials",
        "flow: keep_materials\nfrom: {connection: u8, stream: material}\n"
        "mapping: {key: [code], fields: {code: code, name: name}}\nto: {entity: material}\n",
    )
    first = rig.run("keep_materials")
    rig.u8.change("inventory", 2)
    second = rig.run("keep_materials")
    assert (first.kind, first.counts["written"]) == ("full", 30)
    assert (second.kind, second.counts["written"]) == ("incremental", 2)
    assert second.counts["rows_read"] < first.counts["rows_read"]
    assert rig.run("keep_materials", full=True).counts["rows_read"] == 30


def _own_stream(rig: Rig, key: str) -> None:
    """A second way to read the customers, keyed by `key`."""
    folder = rig.folder / "connectors" / "own"
    folder.mkdir()
    (folder / "connector.yaml").write_text(
        "connector: own\nversion: 1.0.0\ncontract: 1\ntitle: {zh: o, en: o}\n"
        "config: {base_url: url}\nenvelope: {ok: {path: items, is: list}}\n"
        f"streams: {{rows: {{key: [{key}], request: {{get: /rows}}, data: items}}}}\n",
        encoding="utf-8",
    )
    rig.u8.route(
        "GET",
        "/rows",
        lambda _: Response(json={"items": [{"product": {"sku": f"S{n}"}} for n in range(5)]}),
    )
    rig.connections["own"] = {"connector": "own", "config": {"base_url": rig.u8.url}}
    rig.write_connections()
    rig.write_flow(
        "own_rows",
        "flow: own_rows\nfrom: {connection: own, stream: rows}\n"
        "mapping: {key: [sku], fields: {sku: product.sku}}\nto: {entity: own_row}\n",
    )


def test_the_key_of_a_row_may_stand_in_a_nested_object(embedded: Rig) -> None:
    _own_stream(embedded, "product.sku")
    assert embedded.run("own_rows").counts["written"] == 5
    assert embedded.run("own_rows").counts["unchanged"] == 5


@pytest.mark.parametrize("key", ["idd", "product", "product.none"])
def test_a_key_that_no_row_has_ends_loud_and_the_check_says_so(embedded: Rig, key: str) -> None:
    _own_stream(embedded, key)
    run = embedded.run("own_rows")
    assert (run.state, run.error_code) == (RunState.FAILED, "read.no_key")
    assert key in str(run.error_text)
    with embedded.open() as hub:
        checks = hub.session("own").check()
    assert [check.ok for check in checks] == [True, True, False]


def test_the_letter_of_a_row_without_a_key_closes_once_a_full_read_no_longer_meets_it(
    rig: Rig,
) -> None:
    rig.u8.alter("/api/customer/batch_get", "change_row", at="customer", values={"code": None})
    rig.run("u8_customers_to_crm")
    assert [letter["error_code"] for letter in rig.letters()] == ["record.key_missing"]
    rig.run("u8_customers_to_crm")
    assert rig.letters() == []
