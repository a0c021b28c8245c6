"""What a moment without the store, or a process thought dead, leaves behind."""

from __future__ import annotations

import importlib
import time
from copy import deepcopy
from typing import Any

import pytest
import sqlalchemy as sa

from hub.engine import planning, sync
from hub.engine.hub import Hub
from hub.engine.jobs import DELAYED, Job
from hub.engine.planning import start_run
from hub.engine.wakes import wake_sink
from hub.sdk.errors import TransientError
from hub.sdk.testing import Fault
from hub.store.runs import Run, RunState, load_run, move_run
from tests.engine.conftest import Rig, finish

FLOW = "u8_customers_to_crm"


def wait_until(hub: Hub, run: Run, state: RunState) -> Run:
    deadline = time.monotonic() + 20
    while run.state != state:
        assert time.monotonic() < deadline, run
        time.sleep(0.05)
        with hub.store.reading() as connection:
            found = load_run(connection, run.id)
        assert found is not None
        run = found
    return run


@pytest.mark.parametrize("place", ["hub.engine.sync.write_page", "hub.engine.delivery.settle"])
def test_a_run_goes_on_by_itself_after_a_moment_without_the_store(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr("hub.engine.sweep.SWEEP_SECONDS", 0.3)
    module, name = place.rsplit(".", 1)
    real, calls = getattr(importlib.import_module(module), name), []

    def failing(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise sa.exc.OperationalError("INSERT", {}, ConnectionError("server closed"))
        return real(*args, **options)

    monkeypatch.setattr(place, failing)
    run = rig.run(FLOW)
    assert (run.state, run.counts["written"]) == (RunState.DONE, 450)
    assert set(rig.crm.effects_of("customer").values()) == {1}


def test_the_failure_of_a_process_thought_dead_does_not_end_the_run_of_another(
    embedded: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded.open() as hub:
        run = finish(hub, start_run(hub, FLOW))
        with hub.store.transaction() as connection:
            move_run(connection, run, state=RunState.READING.value, attempt=run.attempt + 1)
        sync._fail(hub, run, TransientError("http.unreachable"))
        with hub.store.reading() as connection:
            found = load_run(connection, run.id)
    assert found is not None
    assert found.state == RunState.READING


def test_a_flow_with_another_target_writes_everything_there(embedded: Rig) -> None:
    text = (
        "flow: send\nfrom: {connection: u8, stream: material}\n"
        "mapping: {key: [code], fields: {code: code, name: name, subject: name}}\n"
    )
    embedded.write_flow("send", text + "to: {connection: crm, sink: sale_order}\n")
    embedded.run("send")
    embedded.write_flow("send", text + "to: {connection: crm, sink: ticket}\n")
    run = embedded.run("send")
    assert run.counts["written"] == 30, run
    assert sorted(embedded.crm.effects_of("ticket").values()) == [1] * 30


def test_a_flow_with_another_source_reads_all_of_it(embedded: Rig) -> None:
    text = "flow: keep\nfrom: {{connection: {}, stream: material}}\n"
    text += "mapping: {{key: [code], fields: {{code: code}}}}\nto: {{entity: material}}\n"
    embedded.connections["u8_b"] = deepcopy(embedded.connections["u8"])
    embedded.write_connections()
    embedded.write_flow("keep", text.format("u8"))
    embedded.run("keep")
    embedded.write_flow("keep", text.format("u8_b"))
    assert embedded.run("keep").kind == "full"


def test_a_run_that_waits_for_its_target_does_not_stop_the_schedule_from_reading(
    embedded: Rig,
) -> None:
    embedded.crm.misbehave(Fault.STATUS, times=100_000, status=503)
    with embedded.open() as hub:
        first = start_run(hub, FLOW)
        wait_until(hub, first, RunState.DELIVERING)
        embedded.u8.change("customer", 3)
        assert start_run(hub, FLOW).id == first.id
        with hub.store.transaction() as connection:
            second = planning.plan_run(hub, connection, hub.catalogue.flow(FLOW), full=False)
        assert second.id != first.id
        found = wait_until(hub, second, RunState.DELIVERING)
        assert found.counts["unchanged"] == 447


def test_jobs_do_not_pile_up_for_a_target_that_takes_nothing(rig: Rig) -> None:
    rig.crm.misbehave(Fault.STATUS, times=100_000, status=401)
    with rig.open() as hub:
        wait_until(hub, start_run(hub, FLOW), RunState.DELIVERING)
        for _ in range(8):
            with hub.store.transaction() as connection:
                wake_sink(hub, connection, "crm/customer")
            put_off = _all_put_off(hub)
    assert len(put_off) <= 2, put_off


def _all_put_off(hub: Hub) -> list[Job]:
    """The delivery jobs, once none of them waits for its turn or runs."""
    until = time.monotonic() + 20
    while True:
        jobs = [job for job in hub.durable.unfinished() if job.id.startswith("drain:")]
        if jobs and all(job.state == DELAYED for job in jobs):
            return jobs
        assert time.monotonic() < until, jobs
        time.sleep(0.05)
