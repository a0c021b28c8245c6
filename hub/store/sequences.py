"""Gapless numbers: the row stays locked until commit, so a lower number is never seen later."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.tables import sequence

_TAKE = (
    sequence.update()
    .where(sequence.c.name == sa.bindparam("sequence_name"))
    .values(last_no=sequence.c.last_no + sa.bindparam("taken"))
    .returning(sequence.c.last_no)
)


def next_numbers(connection: Connection, name: str, count: int) -> int:
    """Reserve `count` numbers of the sequence and return the first."""
    raise_it = (
        sequence.update().where(sequence.c.name == name).values(last_no=sequence.c.last_no + count)
    )
    if connection.execute(raise_it).rowcount == 0:
        _create(connection, name)
        connection.execute(raise_it)
    last = connection.execute(sa.select(sequence.c.last_no).where(sequence.c.name == name))
    return int(last.scalar_one()) - count + 1


def last_number(connection: Connection, name: str) -> int:
    """The last committed number of the sequence; 0 before the first."""
    found = connection.execute(sa.select(sequence.c.last_no).where(sequence.c.name == name))
    return int(found.scalar_one_or_none() or 0)


def lock_last(connection: Connection, name: str) -> int:
    """The last number of the sequence; nobody else gets one before our commit."""
    row = sa.select(sequence.c.last_no).where(sequence.c.name == name).with_for_update()
    last = connection.execute(row).scalar_one_or_none()
    if last is None:
        _create(connection, name)
        last = connection.execute(row).scalar_one()
    return int(last)


def take_numbers(connection: Connection, name: str, count: int) -> int:
    """Take `count` numbers of the sequence and return the last; locked as by `lock_last`.

    One statement where the database can answer an update, else two.
    """
    if not connection.dialect.update_returning:
        return next_numbers(connection, name, count) + count - 1
    raised = connection.execute(_TAKE, {"taken": count, "sequence_name": name})
    last = raised.scalar_one_or_none()
    if last is None:
        return next_numbers(connection, name, count) + count - 1
    return int(last)


def raise_to(connection: Connection, name: str, last: int) -> None:
    """Take the numbers up to `last` of a sequence locked by `lock_last`."""
    connection.execute(sequence.update().where(sequence.c.name == name).values(last_no=last))


def _create(connection: Connection, name: str) -> None:
    try:
        with connection.begin_nested():
            connection.execute(sequence.insert().values(name=name, last_no=0))
    except sa.exc.IntegrityError:
        return  # another process created it first
