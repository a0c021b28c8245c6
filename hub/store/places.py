"""Places for concurrent calls to an account, leased to one process at a time.

Times are milliseconds of the database's clock. A lease that is not renewed runs out.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.tables import place

_FORGET_WAITERS_MS = 60_000


def lease_place(
    connection: Connection, account: str, places: int, holder: str, now_ms: int, until_ms: int
) -> int | None:
    """The number of a free place that is `holder`'s from now on, None when all are taken."""
    statement = sa.select(place.c.place_no, place.c.held_until).where(
        place.c.account == account, place.c.place_no >= 0
    )
    known = {row.place_no: row.held_until for row in connection.execute(statement)}
    for number in range(places):
        held_until = known.get(number)
        if held_until is None:
            if _added(connection, account, number, holder, until_ms):
                return number
        elif held_until <= now_ms:
            mine = place.update().where(
                place.c.account == account,
                place.c.place_no == number,
                place.c.held_until <= now_ms,
            )
            taken = connection.execute(mine.values(holder=holder, held_until=until_ms))
            if taken.rowcount == 1:
                return number
    return None


def renew_places(
    connection: Connection,
    account: str,
    numbers: Sequence[int],
    holder: str,
    now_ms: int,
    until_ms: int,
) -> set[int]:
    """Prolong the leases of `holder` that have not run out; the numbers it still has."""
    kept = set()
    for number in numbers:
        mine = place.update().where(
            place.c.account == account,
            place.c.place_no == number,
            place.c.holder == holder,
            place.c.held_until > now_ms,
        )
        if connection.execute(mine.values(held_until=until_ms)).rowcount == 1:
            kept.add(number)
    return kept


def return_place(connection: Connection, account: str, number: int, holder: str) -> None:
    """The place is free for anybody."""
    mine = place.update().where(
        place.c.account == account, place.c.place_no == number, place.c.holder == holder
    )
    connection.execute(mine.values(holder=None, held_until=0))


def say_waiting(
    connection: Connection, account: str, number: int, holder: str, now_ms: int, until_ms: int
) -> None:
    """Ask those who have places for one; `number` is below zero and the process's own."""
    mine = sa.and_(place.c.account == account, place.c.place_no == number)
    values = {"holder": holder, "held_until": until_ms}
    if connection.execute(place.update().where(mine).values(values)).rowcount == 0:
        _added(connection, account, number, holder, until_ms)
    old = sa.and_(place.c.place_no < 0, place.c.held_until < now_ms - _FORGET_WAITERS_MS)
    connection.execute(place.delete().where(place.c.account == account, old))


def others_wait(connection: Connection, account: str, holder: str, now_ms: int) -> bool:
    """Whether another process waits for a place of the account."""
    statement = sa.select(place.c.place_no).where(
        place.c.account == account,
        place.c.place_no < 0,
        place.c.held_until > now_ms,
        place.c.holder != holder,
    )
    return connection.execute(statement.limit(1)).first() is not None


def _added(connection: Connection, account: str, number: int, holder: str, until_ms: int) -> bool:
    values = {"account": account, "place_no": number, "holder": holder, "held_until": until_ms}
    try:
        with connection.begin_nested():
            connection.execute(place.insert().values(values))
    except sa.exc.IntegrityError:
        return False
    return True
