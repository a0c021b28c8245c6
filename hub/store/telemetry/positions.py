"""How far each reader is, and who works on a part until when (by the database's clock).

Names: `part:N` of the projector (of the bus from 256 on), one per consumer of `change` (`rollup`,
…), and the hub's own counters `change` and `registry`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.database import database_time
from hub.store.tables.telemetry import position as table

REGISTRY = "registry"
STREAM = "stream"
"""When the stream of the bus was made that the positions of its parts belong to (UTC ms)."""
_PROCESS = "projector:"


class Held(NamedTuple):
    """A part that its owner works on, and the last message that is projected."""

    part: int
    seq: int


def position(connection: Connection, name: str) -> int:
    """How far `name` is; 0 before its first step."""
    found = connection.execute(sa.select(table.c.seq).where(table.c.name == name))
    return int(found.scalar_one_or_none() or 0)


def positions(connection: Connection) -> dict[str, int]:
    """How far everyone is."""
    found = connection.execute(sa.select(table.c.name, table.c.seq))
    return {row.name: row.seq for row in found if not row.name.startswith(_PROCESS)}


def part_positions(connection: Connection, below: int) -> dict[int, int]:
    """How far the projector is, by part, of the parts numbered below."""
    reached = positions(connection)
    known = {part: reached.get(part_name(part)) for part in range(below)}
    return {part: seq for part, seq in known.items() if seq is not None}


def advance(connection: Connection, name: str, seq: int, now: int) -> None:
    """`name` is at `seq` (from the commit on)."""
    moved = table.update().where(table.c.name == name).values(seq=seq, moved_at=now)
    if connection.execute(moved).rowcount == 0:
        _make(connection, [name])
        connection.execute(moved)


def advance_held(
    connection: Connection, part: int, owner: str, expected: int, seq: int, now: int
) -> bool:
    """Move a part on; False when `owner` does not hold it any more, or it is not at `expected`."""
    mine = (table.c.name == part_name(part), table.c.owner == owner, table.c.seq == expected)
    moved = table.update().where(*mine).values(seq=seq, moved_at=now)
    return connection.execute(moved).rowcount == 1


def next_number(connection: Connection, name: str) -> int:
    """Count `name` up and return it. Its row stays locked to the commit: gapless, in order."""
    raised = table.update().where(table.c.name == name).values(seq=table.c.seq + 1)
    if connection.execute(raised).rowcount == 0:
        _make(connection, [name])
        connection.execute(raised)
    return position(connection, name)


def touch_registry(connection: Connection) -> None:
    """An operator changed devices, series or their states: whoever remembers them reads anew.

    To be called in the transaction of the change.
    """
    next_number(connection, REGISTRY)


def part_name(part: int) -> str:
    """The name of a part's position."""
    return f"part:{part}"


def rewind(connection: Connection, first: int, stream: int, last: int) -> bool:
    """Make the positions of the parts from `first` on fit the stream that was made at `stream` and
    ends with `last`: back to 0 for another stream than before, and never beyond its end. Whether
    one has moved."""
    known = position(connection, STREAM)
    if known != stream:
        advance(connection, STREAM, stream, stream)
    names = [part_name(part) for part in range(first, 2 * first)]
    end = last if known in (0, stream) else 0
    beyond = (table.c.name.in_(names), table.c.seq > end)
    return connection.execute(table.update().where(*beyond).values(seq=end)).rowcount > 0


# --- who works on what ------------------------------------------------------------------------


def take_lease(connection: Connection, name: str, owner: str, seconds: float) -> bool:
    """Hold `name` for so long, anew or still; False while somebody else holds it."""
    now = int(database_time(connection) * 1000)
    _make(connection, [name])
    free = sa.or_(table.c.owner.in_(["", owner]), table.c.owned_until < now)
    taken = table.update().where(table.c.name == name, free)
    until = now + int(seconds * 1000)
    return connection.execute(taken.values(owner=owner, owned_until=until)).rowcount == 1


def release(connection: Connection, names: Sequence[str], owner: str) -> None:
    """Let go of what `owner` holds of `names`."""
    mine = (table.c.name.in_(names), table.c.owner == owner)
    connection.execute(table.update().where(*mine).values(owner="", owned_until=0))


def renew_parts(
    connection: Connection, owner: str, parts: Sequence[int], seconds: float, *, after: str = ""
) -> list[Held]:
    """Show that `owner` lives, renew its parts, and even them out over the living processes.

    `parts` are all there are, in the order in which they are dealt out. Parts beyond its share are
    let go, free and abandoned ones taken. What it holds now.
    """
    now = int(database_time(connection) * 1000)
    until = now + int(seconds * 1000)
    living = _show(connection, owner, now, until, after)
    _make(connection, [part_name(part) for part in parts])
    share = -(-len(parts) // living)
    rows = _part_rows(connection, parts)
    mine = [row for row in rows if row.owner == owner]
    if len(mine) > share:
        release(connection, [row.name for row in mine[share:]], owner)
    kept = {row.name for row in mine[:share]}
    free = [row.name for row in rows if row.owner in {"", after} or row.owned_until < now]
    chosen = [*kept, *[name for name in free if name not in kept]][:share]
    return _hold(connection, owner, chosen, now, until, after)


def evict(connection: Connection) -> None:
    """Free every part: the caller knows that no other projector lives."""
    connection.execute(table.delete().where(table.c.name.startswith(_PROCESS, autoescape=True)))
    held = table.update().where(table.c.name.startswith("part:"))
    connection.execute(held.values(owner="", owned_until=0))


def leave(connection: Connection, owner: str) -> None:
    """The process ends in order: others take its parts at once."""
    connection.execute(table.delete().where(table.c.name == _PROCESS + owner))
    connection.execute(table.update().where(table.c.owner == owner).values(owner="", owned_until=0))


def _show(connection: Connection, owner: str, now: int, until: int, after: str) -> int:
    """Write our sign of life and forget the dead; how many processes live."""
    _make(connection, [_PROCESS + owner])
    fresh = table.update().where(table.c.name == _PROCESS + owner)
    connection.execute(fresh.values(owner=owner, owned_until=until, moved_at=now))
    signs = table.c.name.startswith(_PROCESS, autoescape=True)
    found = connection.execute(sa.select(table.c.name, table.c.owned_until).where(signs)).all()
    dead = [row.name for row in found if row.owned_until < now or row.name == _PROCESS + after]
    if dead:
        gone = (table.c.name.in_(dead), sa.or_(table.c.owned_until < now, table.c.owner == after))
        connection.execute(table.delete().where(*gone))
    return len(found) - len(dead)


def _part_rows(connection: Connection, parts: Sequence[int]) -> list[sa.Row[tuple[str, str, int]]]:
    order = {part_name(part): place for place, part in enumerate(parts)}
    columns = (table.c.name, table.c.owner, table.c.owned_until)
    found = connection.execute(sa.select(*columns).where(table.c.name.in_(list(order))))
    return sorted(found.all(), key=lambda row: order[row.name])


def _hold(
    connection: Connection, owner: str, names: Sequence[str], now: int, until: int, after: str
) -> list[Held]:
    free = sa.or_(table.c.owner.in_(["", owner, after]), table.c.owned_until < now)
    taken = table.update().where(table.c.name.in_(names), free)
    connection.execute(taken.values(owner=owner, owned_until=until))
    held = sa.select(table.c.name, table.c.seq).where(
        table.c.name.startswith("part:"), table.c.owner == owner
    )
    rows = connection.execute(held).all()
    return sorted(Held(int(row.name.removeprefix("part:")), row.seq) for row in rows)


def _make(connection: Connection, names: Iterable[str]) -> None:
    """Rows that are missing, whoever else makes them at this moment."""
    known = set(connection.execute(sa.select(table.c.name)).scalars())
    missing = sorted(set(names) - known)
    ending = "ON CONFLICT DO NOTHING"
    statement = f"INSERT INTO {table.name} (name, seq, moved_at) VALUES (:name, 0, 0) {ending}"  # noqa: S608 (our own table)
    if missing:
        connection.execute(sa.text(statement), [{"name": name} for name in missing])
