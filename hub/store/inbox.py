"""The inbox: a log of received events per connection, numbered in the order of their commits.

Each flow reads on from its own position. A body goes when it is old; its row stays longer, to
recognise the event when it is sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import bulk_insert, key_filters
from hub.store.sequences import next_numbers
from hub.store.tables import flow_state, inbox, sequence

_PREFIX = "inbox:"


class NewEvent(NamedTuple):
    """An event to keep."""

    event_id: str
    received_at: int
    media_type: str
    body: bytes


class StoredEvent(NamedTuple):
    """An event of the inbox; `body` is None when its time is over."""

    event_no: int
    event_id: str
    received_at: int
    media_type: str
    body: bytes | None


def append_events(connection: Connection, connection_id: str, events: Sequence[NewEvent]) -> int:
    """Keep the events whose ids are not known yet; how many those are.

    The sequence's row stays locked from here to the commit: no other process numbers events of
    the connection meanwhile, so nobody ever sees a number before a lower one.
    """
    name = _PREFIX + connection_id
    next_numbers(connection, name, 0)
    first_of = {event.event_id: event for event in reversed(events)}
    known = _known(connection, connection_id, list(first_of))
    new = [first_of[event_id] for event_id in dict.fromkeys(e.event_id for e in events)]
    new = [event for event in new if event.event_id not in known]
    if new:
        number = next_numbers(connection, name, len(new))
        rows = [(connection_id, number + at, *event) for at, event in enumerate(new)]
        bulk_insert(connection, inbox, rows)
    return len(new)


def _known(connection: Connection, connection_id: str, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    mine = inbox.c.connection_id == sa.bindparam("connection")
    for condition, params in key_filters(connection, inbox.c.event_id, ids):
        statement = sa.select(inbox.c.event_id).where(mine, condition)
        found.update(
            connection.execute(statement, {"connection": connection_id, **params}).scalars()
        )
    return found


def events_after(
    connection: Connection, connection_id: str, number: int, limit: int
) -> list[StoredEvent]:
    """The events behind `number`, oldest first."""
    statement = (
        sa.select(
            inbox.c.event_no,
            inbox.c.event_id,
            inbox.c.received_at,
            inbox.c.media_type,
            inbox.c.body,
        )
        .where(inbox.c.connection_id == connection_id, inbox.c.event_no > number)
        .order_by(inbox.c.event_no)
        .limit(limit)
    )
    return [
        StoredEvent(row[0], row[1], row[2], row[3] or "", None if row[4] is None else bytes(row[4]))
        for row in connection.execute(statement)
    ]


def last_event_no(connection: Connection, connection_id: str) -> int:
    """The number of the newest event; 0 when there has never been one."""
    name = _PREFIX + connection_id
    found = connection.execute(sa.select(sequence.c.last_no).where(sequence.c.name == name))
    return int(found.scalar_one_or_none() or 0)


def last_event_nos(connection: Connection) -> dict[str, int]:
    """The number of the newest event of every connection that has received one."""
    found = connection.execute(
        sa.select(sequence.c.name, sequence.c.last_no).where(sequence.c.name.startswith(_PREFIX))
    )
    return {row.name.removeprefix(_PREFIX): row.last_no for row in found}


def last_received(connection: Connection, connection_id: str) -> int | None:
    """When the newest event came, in milliseconds."""
    statement = (
        sa.select(inbox.c.received_at)
        .where(inbox.c.connection_id == connection_id)
        .order_by(inbox.c.event_no.desc())
        .limit(1)
    )
    found: int | None = connection.execute(statement).scalar_one_or_none()
    return found


def position_of(connection: Connection, flow_id: str) -> int:
    """The last event the flow has read; 0 before its first."""
    statement = sa.select(flow_state.c.inbox_no).where(flow_state.c.flow_id == flow_id)
    return int(connection.execute(statement).scalar_one_or_none() or 0)


def positions(connection: Connection) -> dict[str, int]:
    """The position of every flow that has one."""
    statement = sa.select(flow_state.c.flow_id, flow_state.c.inbox_no).where(
        flow_state.c.inbox_no.is_not(None)
    )
    return {row.flow_id: row.inbox_no for row in connection.execute(statement)}


def forget_bodies(connection: Connection, before_ms: int, limit: int) -> int:
    """Delete the bodies of at most `limit` events received before; how many those were."""
    old = (
        sa.select(inbox.c.connection_id, inbox.c.event_no)
        .where(inbox.c.received_at < before_ms, inbox.c.body.is_not(None))
        .limit(limit)
    )
    return _each(connection, old, inbox.update().values(body=None))


def forget_events(connection: Connection, before_ms: int, limit: int) -> int:
    """Delete at most `limit` events received before; their ids are new again."""
    old = (
        sa.select(inbox.c.connection_id, inbox.c.event_no)
        .where(inbox.c.received_at < before_ms)
        .limit(limit)
    )
    return _each(connection, old, inbox.delete())


def _each(
    connection: Connection, old: sa.Select[tuple[str, int]], change: sa.Update | sa.Delete
) -> int:
    keys = [{"b_connection": row[0], "b_no": row[1]} for row in connection.execute(old)]
    if keys:
        one = change.where(
            inbox.c.connection_id == sa.bindparam("b_connection"),
            inbox.c.event_no == sa.bindparam("b_no"),
        )
        connection.execute(one, keys)
    return len(keys)
