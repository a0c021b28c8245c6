"""Wake-ups: whether a job for waiting work is queued already, and the number of the next one."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.tables import drain

_EARLY_MS = 2_000
"""How much earlier than planned a job may start: its clock need not be that of the planner."""
_NEAR_MS = 1_000


def want_drain(connection: Connection, sink_ref: str) -> int | None:
    """Ask for a delivery job; the number of the wake-up when one must be queued, else None."""
    return _wake(connection, sink_ref, drain.c.wanted == 0, wanted=drain.c.wakes + 1)


def plan_drain(connection: Connection, sink_ref: str, at_ms: int) -> int | None:
    """Ask for a delivery job at a later time; the number of the wake-up when one must be queued.

    None when one that is planned already comes no later, or hardly: two jobs that count to the
    same moment differ by milliseconds. It holds no earlier wake-up back.
    """
    later = sa.or_(drain.c.later_at == 0, drain.c.later_at > at_ms + _NEAR_MS)
    return _wake(connection, sink_ref, later, later_at=at_ms)


def take_drain(connection: Connection, sink_ref: str, wake: int, now_ms: int) -> None:
    """The delivery job of a wake-up starts: whoever adds work from now on must queue another one.

    Unless one is queued still: this one may have begun before, in a process that died.
    """
    waits = sa.case((drain.c.wanted == wake, 0), else_=drain.c.wanted)
    later = still_planned(drain.c.later_at, now_ms)
    this = drain.c.sink_ref == sink_ref
    connection.execute(drain.update().where(this).values(wanted=waits, later_at=later))


def reset_drain(connection: Connection, sink_ref: str) -> None:
    """No job is queued, now or later."""
    this = drain.c.sink_ref == sink_ref
    connection.execute(drain.update().where(this).values(wanted=0, later_at=0))


def still_planned(later_at: sa.ColumnElement[int], now_ms: int) -> sa.Case[int]:
    """What is left of a planned time when a job starts: 0 once the time is here."""
    return sa.case((later_at <= now_ms + _EARLY_MS, 0), else_=later_at)


def _wake(
    connection: Connection, sink_ref: str, unless_known: sa.ColumnElement[bool], **values: Any
) -> int | None:
    this = drain.c.sink_ref == sink_ref
    raised = connection.execute(
        drain.update().where(this, unless_known).values(wakes=drain.c.wakes + 1, **values)
    )
    if raised.rowcount == 0:
        known = connection.execute(sa.select(drain.c.wakes).where(this)).first()
        if known is not None:
            return None
        try:
            with connection.begin_nested():
                row = {"sink_ref": sink_ref, "wanted": 0, "wakes": 0}
                connection.execute(drain.insert().values(row))
        except sa.exc.IntegrityError:
            return None  # whoever made it did so for a job
        return _wake(connection, sink_ref, unless_known, **values)
    return int(connection.execute(sa.select(drain.c.wakes).where(this)).scalar_one())
