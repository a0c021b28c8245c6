"""Each event delivered up to five times, shuffled, in parallel: the end is that of one delivery."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hub.engine.operations import LocalOperations
from tests.intake.rig import Desk, Edge, Sender, edge, wait_for

EVENTS = {
    f"event-{number}": json.dumps({"id": f"T{number}", "name": f"名{number}"}).encode()
    for number in range(40)
}
SENDERS = 6


def deliver(here: Edge, ids: Sequence[str]) -> None:
    """Send these events in this order, dealt out to senders that work at the same time."""
    refused: list[int] = []

    def send(mine: Sequence[str]) -> None:
        with Sender(here.port) as sender:
            answers = [sender.send(EVENTS[one], one).status for one in mine]
        refused.extend(status for status in answers if status != 200)

    threads = [threading.Thread(target=send, args=(ids[at::SENDERS],)) for at in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert refused == []


def end_state(desk: Desk, ids: Sequence[str]) -> tuple[Any, ...]:
    """Inbox, records, what the runs counted, and letters, when all is done."""
    desk.write_flow()
    with edge(desk, jobs=True) as here:
        deliver(here, ids)
        operations = LocalOperations(here.hub)
        wait_for(lambda: len(operations.records("ticket", 0, 100)["records"]) == len(EVENTS), 60)
        wait_for(lambda: all(run["finished_at"] for run in operations.runs("tickets", 100)), 60)
        page = operations.records("ticket", 0, 100)
        counts = [run["counts"] for run in operations.runs("tickets", 100)]
        return (
            here.kept().items() ^ EVENTS.items(),
            sorted((one["key"], one["revision"], str(one["data"])) for one in page["records"]),
            page["next"],
            {name: sum(one[name] for one in counts) for name in ("read", "written", "rejected")},
            operations.count_dead_letters({"state": "all"})["total"],
        )


@pytest.mark.parametrize("seed", [1, 2])
def test_events_delivered_again_and_in_any_order_end_as_if_delivered_once(
    desk: Desk, tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    ids = [one for one in EVENTS for _ in range(random.randint(1, 5))]
    random.shuffle(ids)
    once = end_state(Desk(tmp_path / "once"), list(EVENTS))
    assert end_state(desk, ids) == once
    assert once[0] == set()
    assert once[3] == {"read": len(EVENTS), "written": len(EVENTS), "rejected": 0}
