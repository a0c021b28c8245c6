"""Small pieces every repository needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

Item = TypeVar("Item")

_PORTABLE_IN = 500

encode_json = msgspec.json.Encoder(decimal_format="string").encode
decode_json = msgspec.json.Decoder().decode


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
    than SQLite's insert.
    """
    if not rows:
        return
    compiled = table.insert().compile(dialect=connection.dialect)
    if compiled.positional:
        connection.exec_driver_sql(str(compiled), list(rows))
    else:
        names = [column.name for column in table.columns]
        named = [dict(zip(names, row, strict=True)) for row in rows]
        connection.exec_driver_sql(str(compiled), named)


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
