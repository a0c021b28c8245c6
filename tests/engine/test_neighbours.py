"""A slow or broken neighbour hurts only its own flows (R9)."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy

from connectors.crm.fake import FakeCrm
from hub.engine.hub import Hub
from hub.engine.planning import start_run
from hub.sdk.testing import Fault
from tests.engine.conftest import Rig, finish
from tests.engine.durables import wait_for

RUNS = 4
HANGS = 20.0


def flow(name: str, connection: str, sink: str) -> str:
    return (
        f"flow: {name}\nfrom: {{connection: u8, stream: material}}\n"
        "mapping: {key: [code], fields: {code: code, name: name, subject: name}}\n"
        f"to: {{connection: {connection}, sink: {sink}}}\n"
    )


def seconds_of_runs(hub: Hub, rig: Rig) -> list[float]:
    """How long each of some runs to the healthy neighbour takes."""
    took = []
    for number in range(RUNS):
        for row in rig.u8.ledgers["1"].materials.values():
            row["name"] = f"{time.monotonic()} {number}"
        rig.u8.refresh()
        began = time.monotonic()
        run = finish(hub, start_run(hub, "healthy", full=True), HANGS * 2)
        assert run.counts["written"] == 30
        took.append(time.monotonic() - began)
    return took


def test_runs_to_a_healthy_target_do_not_wait_for_one_that_hangs(
    embedded: Rig, record_property: Callable[[str, object], None]
) -> None:
    rig = embedded
    hung = ("customer", "stock", "sale_order", "ticket")
    with FakeCrm() as other:
        rig.connections["other"] = deepcopy(rig.connections["crm"])
        rig.connections["other"]["config"]["base_url"] = other.url
        rig.connections["crm"]["limits"] |= {"deadline": f"{HANGS}s"}
        rig.write_connections()
        rig.write_flow("healthy", flow("healthy", "other", "customer"))
        for sink in hung:
            rig.write_flow(f"hung_{sink}", flow(f"hung_{sink}", "crm", sink))
        rig.crm.misbehave(Fault.SILENCE, method="POST", times=None)
        with rig.open() as hub:
            alone = seconds_of_runs(hub, rig)
            for sink in hung:
                start_run(hub, f"hung_{sink}")
            wait_for(lambda: rig.crm.count(method="POST") >= 2, seconds=20)
            beside = seconds_of_runs(hub, rig)
            rig.crm.behave()
        record_property("alone", [round(one, 2) for one in alone])
        record_property("beside", [round(one, 2) for one in beside])
    # Whoever waits for a call that hangs waits for its deadline.
    assert max(beside) < 2 * max(alone) + HANGS / 4
