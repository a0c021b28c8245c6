"""Source rows of a grouping flow: kept until the read is complete, then folded per group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import decode_exact, encode_exact, key_filters
from hub.store.tables import stage


def stage_rows(
    connection: Connection, run_id: int, rows: Sequence[tuple[str, str, dict[str, Any]]]
) -> int:
    """Keep (row key, group key, row); a row met before is replaced. Returns how many were new."""
    known: set[str] = set()
    keys = [row_key for row_key, _, _ in rows]
    for condition, params in key_filters(connection, stage.c.row_key, keys):
        statement = sa.select(stage.c.row_key).where(stage.c.run_id == sa.bindparam("run"))
        found = connection.execute(statement.where(condition), {"run": run_id, **params})
        known.update(found.scalars())
    if known:
        for condition, params in key_filters(connection, stage.c.row_key, sorted(known)):
            removal = stage.delete().where(stage.c.run_id == sa.bindparam("run"), condition)
            connection.execute(removal, {"run": run_id, **params})
    newest = {row_key: (group_key, row) for row_key, group_key, row in rows}
    values = [
        {
            "run_id": run_id,
            "row_key": row_key,
            "group_key": group_key,
            "doc_text": encode_exact(row).decode(),
        }
        for row_key, (group_key, row) in newest.items()
    ]
    if values:
        connection.execute(stage.insert(), values)
    return len(newest.keys() - known)


def next_groups(
    connection: Connection, run_id: int, after: str | None, limit: int
) -> dict[str, list[dict[str, Any]]]:
    """The rows of the next `limit` groups behind `after`, whole groups, in key order."""
    keys = sa.select(stage.c.group_key).distinct().where(stage.c.run_id == run_id)
    if after is not None:
        keys = keys.where(stage.c.group_key > after)
    group_keys = list(connection.execute(keys.order_by(stage.c.group_key).limit(limit)).scalars())
    groups: dict[str, list[dict[str, Any]]] = {key: [] for key in group_keys}
    for condition, params in key_filters(connection, stage.c.group_key, group_keys):
        statement = (
            sa.select(stage.c.group_key, stage.c.doc_text)
            .where(stage.c.run_id == sa.bindparam("run"), condition)
            .order_by(stage.c.group_key, stage.c.row_key)
        )
        for group_key, text in connection.execute(statement, {"run": run_id, **params}):
            groups[group_key].append(decode_exact(text))
    return groups


def count_staged(connection: Connection, run_id: int) -> int:
    """How many source rows the run keeps."""
    statement = sa.select(sa.func.count()).select_from(stage).where(stage.c.run_id == run_id)
    return int(connection.execute(statement).scalar_one())


def count_rows(connection: Connection, run_id: int, row_keys: Sequence[str]) -> int:
    """How many of these rows the run keeps."""
    number = 0
    for condition, params in key_filters(connection, stage.c.row_key, row_keys):
        statement = sa.select(sa.func.count()).where(stage.c.run_id == sa.bindparam("run"))
        found = connection.execute(statement.where(condition), {"run": run_id, **params})
        number += int(found.scalar_one())
    return number


def clear_stage(connection: Connection, run_id: int) -> None:
    """Forget the staged rows of a run."""
    connection.execute(stage.delete().where(stage.c.run_id == run_id))
