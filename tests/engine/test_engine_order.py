"""The order of effects is ours: it does not come from the engine's clock."""

from __future__ import annotations

from hub.engine.planning import start_run
from tests.engine.conftest import Rig, finish
from tests.engine.durables import engine_table

FLOW = "u8_customers_to_crm"


def test_jobs_of_one_partition_may_run_in_any_order_of_the_engines_clock(embedded: Rig) -> None:
    """On Python 3.11 the engine knows SQLite's time in whole seconds: order is ours alone."""
    with embedded.open() as hub:
        finish(hub, start_run(hub, FLOW))
        embedded.u8.change("customer", 40)
        hub.durable._stop.set()
        run = start_run(hub, FLOW)
        sink = "crm/customer"
        for number in (9, 10, 11):  # as text, 10 comes before 9
            with hub.store.transaction() as connection:
                hub.durable.enqueue(
                    connection,
                    "drain_sink",
                    f"drain:{sink}:{number}00000",
                    queue="delivery",
                    partition=sink,
                    args=[sink],
                )
        with hub.store.transaction() as connection:
            table = engine_table(hub.store, "workflow_status")
            connection.execute(table.update().values(created_at=1_700_000_000_000))
    with embedded.open() as hub:
        assert finish(hub, run).state == "done"
    assert embedded.crm.duplicates("customer") == []
