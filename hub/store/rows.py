"""Small pieces every repository needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

Item = TypeVar("Item")

_PORTABLE_IN = 500

encode_json = msgspec.json.Encoder(decimal_format="string").encode
decode_json = msgspec.json.Decoder().decode

encode_exact = msgspec.json.Encoder(decimal_format="number").encode
decode_exact = msgspec.json.Decoder(float_hook=Decimal).decode
"""For what must come back as it was given: decimals stay JSON numbers, never floats."""


def to_ms(moment: datetime) -> int:
    """UTC milliseconds since 1970, the form in which the store keeps time."""
    return int(moment.timestamp() * 1000)


def from_ms(stored: int | None) -> datetime | None:
    """The aware UTC time of a stored number."""
    return None if stored is None else datetime.fromtimestamp(stored / 1000, UTC)


def plain_text(text: str) -> str:
    """`text` without what a database refuses: NUL and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """`items` in slices of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def bulk_insert(connection: Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows given as tuples in the order of the table's columns.

    The values go to the driver as they are: SQLAlchemy's way of preparing each row costs more
    than SQLite's insert. PostgreSQL gets one array per column.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        listed = ", ".join(column.name for column in table.columns)
        arrays, bound = pg_arrays(table.columns, rows)
        statement = f"INSERT INTO {table.name} ({listed}) SELECT * FROM unnest({arrays})"  # noqa: S608 (names of our own tables)
        connection.exec_driver_sql(statement, bound)
        return
    compiled = table.insert().compile(dialect=connection.dialect)
    if compiled.positional:
        connection.exec_driver_sql(str(compiled), list(rows))
    else:
        names = [column.name for column in table.columns]
        named = [dict(zip(names, row, strict=True)) for row in rows]
        connection.exec_driver_sql(str(compiled), named)


def insert_at_once(
    connection: Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert rows as `bulk_insert` does, in as few statements as possible.

    A driver lets other Python threads run at every row it steps over. A thread that others wait for
    gets its turn back late each time; here it is one turn for up to 500 rows. PostgreSQL gets
    arrays: a statement of the same text whatever the number of rows, which is parsed once.
    """
    if connection.dialect.name == "postgresql":
        bulk_insert(connection, table, rows)
        return
    names = ", ".join(column.name for column in table.columns)
    width = len(table.columns)
    mark = "%s" if connection.dialect.paramstyle == "format" else "?"
    if connection.dialect.paramstyle not in ("format", "qmark"):
        bulk_insert(connection, table, rows)
        return
    one = "(" + ", ".join([mark] * width) + ")"
    for part in chunks(rows, _PORTABLE_IN):
        text = f"INSERT INTO {table.name} ({names}) VALUES {', '.join([one] * len(part))}"  # noqa: S608 (our own names)
        connection.exec_driver_sql(text, tuple(value for row in part for value in row))


def pg_arrays(
    columns: Iterable[sa.Column[Any]], rows: Sequence[tuple[Any, ...]]
) -> tuple[str, dict[str, list[Any]]]:
    """Arguments of PostgreSQL's `unnest` that give back `rows`, and the parameters they name."""
    texts, bound = [], {}
    for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
        kind = next(name for known, name in _PG_KINDS if isinstance(column.type, known))
        # Bytes as they are: as text they would be written out in hex, and read back.
        form = "b" if kind == "bytea" else "s"
        texts.append(f"%({column.name}){form}::{kind}[]")
        bound[column.name] = list(cells)
    return ", ".join(texts), bound


_PG_KINDS: tuple[tuple[type, str], ...] = (
    (sa.String, "text"),
    (sa.BigInteger, "bigint"),
    (sa.Integer, "integer"),
    (sa.LargeBinary, "bytea"),
    (sa.Double, "float8"),
)


def key_filters(
    connection: Connection, column: sa.ColumnElement[str], keys: Sequence[str]
) -> Iterator[tuple[sa.ColumnElement[bool], dict[str, Any]]]:
    """Conditions `column is one of keys` with their parameters, one per statement to run.

    SQLite and PostgreSQL take all keys as one bound value, so the statement is compiled once and
    stays in SQLAlchemy's cache; other databases get `IN` lists of 500.
    """
    dialect = connection.dialect.name
    if dialect == "sqlite":
        listed = sa.func.json_each(sa.bindparam("keys")).table_valued("value")
        yield column.in_(sa.select(listed.c.value)), {"keys": encode_json(keys).decode()}
    elif dialect == "postgresql":
        array = sa.bindparam("keys", type_=sa.ARRAY(sa.String))
        yield column == sa.func.any(array), {"keys": list(keys)}
    else:
        for part in chunks(keys, _PORTABLE_IN):
            yield column.in_(part), {}
