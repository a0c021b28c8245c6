"""Short ways to run flows and take up dead letters in tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hub.engine.hub import Hub
from hub.engine.operations import LocalOperations
from hub.sdk.testing import Fault
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


def only_letter(hub: Hub, **filters: str) -> dict[str, Any]:
    """The one letter there is."""
    (found,) = LocalOperations(hub).dead_letters(filters, 10)["items"]
    letter: dict[str, Any] = found
    return letter


# --- where tests begin ------------------------------------------------------------------------


def shorten_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries and look-ups follow each other at once."""
    monkeypatch.setattr("hub.engine.settlement.FIRST_WAIT", 0.1)
    monkeypatch.setattr("hub.sdk.sinks.SinkWriter.visibility_lag", 0.2)


@contextmanager
def with_refused(rig: Rig) -> Iterator[tuple[Hub, str]]:
    """A hub with one letter: the CRM refused the first material, and would take it now."""
    send_to(rig, "customer")
    (code,) = spoil(rig, name="REJECT me")
    rig.run(FLOW)
    with rig.open() as hub:
        yield hub, code


@contextmanager
def with_doubtful(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Hub, dict[str, Any]]]:
    """A ticket that landed although its answer was lost, in a sink that cannot be searched."""
    monkeypatch.setattr("hub.sdk.sinks.SinkWriter.can_find", False)
    send_to(rig, "ticket")
    rig.crm.misbehave(Fault.LOST_ANSWER, "/api/v1/tickets", method="POST", times=1)
    assert rig.run(FLOW, seconds=60).counts["refused"] == 1
    with rig.open() as hub:
        yield hub, only_letter(hub)
