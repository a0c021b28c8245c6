"""What was thanked for is in the inbox, whatever becomes of the process that took it."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from tests.intake.rig import Crowd, Desk, Sender, send, serving, wait_for


def kill_loop(desk: Desk, kills: int, seed: int) -> None:
    """24 senders, the server killed again and again; its inbox beside what was thanked for."""
    chance = random.Random(seed)
    thanked: dict[str, bytes] = {}
    for number in range(kills):
        with serving(desk, "--wait", "20") as served:
            crowd = Crowd(served.port, name=f"k{number}", thanked=thanked)
            before = len(thanked)
            with crowd.sending():
                wait_for(lambda before=before: len(thanked) > before + 24)  # type: ignore[misc]
                time.sleep(chance.uniform(0.0, 0.3))
                served.kill()
            assert not crowd.refused
        kept = desk.kept()
        missing = {event_id for event_id, body in thanked.items() if kept.get(event_id) != body}
        assert not missing, f"{len(missing)} of {len(thanked)} lost"


@pytest.mark.timeout(200)
def test_every_event_that_was_thanked_for_survives_a_kill(desk: Desk) -> None:
    kill_loop(desk, kills=2, seed=7)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_event_that_was_thanked_for_survives_thirty_kills(desk: Desk) -> None:
    kill_loop(desk, kills=30, seed=random.randrange(1_000_000))


def test_a_server_that_is_stopped_keeps_what_it_has_thanked_for(plain: Desk) -> None:
    with serving(plain) as served:
        crowd = Crowd(served.port)
        with crowd.sending():
            wait_for(lambda: len(crowd.thanked) > 50)
            served.process.terminate()
            assert served.process.wait(20) == 0
    kept = plain.kept()
    assert {event_id: kept.get(event_id) for event_id in crowd.thanked} == crowd.thanked


@pytest.mark.postgres
@pytest.mark.timeout(200)
def test_two_processes_keep_an_event_that_both_receive_once(
    tmp_path: Path, postgres_url: str
) -> None:
    desk = Desk(tmp_path / "hub", postgres_url)
    ids = [f"both-{number}" for number in range(40)]
    statuses: list[int] = []

    def deliver(port: int, seed: int) -> None:
        mine = random.Random(seed).sample(ids, len(ids))
        with Sender(port) as sender:
            statuses.extend(sender.send(b'{"id": 1}', event_id).status for event_id in mine)

    with serving(desk) as one, serving(desk) as two:
        threads = [
            threading.Thread(target=deliver, args=(served.port, seed))
            for seed, served in enumerate([one, two] * 4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        one.kill()
        assert send(two.port, event_id=ids[0]).status == 200
    assert statuses == [200] * len(ids) * 8
    assert sorted(desk.kept()) == sorted(ids)
