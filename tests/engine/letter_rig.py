"""Short ways to run flows and take up dead letters in tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hub.engine.hub import Hub
from hub.engine.operations import LocalOperations
from tests.engine.conftest import Rig

FLOW = "send"
ME = "lin"


def send_to(rig: Rig, sink: str, *, name: str = "name | required") -> None:
    """The flow `send`: 30 materials of U8 to a sink of the CRM."""
    rig.write_flow(
        FLOW,
        f"flow: {FLOW}\nfrom: {{connection: u8, stream: material}}\n"
        f"mapping: {{key: [code], fields: {{code: code, name: {name}, subject: name}}}}\n"
        f"to: {{connection: crm, sink: {sink}}}\n",
    )


def materials(rig: Rig) -> dict[str, dict[str, Any]]:
    """The rows of the source by code."""
    return rig.u8.ledgers["1"].materials


def spoil(rig: Rig, number: int = 1, **values: Any) -> list[str]:
    """Change fields of the first rows of the source; their codes."""
    codes = list(materials(rig))[:number]
    for code in codes:
        materials(rig)[code].update(values)
    rig.u8.refresh()
    return codes


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def settled(ops: LocalOperations, replay_id: str, seconds: float = 20) -> dict[str, Any]:
    """The replay when it is over and its writes are settled."""

    def over() -> bool:
        now = ops.replay(replay_id)
        return now["state"] != "running" and not now["letters"].get("replaying")

    until(over, seconds)
    return ops.replay(replay_id)


def replay_one(hub: Hub, letter: str, **wanted: Any) -> dict[str, Any]:
    """The letter after it was taken up again."""
    ops = LocalOperations(hub)
    replay = ops.replay_letter(letter, wanted, actor=ME)
    settled(ops, replay["id"])
    return ops.dead_letter(letter)


def replay_all(hub: Hub, **filters: str) -> dict[str, Any]:
    """The replay of all letters when it is over."""
    ops = LocalOperations(hub)
    asked = {"flow": FLOW, **filters}
    replay = ops.replay_letters(asked, None, dry_run=False, actor=ME)
    return settled(ops, replay["id"], 60)
