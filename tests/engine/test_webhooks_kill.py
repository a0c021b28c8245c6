"""kill -9 at any point, and several workers: no change lost, ids stable, nothing twice at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.engine.operations import LocalOperations
from hub.sdk.testing import Fault
from hub.store.crash import EXIT_CODE
from tests.engine.webhook_rig import Desk, Receiver, change, states, subscribe, wait_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    return Desk(tmp_path / "hub", url)


@contextmanager
def worker(desk: Desk, keys: int = 0, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that works until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.webhook_worker", str(desk.folder), str(keys)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def ids_by_key(receiver: Receiver) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for message_id, body in receiver.taken:
        found.setdefault(body["data"]["key"], set()).add(message_id)
    return found


@pytest.mark.parametrize("point", ["webhook.claimed:3", "webhook.sent:3"])
def test_a_process_that_dies_with_messages_on_the_wire_loses_none(
    desk: Desk, receiver: Receiver, point: str
) -> None:
    with desk.open() as hub:
        one = subscribe(hub, receiver)
        change(hub, *[f"C-{number}" for number in range(20)])
    with worker(desk, HUB_CRASH_AT=point) as process:
        assert process.wait(30) == EXIT_CODE
    before = len(receiver.taken)
    with desk.open(jobs=True) as hub:
        wait_for(lambda: set(states(hub, one).values()) == {"delivered"}, 30)
    found = ids_by_key(receiver)
    assert len(found) == 20
    assert all(len(ids) == 1 for ids in found.values())
    if point.startswith("webhook.sent"):  # answered, never settled: the same id comes again
        assert before > 0
        assert max(Counter(receiver.ids).values()) == 2
    assert receiver.badly_signed == 0


@pytest.mark.timeout(200)
def test_random_kills_lose_no_change_and_keep_the_ids(desk: Desk, receiver: Receiver) -> None:
    kill_loop(desk, receiver, kills=2, seed=3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_random_kills_lose_no_change_and_keep_the_ids(
    desk: Desk, receiver: Receiver
) -> None:
    kill_loop(desk, receiver, kills=30, seed=random.randrange(1_000_000))


def kill_loop(desk: Desk, receiver: Receiver, kills: int, seed: int) -> None:
    """Kill the hub again and again while it writes and sends, then let it finish."""
    chance = random.Random(seed)
    receiver.misbehave(Fault.DELAY, times=None, chance=0.3, seconds=0.05)
    receiver.misbehave(Fault.LOST_ANSWER, times=None, chance=0.1)
    with desk.open() as hub:
        one = subscribe(hub, receiver)
    for _ in range(kills):
        with worker(desk, keys=40) as process:
            wait_until = time.monotonic() + 20
            seen = len(receiver.requests)
            while len(receiver.requests) == seen and time.monotonic() < wait_until:
                time.sleep(0.02)
            time.sleep(chance.uniform(0.0, 0.5))
            process.kill()
    receiver.behave()
    with desk.open(jobs=True) as hub:
        operations = LocalOperations(hub)
        operations.change_subscription(one, {"state": "active"})  # failed tries are due now
        wait_for(lambda: _all_told(operations, one), 40)
        newest = {
            row["key"]: row["change_no"]
            for row in operations.records("customer", 0, 1000)["records"]
        }
    told: dict[str, int] = {}
    for _, body in receiver.taken:
        data = body["data"]
        told[data["key"]] = max(told.get(data["key"], 0), data["change_no"])
    assert told == newest
    change_of = {message_id: body["data"]["change_no"] for message_id, body in receiver.taken}
    assert len(set(change_of.values())) == len(change_of)
    assert receiver.badly_signed == 0


def _all_told(operations: LocalOperations, one: str) -> bool:
    row = operations.subscription(one)
    return row["unsent"] == 0 and all(p["change_no"] == p["newest"] for p in row["positions"])


@pytest.mark.postgres
def test_workers_on_one_database_never_send_a_message_twice(
    tmp_path: Path, postgres_url: str, receiver: Receiver
) -> None:
    desk = Desk(tmp_path / "hub", postgres_url)
    receiver.misbehave(Fault.DELAY, times=None, seconds=0.03)
    with desk.open() as hub:
        one = subscribe(hub, receiver)
    with worker(desk) as first, worker(desk) as second:
        ready(first)
        ready(second)
        with desk.open(jobs=True) as hub:
            for number in range(60):
                change(hub, f"C-{number}", f"D-{number % 7}", revision=number)
            wait_for(lambda: _all_told(LocalOperations(hub), one), 30)
            assert set(states(hub, one).values()) <= {"delivered", "superseded"}
    assert max(Counter(receiver.ids).values()) == 1
    assert {f"C-{number}" for number in range(60)} <= set(receiver.keys)
    for key in {f"D-{number}" for number in range(7)}:
        versions = [b["data"]["revision"] for _, b in receiver.taken if b["data"]["key"] == key]
        assert versions == sorted(versions)


@pytest.mark.postgres
def test_another_worker_sends_on_what_a_killed_one_left(
    tmp_path: Path, postgres_url: str, receiver: Receiver
) -> None:
    desk = Desk(tmp_path / "hub", postgres_url, seconds=20)
    with desk.open() as hub:
        subscribe(hub, receiver)
    receiver.misbehave(Fault.SILENCE, times=4)
    with worker(desk, keys=8) as first, worker(desk) as second:
        ready(first)
        ready(second)
        wait_for(lambda: len(receiver.requests) >= 4, 20)
        # Whoever holds the job is one of the two; killing both would prove nothing.
        first.kill()
        with desk.open(jobs=True):
            second.kill()
            began = time.monotonic()
            wait_for(lambda: len(set(receiver.keys)) == 8, 30)
    assert time.monotonic() - began < 25
