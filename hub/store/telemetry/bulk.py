"""Many rows by one statement: executemany on SQLite, arrays on PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import encode_json

Columns = Mapping[str, str]
"""Names with their PostgreSQL types, in the order of the rows' cells."""

_PLACE = re.compile(r"\{(\w+)\}")


def select_by(
    connection: Connection,
    table: sa.Table,
    keys: Columns,
    rows: Sequence[tuple[Any, ...]],
    *names: str,
) -> list[sa.Row[Any]]:
    """The columns `names` of the rows whose key is among `rows`."""
    if not rows:
        return []
    listed = ", ".join(f"t.{name}" for name in names)
    if _is_postgres(connection):
        arrays, bound = _arrays(keys, rows)
        on = " AND ".join(f"t.{key} = k.{key}" for key in keys)
        given = f"unnest({arrays}) AS k({', '.join(keys)})"
    else:
        bound = {"rows": encode_json(rows).decode()}
        on = " AND ".join(
            f"t.{key} = json_extract(k.value, '$[{place}]')" for place, key in enumerate(keys)
        )
        given = "json_each(:rows) AS k"
    # CROSS JOIN: SQLite keeps the order, so that it looks up each key by the index.
    statement = f"SELECT {listed} FROM {given} CROSS JOIN {table.name} AS t WHERE {on}"  # noqa: S608 (our own names)
    if _is_postgres(connection):
        return list(connection.exec_driver_sql(statement, bound))
    return list(connection.execute(sa.text(statement), bound))


def insert_missing(
    connection: Connection, table: sa.Table, columns: Columns, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert rows; one whose key is there already is left alone."""
    if not rows:
        return
    listed = ", ".join(columns)
    if _is_postgres(connection):
        arrays, bound = _arrays(columns, rows)
        into = f"INSERT INTO {table.name} ({listed})"
        statement = f"{into} SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING"  # noqa: S608 (our own names)
        connection.exec_driver_sql(statement, bound)
        return
    marks = ", ".join("?" * len(columns))
    statement = f"INSERT OR IGNORE INTO {table.name} ({listed}) VALUES ({marks})"  # noqa: S608 (our own names)
    connection.exec_driver_sql(statement, list(rows))


def update_each(
    connection: Connection,
    table: sa.Table,
    columns: Columns,
    rows: Sequence[tuple[Any, ...]],
    *,
    sets: str,
    where: str,
) -> None:
    """Update a row per row given. In `sets` and `where`, `{name}` is a given cell."""
    if not rows:
        return
    if _is_postgres(connection):
        arrays, bound = _arrays(columns, rows)
        named = ", ".join(f"new_{name}" for name in columns)
        given = f"FROM unnest({arrays}) AS v({named})"
        texts = [_PLACE.sub(r"v.new_\1", text) for text in (sets, where)]
        statement = f"UPDATE {table.name} SET {texts[0]} {given} WHERE {texts[1]}"  # noqa: S608 (our own names)
        connection.exec_driver_sql(statement, bound)
        return
    places = {name: f"?{place + 1}" for place, name in enumerate(columns)}
    texts = [_PLACE.sub(lambda found: places[found[1]], text) for text in (sets, where)]
    statement = f"UPDATE {table.name} SET {texts[0]} WHERE {texts[1]}"  # noqa: S608 (our own names)
    connection.exec_driver_sql(statement, list(rows))


def _is_postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _arrays(columns: Columns, rows: Sequence[tuple[Any, ...]]) -> tuple[str, dict[str, Any]]:
    texts = [f"%({name})s::{kind}[]" for name, kind in columns.items()]
    cells = zip(*rows, strict=True)
    bound = {name: list(column) for name, column in zip(columns, cells, strict=True)}
    return ", ".join(texts), bound
