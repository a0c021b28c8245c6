"""The inbox: a log of received events per connection, numbered in the order of their commits.

Each flow reads on from its own position. A body goes when it is old; its row stays longer, to
recognise the event when it is sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import insert_at_once, key_filters, pg_arrays
from hub.store.runs import set_flow_state
from hub.store.sequences import lock_last, raise_to, take_numbers
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


class NotNew(Exception):
    """One of the events is known already; nothing of them was kept."""


def append_new(connection: Connection, connection_id: str, events: Sequence[NewEvent]) -> int:
    """Keep events that are new as far as anybody knows; how many they are.

    Raises NotNew, and the transaction is of no more use: `append_events` sorts them out. Both keep
    the sequence's row locked to the commit: no other process numbers events of the connection
    meanwhile, so nobody ever sees a number before a lower one.
    """
    new = _each_once(events)
    try:
        if connection.dialect.name == "postgresql":
            _append_in_one(connection, connection_id, new)
        else:
            last = take_numbers(connection, _PREFIX + connection_id, len(new))
            _insert(connection, connection_id, last - len(new), new)
    except sa.exc.IntegrityError as error:
        raise NotNew from error
    return len(new)


def _append_in_one(connection: Connection, connection_id: str, events: Sequence[NewEvent]) -> None:
    """Numbers and rows by one statement: every further one is a way to the server and back."""
    columns = [inbox.c.event_id, inbox.c.received_at, inbox.c.media_type, inbox.c.body]
    arrays, bound = pg_arrays(columns, events)
    names = ", ".join(column.name for column in columns)
    params = {"taken": len(events), "name": _PREFIX + connection_id, "connection": connection_id}
    statement = _IN_ONE.format(arrays=arrays, names=names)
    if connection.exec_driver_sql(statement, {**bound, **params}).rowcount != len(events):
        raise NotNew  # no sequence yet: these are the connection's first


_IN_ONE = f"""
WITH taken AS (
  UPDATE {sequence.name} SET last_no = last_no + %(taken)s WHERE name = %(name)s
  RETURNING last_no - %(taken)s AS before
)
INSERT INTO {inbox.name} (connection_id, event_no, {{names}})
SELECT %(connection)s, taken.before + event.place, {{names}}
FROM taken, unnest({{arrays}}) WITH ORDINALITY AS event({{names}}, place)
"""  # noqa: S608 (names of our own tables)


def append_events(connection: Connection, connection_id: str, events: Sequence[NewEvent]) -> int:
    """Keep the events whose ids are not known yet; how many those are."""
    name = _PREFIX + connection_id
    last = lock_last(connection, name)
    each = _each_once(events)
    known = _known(connection, connection_id, [event.event_id for event in each])
    new = [event for event in each if event.event_id not in known]
    if new:
        raise_to(connection, name, last + len(new))
        _insert(connection, connection_id, last, new)
    return len(new)


def _each_once(events: Sequence[NewEvent]) -> list[NewEvent]:
    """The first of each id."""
    first: dict[str, NewEvent] = {}
    for event in events:
        first.setdefault(event.event_id, event)
    return list(first.values())


def _insert(
    connection: Connection, connection_id: str, last: int, events: Sequence[NewEvent]
) -> None:
    rows = [(connection_id, last + 1 + at, *event) for at, event in enumerate(events)]
    insert_at_once(connection, inbox, rows)


def _known(connection: Connection, connection_id: str, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    mine = inbox.c.connection_id == sa.bindparam("connection")
    for condition, params in key_filters(connection, inbox.c.event_id, ids):
        statement = sa.select(inbox.c.event_id).where(mine, condition)
        found.update(
            connection.execute(statement, {"connection": connection_id, **params}).scalars()
        )
    return found


def page_end(
    connection: Connection, connection_id: str, after: int, most_events: int, most_bytes: int
) -> tuple[int, bool]:
    """The last event of a page behind `after`, and whether the page is full.

    A page has at least one event, however large, when there is one.
    """
    sizes = (
        sa.select(inbox.c.event_no, sa.func.length(inbox.c.body))
        .where(inbox.c.connection_id == connection_id, inbox.c.event_no > after)
        .order_by(inbox.c.event_no)
        .limit(most_events)
    )
    rows = connection.execute(sizes).all()
    end, total = after, 0
    for number, size in rows:
        total += size or 0
        if total > most_bytes and end > after:
            return end, True
        end = number
    return end, len(rows) == most_events


def events_between(
    connection: Connection, connection_id: str, after: int, upto: int
) -> list[StoredEvent]:
    """The events behind `after` up to and including `upto`, oldest first."""
    statement = _events(connection_id).where(inbox.c.event_no > after, inbox.c.event_no <= upto)
    return [_stored(row) for row in connection.execute(statement.order_by(inbox.c.event_no))]


def load_event(connection: Connection, connection_id: str, number: int) -> StoredEvent | None:
    """The event with this number."""
    row = connection.execute(_events(connection_id).where(inbox.c.event_no == number)).first()
    return None if row is None else _stored(row)


def _events(connection_id: str) -> sa.Select[Any]:
    columns = (inbox.c.event_no, inbox.c.event_id, inbox.c.received_at, inbox.c.media_type)
    return sa.select(*columns, inbox.c.body).where(inbox.c.connection_id == connection_id)


def _stored(row: Any) -> StoredEvent:
    body = None if row[4] is None else bytes(row[4])
    return StoredEvent(row[0], row[1], row[2], row[3] or "", body)


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


def first_kept(connection: Connection, connection_id: str) -> int:
    """The number of the oldest event whose body is kept; behind the newest when there is none."""
    kept = sa.select(sa.func.min(inbox.c.event_no)).where(
        inbox.c.connection_id == connection_id, inbox.c.body.is_not(None)
    )
    found: int | None = connection.execute(kept).scalar_one_or_none()
    return last_event_no(connection, connection_id) + 1 if found is None else found


def position_of(connection: Connection, flow_id: str, connection_id: str) -> int | None:
    """The last event of this inbox the flow has read; None before its first."""
    statement = sa.select(flow_state.c.inbox_no).where(
        flow_state.c.flow_id == flow_id, flow_state.c.inbox_of == connection_id
    )
    found: int | None = connection.execute(statement).scalar_one_or_none()
    return found


def move_position(connection: Connection, flow_id: str, connection_id: str, number: int) -> None:
    """The flow has read this inbox up to `number`. The caller holds `lock_flow`."""
    set_flow_state(connection, flow_id, inbox_of=connection_id, inbox_no=number)


def positions(connection: Connection) -> dict[str, tuple[str, int]]:
    """The inbox of every flow that reads one, and its position there."""
    statement = sa.select(flow_state.c.flow_id, flow_state.c.inbox_of, flow_state.c.inbox_no)
    found = connection.execute(statement.where(flow_state.c.inbox_no.is_not(None)))
    return {row.flow_id: (row.inbox_of, row.inbox_no) for row in found}


def oldest_events(
    connection: Connection, connection_id: str, after: int, upto: int, limit: int
) -> list[tuple[int, int]]:
    """Numbers and times of the oldest events behind `after` up to and including `upto`."""
    statement = (
        sa.select(inbox.c.event_no, inbox.c.received_at)
        .where(*_between(connection_id, after, upto))
        .order_by(inbox.c.event_no)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in connection.execute(statement)]


def forget_bodies(connection: Connection, connection_id: str, after: int, upto: int) -> None:
    """Delete the bodies of these events; their rows stay to recognise them."""
    these = inbox.update().where(*_between(connection_id, after, upto), inbox.c.body.is_not(None))
    connection.execute(these.values(body=None))


def forget_events(connection: Connection, connection_id: str, after: int, upto: int) -> None:
    """Delete these events; their ids are new again."""
    connection.execute(inbox.delete().where(*_between(connection_id, after, upto)))


def _between(connection_id: str, after: int, upto: int) -> tuple[sa.ColumnElement[bool], ...]:
    mine = inbox.c.connection_id == connection_id
    return mine, inbox.c.event_no > after, inbox.c.event_no <= upto
