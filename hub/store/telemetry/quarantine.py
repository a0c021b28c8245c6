"""What can never become a reading, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import plain_text
from hub.store.tables.telemetry import quarantine
from hub.store.telemetry.bulk import insert_missing

SAMPLE_BYTES = 4096
WHOLE = -1

_KINDS = (
    {"part": "integer", "seq": "bigint", "position": "integer", "received_at": "bigint"}
    | dict.fromkeys(("source", "sender", "device", "metric", "code", "detail", "format"), "text")
    | {"sample": "bytea"}
)


class Quarantined(NamedTuple):
    """A message or a part of it; `position` tells the parts of one message apart (-1: all)."""

    part: int
    seq: int
    position: int
    received_at: int
    source: str
    sender: str
    device: str
    metric: str
    code: str
    detail: str
    format: str
    sample: bytes


def add_quarantined(connection: Connection, rows: Sequence[Quarantined]) -> None:
    """Keep them; texts are cut to what fits."""
    insert_missing(connection, quarantine, _KINDS, [_fitting(row) for row in rows])


def _fitting(row: Quarantined) -> Quarantined:
    return row._replace(
        sender=plain_text(row.sender[:255]),
        device=plain_text(row.device[:255]),
        metric=plain_text(row.metric[:255]),
        code=row.code[:30],
        detail=plain_text(row.detail[:500]),
        sample=row.sample[:SAMPLE_BYTES],
    )


def trim_quarantine(connection: Connection, older_than_ms: int, most: int) -> int:
    """Forget what was received before; at most so many rows at once. How many went."""
    keys = (quarantine.c.part, quarantine.c.seq, quarantine.c.position)
    old = sa.select(*keys).where(quarantine.c.received_at < older_than_ms)
    chosen = old.order_by(quarantine.c.received_at).limit(most)
    return connection.execute(quarantine.delete().where(sa.tuple_(*keys).in_(chosen))).rowcount


def find_quarantined(
    connection: Connection,
    wanted: Mapping[str, str],
    limit: int,
    before: tuple[int, int, int, int] | None = None,
) -> list[Quarantined]:
    """Newest first, where the columns of `wanted` have these values.

    `before` = (received_at, part, seq, position) of the last one of the page before.
    """
    keys = (quarantine.c.received_at, quarantine.c.part, quarantine.c.seq, quarantine.c.position)
    conditions = [quarantine.c[name] == value for name, value in wanted.items()]
    if before is not None:
        conditions.append(sa.tuple_(*keys) < sa.tuple_(*map(sa.literal, before)))
    columns = [quarantine.c[name] for name in Quarantined._fields]
    statement = sa.select(*columns).where(*conditions).order_by(*[key.desc() for key in keys])
    return [Quarantined(*row) for row in connection.execute(statement.limit(limit))]


def count_quarantined(connection: Connection, since_ms: int) -> dict[str, int]:
    """How many were received since then, by code."""
    counted = sa.select(quarantine.c.code, sa.func.count()).group_by(quarantine.c.code)
    found = connection.execute(counted.where(quarantine.c.received_at >= since_ms))
    return {row[0]: int(row[1]) for row in found}
