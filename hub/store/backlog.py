"""What has not been written yet: deliveries that wait and intents that are open."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.deliveries import IntentState, sinks_in
from hub.store.rows import key_filters
from hub.store.tables import delivery, intent


def keys_under_way(connection: Connection, sink_ref: str, target_keys: Sequence[str]) -> set[str]:
    """Those of the targets that a delivery waits for or an intent is open for."""
    found: set[str] = set()
    for table in (delivery, intent):
        for condition, params in key_filters(connection, table.c.target_key, target_keys):
            here = sa.select(table.c.target_key).where(
                table.c.sink_ref == sa.bindparam("sink"), condition
            )
            found.update(connection.execute(here, {"sink": sink_ref, **params}).scalars())
    return found


def count_pending(connection: Connection, run_id: int) -> int:
    """How many writes of the run wait or may be on the wire."""
    return sum(
        int(connection.execute(sa.select(sa.func.count()).where(condition)).scalar_one())
        for condition in _pending(run_id)
    )


def has_pending(connection: Connection, run_id: int) -> bool:
    """Whether a write of the run waits or may be on the wire."""
    rows = (sa.select(sa.literal(1)).where(condition).limit(1) for condition in _pending(run_id))
    return any(connection.execute(statement).first() is not None for statement in rows)


def _pending(run_id: int) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return (
        delivery.c.run_id == run_id,
        sa.and_(intent.c.run_id == run_id, intent.c.state != IntentState.REVIEW.value),
    )


def sinks_with_work(connection: Connection) -> list[str]:
    """Every sink that has a delivery or an open intent."""
    return sorted({*sinks_in(connection, delivery), *sinks_in(connection, intent)})
