"""Wake-ups: whether a job for waiting work is queued already, and the number of the next one."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.tables import drain


def want_drain(connection: Connection, sink_ref: str) -> int | None:
    """Ask for a delivery job; the number of the wake-up when one must be queued, else None."""
    this = drain.c.sink_ref == sink_ref
    raised = connection.execute(
        drain.update().where(this, drain.c.wanted == 0).values(wanted=1, wakes=drain.c.wakes + 1)
    )
    if raised.rowcount == 0:
        known = connection.execute(sa.select(drain.c.wanted).where(this)).first()
        if known is not None:
            return None
        try:
            with connection.begin_nested():
                connection.execute(drain.insert().values(sink_ref=sink_ref, wanted=1, wakes=1))
        except sa.exc.IntegrityError:
            return None
    return int(connection.execute(sa.select(drain.c.wakes).where(this)).scalar_one())


def take_drain(connection: Connection, sink_ref: str) -> None:
    """A delivery job starts: whoever adds work from now on must queue another one."""
    connection.execute(drain.update().where(drain.c.sink_ref == sink_ref).values(wanted=0))


def next_wake(connection: Connection, sink_ref: str) -> int:
    """The number of a later wake-up; unlike `want_drain` it does not hold back an earlier one."""
    want_drain(connection, sink_ref)
    this = drain.c.sink_ref == sink_ref
    connection.execute(drain.update().where(this).values(wanted=0, wakes=drain.c.wakes + 1))
    return int(connection.execute(sa.select(drain.c.wakes).where(this)).scalar_one())
