"""Looking at dead letters: one, a page of them, how many for which reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.dead_letters import LetterState
from hub.store.tables import dead_letter, replay

MOST_LOOKED_AT = 20_000
"""Letters one page looks at: with a filter that hardly any letter passes, it ends early and says
where to go on. So a page of a million letters takes no longer than one of a thousand."""

_SHORTEST_ID = 6

Row = dict[str, Any]


class Place(NamedTuple):
    """Where a letter stands in the list: newest opened first, then by id."""

    opened_at: int
    id: str

    def __str__(self) -> str:
        return f"{self.opened_at}-{self.id}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """The place written as `text`; None when it is no place."""
        moment, _, letter = text.partition("-")
        if not letter or not moment.isascii() or not moment.isdecimal() or len(moment) > 18:
            return None
        return cls(int(moment), letter)


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters; None leaves a question open. `flows` are those of a connection."""

    flow: str | None = None
    flows: tuple[str, ...] | None = None
    connection: str | None = None
    sink: str | None = None
    kind: str | None = None
    state: str | None = None
    field: str | None = None
    code: str | None = None
    vendor_code: str | None = None
    text: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def narrow(self) -> bool:
        """Whether it asks for more than flow, state and time."""
        asked = (self.connection, self.sink, self.kind, self.field, self.code)
        return any(one is not None for one in (*asked, self.vendor_code, self.text))

    @property
    def states(self) -> tuple[str, ...]:
        return tuple(LetterState) if self.state is None else (self.state,)

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Everything but the state."""
        letter = dead_letter.c
        equal = (
            (letter.flow_id, self.flow),
            (letter.sink_ref, self.sink),
            (letter.kind, self.kind),
            (letter.field_name, self.field),
            (letter.error_code, self.code),
            (letter.vendor_code, self.vendor_code),
        )
        found = [column == wanted for column, wanted in equal if wanted is not None]
        if self.connection is not None:
            sinks = letter.sink_ref.startswith(f"{self.connection}/", autoescape=True)
            found.append(sa.or_(letter.flow_id.in_(self.flows or ()), sinks))
        if self.text is not None:
            part = self.text.lower()
            keys = (letter.source_key, letter.target_key)
            found.append(
                sa.or_(*(sa.func.lower(key).contains(part, autoescape=True) for key in keys))
            )
        if self.since_ms is not None:
            found.append(letter.opened_at >= self.since_ms)
        if self.until_ms is not None:
            found.append(letter.opened_at < self.until_ms)
        return found


class Page(NamedTuple):
    """Some letters, and where to go on; `after` is None at the end."""

    letters: list[Row]
    after: Place | None


def list_letters(
    connection: Connection, wanted: LetterFilter, limit: int, after: Place | None = None
) -> Page:
    """The newest letters, newest first."""
    end = _end_of_look(connection, wanted, after) if wanted.narrow else None
    found: list[Row] = []
    for state in wanted.states:
        statement = sa.select(dead_letter).where(*_in_state(wanted, state, after))
        if end is not None:
            statement = statement.where(_not_behind(end))
        found += map(dict, connection.execute(_newest_first(statement).limit(limit + 1)).mappings())
    found.sort(key=lambda row: (row["opened_at"], row["id"]), reverse=True)
    if len(found) > limit:
        last = found[limit - 1]
        return Page(found[:limit], Place(last["opened_at"], last["id"]))
    return Page(found, end)


def load_letter(connection: Connection, letter_id: str, *, lock: bool = False) -> Row | None:
    """The letter with this id, or whose id alone begins with it."""
    if len(letter_id) < _SHORTEST_ID or not letter_id.isalnum():
        return None
    # A range and not LIKE: every database finds it in the index. Ids are hexadecimal.
    begins = sa.and_(dead_letter.c.id >= letter_id, dead_letter.c.id < letter_id + "g")
    statement = sa.select(dead_letter).where(begins).limit(2)
    rows = connection.execute(statement).mappings().all()
    if len(rows) != 1 or not lock:
        return dict(rows[0]) if len(rows) == 1 else None
    this = sa.select(dead_letter).where(dead_letter.c.id == rows[0]["id"]).with_for_update()
    return dict(connection.execute(this).mappings().one())


def count_letters(connection: Connection, wanted: LetterFilter) -> int:
    """How many letters the filter names."""
    states = dead_letter.c.state.in_(wanted.states)
    statement = sa.select(sa.func.count()).select_from(dead_letter)
    return int(connection.execute(statement.where(states, *wanted.conditions())).scalar_one())


REASON = ("flow_id", "kind", "error_code", "field_name", "vendor_code")


def count_reasons(connection: Connection, wanted: LetterFilter) -> list[Row]:
    """How many letters for which reason, most first."""
    columns = [dead_letter.c[name] for name in REASON]
    number = sa.func.count().label("letters")
    statement = (
        sa.select(*columns, number)
        .where(dead_letter.c.state.in_(wanted.states), *wanted.conditions())
        .group_by(*columns)
        .order_by(number.desc(), *columns[:3])
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


class Chunk(NamedTuple):
    """The places of the next letters, oldest first, and those of them that still fit, locked."""

    places: list[Place]
    rows: list[Row]


def oldest_letters(
    connection: Connection, wanted: LetterFilter, after: Place | None, limit: int
) -> Chunk:
    """The next letters behind `after`; `wanted` names one state."""
    (state,) = wanted.states
    places = sa.select(dead_letter.c.opened_at, dead_letter.c.id)
    statement = places.where(dead_letter.c.state == state, *wanted.conditions())
    if after is not None:
        statement = statement.where(_behind(after, newest_first=False))
    ordered = statement.order_by(dead_letter.c.opened_at, dead_letter.c.id).limit(limit)
    found = [Place(*row) for row in connection.execute(ordered)]
    return Chunk(found, lock_letters(connection, [place.id for place in found], (state,)))


def lock_letters(connection: Connection, ids: Sequence[str], states: Sequence[str]) -> list[Row]:
    """Those of the letters that are in one of `states`, locked until commit.

    In the order of ids, as everybody who locks letters does.
    """
    statement = (
        sa.select(dead_letter)
        .where(dead_letter.c.id.in_(ids), dead_letter.c.state.in_(states))
        .order_by(dead_letter.c.id)
        .with_for_update()
    )
    return [dict(row) for row in connection.execute(statement).mappings()] if ids else []


def letters_on_their_way(connection: Connection, before_ms: int, limit: int) -> list[Row]:
    """Letters that are replaying since before `before_ms`, and whether their replay runs."""
    runs = sa.exists().where(replay.c.id == dead_letter.c.replay_id, replay.c.state == "running")
    names = ("id", "sink_ref", "target_key")
    columns = [dead_letter.c[name] for name in names]
    statement = (
        sa.select(*columns, sa.case((runs, 1), else_=0).label("replay_running"))
        .where(dead_letter.c.state == LetterState.REPLAYING.value)
        .where(dead_letter.c.updated_at < before_ms)
        .order_by(dead_letter.c.opened_at)
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


def states_of_replay(connection: Connection, replay_id: str) -> dict[str, int]:
    """Where the letters of a replay stand now."""
    statement = (
        sa.select(dead_letter.c.state, sa.func.count())
        .where(dead_letter.c.replay_id == replay_id)
        .group_by(dead_letter.c.state)
    )
    return dict(connection.execute(statement).tuples().all())


def _in_state(
    wanted: LetterFilter, state: str, after: Place | None
) -> list[sa.ColumnElement[bool]]:
    found = [dead_letter.c.state == state, *wanted.conditions()]
    return [*found, _behind(after)] if after is not None else found


def _end_of_look(connection: Connection, wanted: LetterFilter, after: Place | None) -> Place | None:
    """Where a page stops looking; None when it may look at everything that is left."""
    broad = LetterFilter(flow=wanted.flow, since_ms=wanted.since_ms, until_ms=wanted.until_ms)
    ends: list[Place] = []
    for state in wanted.states:
        places = sa.select(dead_letter.c.opened_at, dead_letter.c.id)
        statement = _newest_first(places.where(*_in_state(broad, state, after)))
        last = statement.offset(MOST_LOOKED_AT - 1).limit(1)
        ends += [Place(*row) for row in connection.execute(last)]
    return max(ends, default=None)


def _newest_first(statement: sa.Select[Any]) -> sa.Select[Any]:
    return statement.order_by(dead_letter.c.opened_at.desc(), dead_letter.c.id.desc())


def _behind(place: Place, *, newest_first: bool = True) -> sa.ColumnElement[bool]:
    """Behind `place` in the order of the list; the first half lets an index find it."""
    moment, this = dead_letter.c.opened_at, dead_letter.c.id
    if newest_first:
        same = sa.and_(moment == place.opened_at, this < place.id)
        return sa.and_(moment <= place.opened_at, sa.or_(moment < place.opened_at, same))
    same = sa.and_(moment == place.opened_at, this > place.id)
    return sa.and_(moment >= place.opened_at, sa.or_(moment > place.opened_at, same))


def _not_behind(place: Place) -> sa.ColumnElement[bool]:
    moment, this = dead_letter.c.opened_at, dead_letter.c.id
    same = sa.and_(moment == place.opened_at, this >= place.id)
    return sa.and_(moment >= place.opened_at, sa.or_(moment > place.opened_at, same))
