"""What the tests of two-way flows share: two offices, a hub over them, and how to look at both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from hub.engine.operations import LocalOperations
from hub.engine.replay import replay_letters
from hub.engine.sameness import same
from hub.store.dead_letters import DeadLetterKind, letter_id
from hub.store.runs import RunState
from hub.store.tables import audit, dead_letter
from tests.engine.offices import BACK, FIELDS, FORTH, Office
from tests.engine.paper import QuietHub

ON_BOTH = pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
BOTH_ORDERS = pytest.mark.parametrize("order", [(FORTH, BACK), (BACK, FORTH)])


Make = Callable[..., QuietHub]


def turn(hub: QuietHub, *flows: str, times: int = 1) -> None:
    """These flows, one after the other; both when none is named."""
    for _ in range(times):
        for flow in flows or (FORTH, BACK):
            hub.time.advance(2)
            run = hub.run(flow)
            assert run.state == RunState.DONE, run.error_text


def alike(left: Office, right: Office, number: str = "L1", other: str = "R1") -> bool:
    mine, theirs = left.said(number), right.said(other)
    return all(same(mine[name], theirs[name]) for name in FIELDS)


def writes(left: Office, right: Office) -> tuple[int, int]:
    return left.writes, right.writes


def events(hub: QuietHub) -> list[dict[str, Any]]:
    """The conflicts that were ruled, as the audit tells of them."""
    found = sa.select(audit.c.details_text).where(audit.c.action == "two_way.conflict")
    return [msgspec.json.decode(text) for (text,) in hub.rows(found.order_by(audit.c.entry_no))]


def letters(hub: QuietHub) -> list[Any]:
    columns = (dead_letter.c.flow_id, dead_letter.c.error_code, dead_letter.c.field_name)
    return [
        tuple(row) for row in hub.rows(sa.select(*columns).where(dead_letter.c.state == "open"))
    ]


def letter_about(flow: str, key: str) -> str:
    return letter_id(DeadLetterKind.DELIVERY, flow, key)


def replay(hub: QuietHub, flow: str, key: str, **wanted: Any) -> None:
    """A letter about a write taken up again, as the command does it."""
    asked = LocalOperations(hub).replay_letter(letter_about(flow, key), wanted, actor="tester")
    replay_letters(hub, asked["id"], 0)
    hub.deliver(flow)
