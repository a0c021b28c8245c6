"""A replay killed in the middle goes on where it was and sends nothing twice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hub.engine.hub import open_hub
from hub.engine.operations import LocalOperations
from hub.engine.planning import start_run
from hub.store.crash import EXIT_CODE
from hub.store.dead_letters import DeadLetter, DeadLetterKind, put_dead_letters
from hub.store.ledger import LinkState, NewLink, insert_links
from tests.engine.conftest import Rig, finish
from tests.engine.letter_rig import FLOW, materials, replay_all, send_to, spoil

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.engine.settlement.FIRST_WAIT", 0.1)


def with_letters(rig: Rig, number: int) -> None:
    """A flow whose run left `number` rows that can be mapped by now."""
    send_to(rig, "customer", name="name")
    now = int(time.time() * 1000)
    problem = {"field": "name", "value": None, "code": "mapping.required", "message": "?"}
    with open_hub(rig.folder) as hub, hub.store.transaction() as connection:
        rows = [f"D{n:05}" for n in range(number)]
        state = LinkState.REJECTED.value
        insert_links(
            connection,
            [NewLink(FLOW, key, None, None, b"x" * 16, None, 0, 0, state, 3) for key in rows],
        )
        letters = [
            DeadLetter(
                DeadLetterKind.RECORD, FLOW, 1, key, None, [problem],
                json.dumps({"code": key, "name": f"n {key}"}), revision=0,
            )
            for key in rows
        ]  # fmt: skip
        put_dead_letters(connection, letters, now)


def start(rig: Rig, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.engine.replay_worker", str(rig.folder), FLOW]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str], seconds: float = 90) -> dict[str, Any] | None:
    """The replay as the process saw it end; None when it died before."""
    output, _ = process.communicate(timeout=seconds)
    last = output.strip().splitlines()[-1:] or [""]
    found: dict[str, Any] | None = json.loads(last[0]) if last[0].startswith("{") else None
    return found


def assert_once(rig: Rig, report: dict[str, Any] | None, number: int) -> None:
    assert report is not None
    assert report["state"] == "done", report
    assert (report["total"], report["replayed"], report["passed_over"]) == (number, number, 0)
    assert report["letters"] == {"resolved": number}
    effects = rig.crm.effects_of("customer")
    assert len(effects) == number
    assert set(effects.values()) == {1}
    assert rig.crm.duplicates("customer") == []


@pytest.mark.parametrize(
    "point",
    ["replay.before_commit:2", "replay.after_commit", "delivery.claimed", "delivery.sent"],
)
def test_a_replay_that_dies_at_a_named_point_goes_on(
    rig: Rig, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_letters(rig, 700)  # more than one chunk
    first = start(rig, HUB_CRASH_AT=point)
    assert ended(first) is None
    assert first.returncode == EXIT_CODE
    assert_once(rig, ended(start(rig)), 700)


def test_four_hundred_letters_survive_kills_in_the_middle(rig: Rig) -> None:
    kill_loop(rig, letters=400, kills=3, seed=7, rate="20/s")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_letters_survive_kills_in_the_middle(rig: Rig) -> None:
    kill_loop(rig, letters=10_000, kills=8, seed=random.randrange(1_000_000), rate="10/s")


def kill_loop(rig: Rig, letters: int, kills: int, seed: int, rate: str) -> None:
    chance = random.Random(seed)
    with_letters(rig, letters)
    rig.connections["crm"]["limits"]["rate"] = rate
    rig.write_connections()
    for _ in range(kills):
        process = start(rig)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 1.0))
        process.kill()
        process.communicate()
    rig.connections["crm"]["limits"]["rate"] = "9999/s"
    rig.write_connections()
    assert_once(rig, ended(start(rig), 300), letters)


def test_held_records_that_were_being_released_when_the_power_went_go_on(rig: Rig) -> None:
    rig.write_flow(
        "parents",
        "flow: parents\nfrom: {connection: u8, stream: customer}\n"
        "mapping: {key: [code], fields: {code: code}}\nto: {entity: owner}\n",
    )
    rig.write_flow(
        FLOW,
        f"flow: {FLOW}\nfrom: {{connection: u8, stream: material}}\n"
        "mapping:\n  key: [code]\n  fields:\n    code: code\n"
        "    owner: {link: owner, by: {value: C00001}, missing: hold}\n"
        "to: {connection: crm, sink: customer}\n",
    )
    assert rig.run(FLOW).counts["held"] == 30
    command = [sys.executable, "-m", "tests.engine.worker", str(rig.folder), "parents"]
    for point in ("unhold.before_commit", "unhold.after_commit"):
        environment = {**os.environ, "HUB_CRASH_AT": point}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        process.communicate(timeout=60)
    with rig.open() as hub:
        deadline = time.monotonic() + 30
        while len(rig.crm.effects_of("customer")) < 30:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert LocalOperations(hub).count_dead_letters({})["total"] == 0
    assert set(rig.crm.effects_of("customer").values()) == {1}


def test_letters_replayed_while_the_flow_runs_are_sent_once(rig: Rig) -> None:
    send_to(rig, "customer")
    codes = spoil(rig, 10, name=None)
    rig.run(FLOW)
    for code in codes:
        materials(rig)[code]["name"] = "corrected"
    rig.u8.refresh()
    with rig.open() as hub:
        run = start_run(hub, FLOW, full=True)
        replay = replay_all(hub)
        assert finish(hub, run).counts["rejected"] == 0
        assert LocalOperations(hub).count_dead_letters({})["total"] == 0
    assert replay["state"] == "done"
    effects = rig.crm.effects_of("customer")
    assert {effects[code] for code in codes} == {1}


def test_a_page_read_before_a_replay_can_not_be_committed_behind_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was taken for dead wakes up with links it read before."""
    from hub.engine import sync
    from hub.engine.replay import lock_beside_runs
    from hub.store.runs import load_run

    send_to(rig, "customer")
    done: list[int] = []
    with rig.open() as hub:
        real = sync.map_rows

        def meanwhile(*given: Any, **named: Any) -> Any:
            entries = real(*given, **named)
            if not done:
                done.append(1)
                with hub.store.transaction() as connection:
                    lock_beside_runs(connection, hub.catalogue.flow(FLOW))
            return entries

        monkeypatch.setattr(sync, "map_rows", meanwhile)
        run = start_run(hub, FLOW)
        deadline = time.monotonic() + 20
        while not done:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1)
        with hub.store.reading() as connection:
            now = load_run(connection, run.id)
        assert now is not None
        assert (now.page_no, now.finished) == (0, False)
        assert rig.crm.effects_of("customer") == {}
        from hub.engine.sweep import sweep

        sweep(hub)
        assert finish(hub, run).counts["written"] == 30
    assert set(rig.crm.effects_of("customer").values()) == {1}
