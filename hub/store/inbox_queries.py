"""Looking into the inbox, as people do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.tables import inbox


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events of a connection: numbers in (`above`, `upto`], with or without their body."""

    connection: str
    event_id: str | None = None
    above: int | None = None
    upto: int | None = None
    has_body: bool | None = None


def find_events(connection: Connection, wanted: EventFilter, limit: int) -> list[dict[str, Any]]:
    """Events without their bodies, newest first; `size` is None for one whose body is gone."""
    conditions = [inbox.c.connection_id == wanted.connection]
    if wanted.event_id is not None:
        conditions.append(inbox.c.event_id == wanted.event_id)
    if wanted.above is not None:
        conditions.append(inbox.c.event_no > wanted.above)
    if wanted.upto is not None:
        conditions.append(inbox.c.event_no <= wanted.upto)
    if wanted.has_body is not None:
        conditions.append(inbox.c.body.is_not(None) if wanted.has_body else inbox.c.body.is_(None))
    statement = (
        sa.select(
            inbox.c.connection_id.label("connection"),
            inbox.c.event_no.label("number"),
            inbox.c.event_id,
            inbox.c.received_at,
            inbox.c.media_type,
            sa.func.length(inbox.c.body).label("size"),
        )
        .where(*conditions)
        .order_by(inbox.c.event_no.desc())
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


def received_at(connection: Connection, name: str, behind: int) -> int | None:
    """When the first event behind this number came, in milliseconds."""
    statement = (
        sa.select(inbox.c.received_at)
        .where(inbox.c.connection_id == name, inbox.c.event_no > behind)
        .order_by(inbox.c.event_no)
        .limit(1)
    )
    found: int | None = connection.execute(statement).scalar_one_or_none()
    return found
