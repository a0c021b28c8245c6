"""The hub's own business objects: kept by flows that end in an entity, pulled by others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import bulk_insert, decode_json, from_ms, key_filters
from hub.store.sequences import last_number, next_numbers
from hub.store.tables import record

SEQUENCE_PREFIX = "record:"
"""Changes of an entity are numbered by the sequence of this name with the entity behind it."""


class Change(NamedTuple):
    """A new, changed or deleted record; `doc` is its JSON text, None for a deleted one."""

    record_key: str
    doc: str | None
    revision: int
    deleted: int = 0


def put_records(
    connection: Connection, entity: str, changes: Sequence[Change], now_ms: int
) -> None:
    """Write changes and number them in commit order."""
    if not changes:
        return
    # The numbers first: their lock keeps another flow from adding the same new records.
    first = next_numbers(connection, _sequence(entity), len(changes))
    known = existing_keys(connection, entity, [change.record_key for change in changes])
    new: list[tuple[Any, ...]] = []
    old: list[dict[str, Any]] = []
    for number, change in enumerate(changes, first):
        if change.record_key not in known:
            key, doc, revision, deleted = change
            new.append((entity, key, doc, revision, number, deleted, now_ms))
        else:
            old.append(
                {
                    "b_entity": entity,
                    "b_key": change.record_key,
                    "b_doc": change.doc,
                    "b_revision": change.revision,
                    "b_number": number,
                    "b_deleted": change.deleted,
                    "b_now": now_ms,
                }
            )
    bulk_insert(connection, record, new)
    if old:
        connection.execute(_UPDATE, old)


def existing_keys(connection: Connection, entity: str, keys: Sequence[str]) -> set[str]:
    """Which of `keys` the entity already has."""
    found: set[str] = set()
    for condition, params in key_filters(connection, record.c.record_key, keys):
        statement = sa.select(record.c.record_key).where(
            record.c.entity == sa.bindparam("entity"), condition
        )
        found.update(connection.execute(statement, {"entity": entity, **params}).scalars())
    return found


def count_records(connection: Connection, entity: str) -> int:
    """How many live records the entity has."""
    statement = sa.select(sa.func.count()).where(record.c.entity == entity, record.c.deleted == 0)
    return connection.execute(statement).scalar_one()


def entities(connection: Connection) -> dict[str, int]:
    """Every entity that has records, with their number."""
    statement = (
        sa.select(record.c.entity, sa.func.count())
        .where(record.c.deleted == 0)
        .group_by(record.c.entity)
        .order_by(record.c.entity)
    )
    return dict(connection.execute(statement).tuples().all())


def last_change_no(connection: Connection, entity: str) -> int:
    """The number of the entity's newest committed change; 0 before the first.

    Every change with a number up to it is visible to statements that follow.
    """
    return last_number(connection, _sequence(entity))


def records_since(
    connection: Connection, entity: str, since: int, limit: int
) -> list[dict[str, Any]]:
    """Up to `limit` records changed after number `since`, oldest change first."""
    statement = (
        sa.select(record)
        .where(record.c.entity == entity, record.c.change_no > since)
        .order_by(record.c.change_no)
        .limit(limit)
    )
    return [_shown(row) for row in connection.execute(statement)]


def load_record(connection: Connection, entity: str, key: str) -> dict[str, Any] | None:
    """One record, also a deleted one; None when there has never been one of this key."""
    statement = sa.select(record).where(record.c.entity == entity, record.c.record_key == key)
    row = connection.execute(statement).first()
    return None if row is None else _shown(row)


def _shown(row: Any) -> dict[str, Any]:
    return {
        "key": row.record_key,
        "revision": row.revision,
        "change_no": row.change_no,
        "changed_at": from_ms(row.changed_at),
        "deleted": bool(row.deleted),
        "data": decode_json(row.doc_text) if row.doc_text else None,
    }


def _sequence(entity: str) -> str:
    return SEQUENCE_PREFIX + entity


_UPDATE = (
    record.update()
    .where(
        record.c.entity == sa.bindparam("b_entity"), record.c.record_key == sa.bindparam("b_key")
    )
    .values(
        doc_text=sa.bindparam("b_doc"),
        revision=sa.bindparam("b_revision"),
        change_no=sa.bindparam("b_number"),
        deleted=sa.bindparam("b_deleted"),
        changed_at=sa.bindparam("b_now"),
    )
)
