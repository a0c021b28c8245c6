"""A process frozen past its lease is replaced; when it wakes up it changes nothing any more."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.crm.fake import FakeCrm
from connectors.u8.fake import FakeU8, Sizes
from hub.engine.hub import Hub
from hub.engine.operations import LocalOperations
from hub.engine.planning import start_run
from hub.sdk.testing import Fault
from tests.engine.conftest import Rig
from tests.engine.durables import wait_for
from tests.engine.fleet import (
    Fleet,
    alive,
    assert_one_effect_each,
    found,
    holder,
    limit,
    seconds_until,
    send_signal,
    set_grace,
    the_one_at,
)
from tests.engine.letter_rig import FLOW, materials, send_to
from tests.engine.test_replay_kill import with_letters

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]

PATHS = {"customer": "/api/v1/customers/upsert", "sale_order": "/api/v1/sale_orders",
         "ticket": "/api/v1/tickets"}  # fmt: skip
SINKS = list(PATHS)
MATERIALS = 600


@pytest.fixture
def u8() -> Iterator[FakeU8]:
    with FakeU8(sizes=Sizes(materials=MATERIALS, stock=5, customers=5, orders=5)) as fake:
        yield fake


@pytest.fixture
def rig(tmp_path: Path, u8: FakeU8, crm: FakeCrm, postgres_url: str) -> Rig:
    made = Rig(tmp_path / "hub", u8, crm, postgres_url)
    set_grace(made, "3s")
    return made


@pytest.fixture
def fleet(rig: Rig) -> Iterator[Fleet]:
    started = Fleet(rig)
    yield started
    started.end()


def keep_some(rig: Rig, number: int) -> None:
    """So many rows in the source."""
    rows = materials(rig)
    for code in list(rows)[number:]:
        del rows[code]
    rig.u8.refresh()


def freeze(hub: Hub, victim: dict[str, Any], prefix: str) -> None:
    """Stop the process until another one has its job."""
    send_signal(victim, signal.SIGSTOP)
    seconds_until(lambda: (holder(hub, prefix) or victim)["id"] != victim["id"], 30)


def wake(hub: Hub, victim: dict[str, Any]) -> None:
    send_signal(victim, signal.SIGCONT)
    wait_for(lambda: len(alive(hub)) == 2, seconds=20)
    time.sleep(1.0)  # time for what it must not do


@pytest.mark.parametrize(
    "sink", [SINKS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in SINKS[1:])]
)
def test_a_process_frozen_in_a_call_to_the_target_doubles_nothing(
    rig: Rig, fleet: Fleet, sink: str
) -> None:
    keep_some(rig, 30)
    send_to(rig, sink)
    rig.crm.misbehave(Fault.DELAY, PATHS[sink], method="POST", times=2, seconds=2.0)
    with fleet.manned(2) as hub:
        run = start_run(hub, FLOW)
        wait_for(lambda: rig.crm.count(PATHS[sink], "POST") > 0, seconds=30)
        victim = the_one_at(hub, f"drain:crm/{sink}:")
        freeze(hub, victim, f"drain:crm/{sink}:")
        wait_for(lambda: found(hub, run).finished, seconds=60)
        ended = found(hub, run).counts
        wake(hub, victim)
        assert ended["written"] == 30
        assert found(hub, run).counts == ended, "its late receipt was not counted"
    assert_one_effect_each(rig.crm, sink, set(materials(rig)))


@pytest.mark.slow
def test_a_process_frozen_in_a_page_commits_nothing_when_it_wakes_up(
    rig: Rig, fleet: Fleet
) -> None:
    send_to(rig, "customer")
    limit(rig, "u8", rate="2/s")
    with fleet.manned(2) as hub:
        run = start_run(hub, FLOW)
        wait_for(lambda: found(hub, run).page_no >= 1, seconds=30)
        prefix = f"run:{run.id}:"
        victim = the_one_at(hub, prefix)
        freeze(hub, victim, prefix)
        wait_for(lambda: found(hub, run).finished, seconds=60)
        ended = found(hub, run)
        wake(hub, victim)
        assert found(hub, run) == ended
        assert ended.counts["rows_read"] == ended.counts["written"] == MATERIALS
    assert_one_effect_each(rig.crm, "customer", set(materials(rig)))


@pytest.mark.slow
def test_a_process_frozen_in_a_replay_sends_no_letter_twice(rig: Rig, fleet: Fleet) -> None:
    with_letters(rig, 1_500)  # three chunks
    with fleet.manned(2) as hub:
        ops = LocalOperations(hub)
        replay = ops.replay_letters({"flow": FLOW}, None, dry_run=False, actor="lin")
        prefix = f"replay:{replay['id']}:"
        victim = the_one_at(hub, prefix)
        freeze(hub, victim, prefix)

        def over() -> bool:
            now = ops.replay(replay["id"])
            return now["state"] != "running" and not now["letters"].get("replaying")

        wait_for(over, seconds=60)
        ended = ops.replay(replay["id"])
        wake(hub, victim)
        assert ops.replay(replay["id"]) == ended
        assert (ended["state"], ended["replayed"]) == ("done", 1_500)
    assert_one_effect_each(rig.crm, "customer", {f"D{n:05}" for n in range(1_500)})


@pytest.mark.slow
@pytest.mark.parametrize("sink", SINKS)
def test_killed_again_and_again_with_calls_on_the_wire_each_sink_gets_each_write_once(
    rig: Rig, fleet: Fleet, sink: str
) -> None:
    keep_some(rig, 60)
    send_to(rig, sink)
    limit(rig, "crm", rate="10/s")
    rig.crm.misbehave(Fault.DELAY, PATHS[sink], method="POST", times=None, seconds=0.5)
    with fleet.manned(2) as hub:
        run = start_run(hub, FLOW)
        for number in range(3):
            asked = rig.crm.count(PATHS[sink], "POST")
            wait_for(
                lambda asked=asked: (
                    rig.crm.count(PATHS[sink], "POST") > asked or found(hub, run).finished
                ),
                seconds=60,
            )
            victim = holder(hub, f"drain:crm/{sink}:")
            if victim is None:
                break
            send_signal(victim, signal.SIGKILL)
            fleet.start()
            wait_for(lambda: len(alive(hub)) == 2, seconds=30)
            if number == 1:
                rig.crm.behave()
        wait_for(lambda: found(hub, run).finished, seconds=120)
        assert found(hub, run).counts["written"] == 60
    assert_one_effect_each(rig.crm, sink, set(materials(rig)))
