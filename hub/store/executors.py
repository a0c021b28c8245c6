"""Processes that run jobs: who lives, who died, and what each has in hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.database import database_time
from hub.store.rows import decode_json, encode_json
from hub.store.tables import executor

FORGET_MS = 86_400_000
"""How long a process that died is still shown."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One process; `id` is new each time it starts."""

    id: str
    kind: str
    host: str
    pid: int
    version: str


@dataclass(frozen=True, slots=True)
class InHand:
    """A job a process works on: for how long, and since when without a commit (seconds)."""

    job: str
    age: float
    still: float


@dataclass(frozen=True, slots=True)
class Executor:
    """A process as its last heartbeat left it. Times are milliseconds of the database's clock."""

    identity: Identity
    started_at: int
    seen_at: int
    silent: float
    alive: bool
    jobs: tuple[InHand, ...]


def beat(connection: Connection, who: Identity, jobs: Sequence[InHand]) -> None:
    """Show that the process lives."""
    now = int(database_time(connection) * 1000)
    fresh = {"seen_at": now, "jobs_text": encode_json([asdict(one) for one in jobs]).decode()}
    mine = executor.c.id == who.id
    if connection.execute(executor.update().where(mine).values(fresh)).rowcount == 0:
        facts = {
            "id": who.id,
            "kind": who.kind,
            "host_name": who.host[:120],
            "pid": who.pid,
            "program_version": who.version,
            "started_at": now,
        }
        connection.execute(executor.insert().values({**facts, **fresh}))
        connection.execute(executor.delete().where(executor.c.seen_at < now - FORGET_MS))


def leave(connection: Connection, executor_id: str) -> None:
    """The process ends in order: whatever it left in hand is free for others at once."""
    connection.execute(executor.delete().where(executor.c.id == executor_id))


def living(connection: Connection, grace: float) -> set[str]:
    """Ids of the processes whose heartbeat is not older than `grace` seconds."""
    fresh = executor.c.seen_at >= int((database_time(connection) - grace) * 1000)
    return set(connection.execute(sa.select(executor.c.id).where(fresh)).scalars())


def list_executors(connection: Connection, grace: float) -> list[Executor]:
    """Every process known, the living ones first, then by the time they started."""
    now = int(database_time(connection) * 1000)
    found = connection.execute(sa.select(executor)).all()
    rows = [_executor(row, now, grace) for row in found]
    return sorted(rows, key=lambda one: (not one.alive, one.started_at, one.identity.id))


def _executor(row: sa.Row[tuple[object, ...]], now_ms: int, grace: float) -> Executor:
    silent = max(0.0, (now_ms - row.seen_at) / 1000)
    jobs = decode_json(row.jobs_text) if row.jobs_text else []
    return Executor(
        identity=Identity(
            id=row.id,
            kind=row.kind or "worker",
            host=row.host_name or "",
            pid=row.pid or 0,
            version=row.program_version or "",
        ),
        started_at=row.started_at or row.seen_at,
        seen_at=row.seen_at,
        silent=silent,
        alive=silent <= grace,
        jobs=tuple(InHand(**one) for one in jobs),
    )
