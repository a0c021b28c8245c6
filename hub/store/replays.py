"""Replays: of one dead letter, or of all that were open when somebody asked for it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.letter_queries import Place
from hub.store.rows import decode_exact, encode_exact, plain_text
from hub.store.tables import replay


class ReplayState(StrEnum):
    """`running` until every letter was worked on; the others are final."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay as stored. `asked` says what for: the filter, or the edit and the decision."""

    id: str
    flow_id: str
    letter_id: str | None
    state: str
    asked: Mapping[str, Any]
    after: Place | None
    per_second: float | None
    requested_by: str
    total: int
    replayed: int
    passed_over: int
    error_text: str | None
    created_at: int
    finished_at: int | None

    @property
    def finished(self) -> bool:
        return self.state != ReplayState.RUNNING


def create_replay(
    connection: Connection,
    flow_id: str,
    asked: Mapping[str, Any],
    total: int,
    requested_by: str,
    now_ms: int,
    *,
    letter_id: str | None = None,
    per_second: float | None = None,
) -> str:
    """A new replay; its id."""
    replay_id = uuid.uuid4().hex
    connection.execute(
        replay.insert().values(
            id=replay_id,
            flow_id=flow_id,
            letter_id=letter_id,
            state=ReplayState.RUNNING.value,
            filter_text=encode_exact(dict(asked)).decode(),
            per_second=per_second,
            requested_by=plain_text(requested_by)[:120],
            total=total,
            replayed=0,
            passed_over=0,
            created_at=now_ms,
        )
    )
    return replay_id


def load_replay(connection: Connection, replay_id: str, *, lock: bool = False) -> Replay | None:
    """The replay with this id; with `lock` nobody else moves it until commit."""
    statement = sa.select(replay).where(replay.c.id == replay_id)
    row = connection.execute(statement.with_for_update() if lock else statement).first()
    return None if row is None else _replay(row)


def find_replay(connection: Connection, begins: str) -> Replay | None:
    """The replay whose id alone begins with `begins`."""
    if len(begins) < 6 or not begins.isalnum():
        return None
    within = sa.and_(replay.c.id >= begins, replay.c.id < begins + "g")
    rows = connection.execute(sa.select(replay).where(within).limit(2)).all()
    return _replay(rows[0]) if len(rows) == 1 else None


def list_replays(connection: Connection, limit: int) -> list[Replay]:
    """The newest replays, newest first."""
    statement = sa.select(replay).order_by(replay.c.created_at.desc(), replay.c.id).limit(limit)
    return [_replay(row) for row in connection.execute(statement)]


def unfinished_replays(connection: Connection) -> list[Replay]:
    """Every replay that is still on its way, oldest first."""
    running = sa.select(replay).where(replay.c.state == ReplayState.RUNNING.value)
    return [_replay(row) for row in connection.execute(running.order_by(replay.c.created_at))]


def advance_replay(
    connection: Connection, one: Replay, place: Place | None, replayed: int, passed_over: int
) -> None:
    """Note what was worked on, in the transaction that did it."""
    values: dict[str, Any] = {
        "replayed": replay.c.replayed + replayed,
        "passed_over": replay.c.passed_over + passed_over,
    }
    if place is not None:
        values |= {"after_at": place.opened_at, "after_id": place.id}
    connection.execute(replay.update().where(replay.c.id == one.id).values(values))


def end_replay(
    connection: Connection, replay_id: str, state: ReplayState, now_ms: int, error: str = ""
) -> None:
    """End a replay that is on its way. What was not worked on counts as passed over when done."""
    values: dict[str, Any] = {"state": state.value, "finished_at": now_ms}
    if state is ReplayState.DONE:
        values["passed_over"] = replay.c.total - replay.c.replayed
    if error:
        values["error_text"] = plain_text(error)
    running = replay.c.state == ReplayState.RUNNING.value
    connection.execute(replay.update().where(replay.c.id == replay_id, running).values(values))


def _replay(row: Any) -> Replay:
    return Replay(
        id=row.id,
        flow_id=row.flow_id,
        letter_id=row.letter_id,
        state=row.state,
        asked=decode_exact(row.filter_text),
        after=Place(row.after_at, row.after_id) if row.after_id else None,
        per_second=row.per_second,
        requested_by=row.requested_by,
        total=row.total,
        replayed=row.replayed,
        passed_over=row.passed_over,
        error_text=row.error_text,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
