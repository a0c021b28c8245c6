"""Gapless numbers: the row stays locked until commit, so a lower number is never seen later."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.tables import sequence


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


def _create(connection: Connection, name: str) -> None:
    try:
        with connection.begin_nested():
            connection.execute(sequence.insert().values(name=name, last_no=0))
    except sa.exc.IntegrityError:
        return  # another process created it first
