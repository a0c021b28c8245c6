"""The inbox of telemetry: raw messages per part, numbered without gaps in the order of commits.

A part is worked on by one projector at a time, which reads on from its own position. Messages go
once they are projected and old enough; keys stay longer, to recognise what is sent again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import insert_at_once, key_filters, pg_arrays
from hub.store.tables.telemetry import telemetry_message, telemetry_part, telemetry_seen

Placed = tuple[int, bool]
"""The number of a message in its part, and whether it was kept before under the same key."""


class NewMessage(NamedTuple):
    """A message to keep; `key` recognises it when it is sent again ("" for none).

    Messages of one source and key must be of one part: that is what two processes wait for.
    """

    part: int
    received_at: int
    source: str
    sender: str
    gateway: int
    format: str
    details: str
    counted: int
    body: bytes
    key: str = ""


class StoredMessage(NamedTuple):
    """A message of the inbox, in the order of the table's columns."""

    part: int
    seq: int
    received_at: int
    source: str
    sender: str
    gateway: int
    format: str
    details: str
    counted: int
    body: bytes


def append(connection: Connection, messages: Sequence[NewMessage]) -> list[Placed]:
    """Keep messages in their order, known keys left out; where each one is.

    The rows of their parts stay locked to the commit: no other process numbers messages of these
    parts meanwhile, so nobody ever sees a number before a lower one. Without keys this is a single
    statement on PostgreSQL, which may be a transaction of its own.
    """
    if not any(message.key for message in messages):
        return [(seq, False) for seq in _insert(connection, messages)]
    wanted = _per_part(messages)
    _take(connection, dict.fromkeys(wanted, 0))  # the lock, before anything is looked up
    known = _known(connection, messages)
    first: dict[tuple[str, str], NewMessage] = {}
    for message in messages:
        if message.key and (message.source, message.key) not in known:
            first.setdefault((message.source, message.key), message)
    new = [m for m in messages if not m.key or first.get((m.source, m.key)) is m]
    numbers = iter(_insert(connection, new))
    placed: list[Placed] = []
    for message in messages:
        name = message.source, message.key
        if message.key and first.get(name) is not message:
            placed.append((known[name], True))
            continue
        placed.append((next(numbers), False))
        if message.key:
            known[name] = placed[-1][0]
    _remember(connection, [(m, known[name]) for name, m in first.items()])
    return placed


def read_after(
    connection: Connection, part: int, seq: int, most_bytes: int, most_rows: int
) -> list[StoredMessage]:
    """The next messages of a part behind `seq`; at least one, however large, when there is one."""
    behind = (telemetry_message.c.part == part, telemetry_message.c.seq > seq)
    sizes = (
        sa.select(telemetry_message.c.seq, sa.func.length(telemetry_message.c.body))
        .where(*behind)
        .order_by(telemetry_message.c.seq)
        .limit(most_rows)
    )
    end, total = seq, 0
    for number, size in connection.execute(sizes):
        total += size
        if total > most_bytes and end > seq:
            break
        end = number
    if end == seq:
        return []
    page = sa.select(telemetry_message).where(*behind, telemetry_message.c.seq <= end)
    rows = connection.execute(page.order_by(telemetry_message.c.seq))
    return [StoredMessage(*row) for row in rows]


def last_seq(connection: Connection, part: int) -> int:
    """The number of the part's newest message; 0 when there has never been one."""
    return last_seqs(connection).get(part, 0)


def last_seqs(connection: Connection) -> dict[int, int]:
    """The number of the newest message of every part that has received one."""
    found = connection.execute(sa.select(telemetry_part.c.part, telemetry_part.c.last_seq))
    return {row[0]: row[1] for row in found}


def number_on(connection: Connection, reached: Mapping[int, int]) -> list[int]:
    """Let the numbers of each part go on behind `reached`, the last one that was projected; the
    parts that were behind it.

    An inbox that is new, or older than the readings, would give numbers that count as projected:
    such messages would be deleted unread.
    """
    last = last_seqs(connection)
    behind = sorted(part for part, seq in reached.items() if seq > last.get(part, 0))
    if behind:
        last = _take(connection, dict.fromkeys(behind, 0))  # the lock: others may do the same
        _take(connection, {part: max(0, reached[part] - last[part]) for part in behind})
    return behind


def trim(connection: Connection, part: int, up_to_seq: int, older_than_ms: int, most: int) -> int:
    """Delete the oldest messages of a part that were projected (number ≤ `up_to_seq`) and received
    before `older_than_ms`; at most `most` at a time. How many they were."""
    oldest = (
        sa.select(telemetry_message.c.seq, telemetry_message.c.received_at)
        .where(telemetry_message.c.part == part, telemetry_message.c.seq <= up_to_seq)
        .order_by(telemetry_message.c.seq)
        .limit(most)
    )
    end = None
    for seq, received_at in connection.execute(oldest):
        if received_at >= older_than_ms:
            break
        end = seq
    if end is None:
        return 0
    gone = telemetry_message.delete().where(
        telemetry_message.c.part == part, telemetry_message.c.seq <= end
    )
    return connection.execute(gone).rowcount


def trim_seen(connection: Connection, older_than_ms: int, most: int) -> int:
    """Forget the oldest keys seen before `older_than_ms`, about `most` at a time; how many."""
    seen_at = telemetry_seen.c.seen_at
    oldest = sa.select(seen_at).where(seen_at < older_than_ms).order_by(seen_at).limit(most)
    end = connection.execute(sa.select(sa.func.max(oldest.subquery().c.seen_at))).scalar_one()
    if end is None:
        return 0
    return connection.execute(telemetry_seen.delete().where(seen_at <= end)).rowcount


# --- numbers and rows -------------------------------------------------------------------------

_ROW = [column for column in telemetry_message.columns if column.name not in ("part", "seq")]
_PLACE = sa.Column("place", sa.BigInteger())
_NAMES = ", ".join(column.name for column in _ROW)

_TAKE = f"""
INSERT INTO {telemetry_part.name} AS known (part, last_seq) {{rows}}
ON CONFLICT (part) DO UPDATE SET last_seq = known.last_seq + excluded.last_seq
RETURNING part, last_seq
"""

# In the order of the parts: two processes never wait for each other.
_PG_ROWS = "SELECT * FROM unnest(%(parts)s::smallint[], %(taken)s::bigint[]) ORDER BY 1"
_SQLITE_ROWS = "VALUES (?, ?)"

_PG_APPEND = f"""
WITH last AS ({_TAKE.format(rows=_PG_ROWS)}),
     before AS (SELECT part, last_seq - taken AS seq FROM last
                JOIN unnest(%(parts)s::smallint[], %(taken)s::bigint[]) AS t(part, taken)
                USING (part)),
     kept AS (INSERT INTO {telemetry_message.name} (part, seq, {_NAMES})
              SELECT part, before.seq + new.place, {_NAMES}
              FROM before JOIN unnest({{arrays}}) AS new(part, place, {_NAMES}) USING (part))
SELECT part, seq FROM before
"""  # noqa: S608 (names of our own tables)


def _insert(connection: Connection, messages: Sequence[NewMessage]) -> list[int]:
    """Insert messages; the number of each."""
    if not messages:
        return []
    taken = _per_part(messages)
    if connection.dialect.name == "postgresql":
        return _numbers(messages, _insert_in_one(connection, messages, taken))
    last = _take(connection, taken)
    numbers = _numbers(messages, {part: last[part] - taken[part] for part in taken})
    rows = [(one[0], seq, *one[1:9]) for one, seq in zip(messages, numbers, strict=True)]
    insert_at_once(connection, telemetry_message, rows)
    return numbers


def _insert_in_one(
    connection: Connection, messages: Sequence[NewMessage], taken: Mapping[int, int]
) -> dict[int, int]:
    """By one statement: every further one is a way to the server and back."""
    places = _numbers(messages, dict.fromkeys(taken, 0))
    columns = [telemetry_message.c.part, _PLACE, *_ROW]
    rows = [(one[0], place, *one[1:9]) for one, place in zip(messages, places, strict=True)]
    arrays, bound = pg_arrays(columns, rows)
    params = {**bound, "parts": list(taken), "taken": list(taken.values())}
    found = connection.exec_driver_sql(_PG_APPEND.format(arrays=arrays), params)
    return {row[0]: row[1] for row in found}


def _take(connection: Connection, taken: Mapping[int, int]) -> dict[int, int]:
    """Take so many numbers of each part; the last one of each. Locked to the commit."""
    if connection.dialect.name == "postgresql":
        params = {"parts": list(taken), "taken": list(taken.values())}
        found = connection.exec_driver_sql(_TAKE.format(rows=_PG_ROWS), params)
        return {row[0]: row[1] for row in found}
    statement = _TAKE.format(rows=_SQLITE_ROWS)
    return {
        part: connection.exec_driver_sql(statement, (part, number)).all()[0][1]
        for part, number in sorted(taken.items())
    }


def _numbers(messages: Sequence[NewMessage], before: Mapping[int, int]) -> list[int]:
    """Numbers in the order of the messages, each part counted on from `before`."""
    if len(before) == 1:
        start = next(iter(before.values())) + 1
        return list(range(start, start + len(messages)))
    last = dict(before)
    numbers = []
    for message in messages:
        last[message.part] += 1
        numbers.append(last[message.part])
    return numbers


def _per_part(messages: Sequence[NewMessage]) -> dict[int, int]:
    return dict(Counter(message.part for message in messages))


# --- keys -------------------------------------------------------------------------------------


def _known(connection: Connection, messages: Sequence[NewMessage]) -> dict[tuple[str, str], int]:
    """The number under which each key was kept before."""
    keys: dict[str, list[str]] = {}
    for message in messages:
        if message.key:
            keys.setdefault(message.source, []).append(message.key)
    found: dict[tuple[str, str], int] = {}
    for source, wanted in keys.items():
        for condition, params in key_filters(connection, telemetry_seen.c.message_key, wanted):
            statement = sa.select(telemetry_seen.c.message_key, telemetry_seen.c.seq).where(
                telemetry_seen.c.source == sa.bindparam("source"), condition
            )
            rows = connection.execute(statement, {"source": source, **params})
            found.update({(source, row[0]): row[1] for row in rows})
    return found


def _remember(connection: Connection, kept: Sequence[tuple[NewMessage, int]]) -> None:
    rows = [(m.source, m.key, m.received_at, m.part, seq) for m, seq in kept]
    if rows:
        insert_at_once(connection, telemetry_seen, rows)
