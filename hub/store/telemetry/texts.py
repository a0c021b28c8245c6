"""Texts that devices send: kept apart from numbers, never added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import plain_text
from hub.store.tables.telemetry import text_reading

NEW, DUPLICATE, RESTATED = 0, 1, 2
_AT_ONCE = 200


class TextRow(NamedTuple):
    """A text of a series; `ts` is UTC milliseconds."""

    series_id: int
    ts: int
    text: str


_UPSERT = sa.text(
    "INSERT INTO hub_text_reading (series_id, ts, text) VALUES (:series_id, :ts, :text)"
    " ON CONFLICT (series_id, ts) DO UPDATE SET text = excluded.text"
)


def write_texts(connection: Connection, rows: Sequence[TextRow]) -> list[int]:
    """Keep texts in the order of receipt, of one series and time the last.

    Returns per row 0 (new), 1 (a duplicate) or 2 (restated).
    """
    kept = _kept(connection, {(row.series_id, row.ts) for row in rows})
    verdicts, changed = [], {}
    for given in rows:
        row = given._replace(text=plain_text(given.text))
        key = row.series_id, row.ts
        before = kept.get(key)
        verdicts.append(NEW if before is None else DUPLICATE if before == row.text else RESTATED)
        kept[key] = row.text
        if before != row.text:
            changed[key] = row
    if changed:
        # In the order of their keys, so that two writers never wait for each other in a ring.
        connection.execute(_UPSERT, [changed[key]._asdict() for key in sorted(changed)])
    return verdicts


def _kept(connection: Connection, keys: set[tuple[int, int]]) -> dict[tuple[int, int], str]:
    columns = text_reading.c.series_id, text_reading.c.ts
    query = sa.select(*columns, text_reading.c.text)
    wanted, found = sorted(keys), {}
    for at in range(0, len(wanted), _AT_ONCE):
        part = query.where(sa.tuple_(*columns).in_(wanted[at : at + _AT_ONCE]))
        found.update({(one, ts): text for one, ts, text in connection.execute(part)})
    return found


def read_texts(
    connection: Connection, series_id: int, since_ms: int, until_ms: int, most: int
) -> list[tuple[int, str]]:
    """At most so many (time, text) of a series, since ≤ time < until, in order of time."""
    query = sa.select(text_reading.c.ts, text_reading.c.text).where(
        text_reading.c.series_id == series_id,
        text_reading.c.ts >= since_ms,
        text_reading.c.ts < until_ms,
    )
    return [(ts, text) for ts, text in connection.execute(query.order_by("ts").limit(most))]
