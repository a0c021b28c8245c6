"""The tables keep to what the databases of the field have in common."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from hub.store.tables import metadata

NAMES = """
    mode level comment value values user domain cursor object reference ref context uid date
    datetime order group row rows limit index desc size lock share list first schema table column
    grant start end begin interval exchange check default partition over current next new trigger
    function procedure key keys blob groups rank row_number role window condition offset old
"""
RESERVED = frozenset(NAMES.split())
COLUMNS = [column for table in metadata.sorted_tables for column in table.columns]


@pytest.mark.parametrize("column", COLUMNS, ids=str)
def test_a_column_uses_only_types_that_every_database_stores_alike(
    column: sa.Column[object],
) -> None:
    assert not isinstance(column.type, sa.JSON | sa.Enum | sa.Interval | sa.Uuid | sa.Boolean)
    assert not isinstance(column.type, sa.DateTime), "times are milliseconds"
    if type(column.type) is sa.String:
        assert column.type.length, "a String without a length"


@pytest.mark.parametrize("column", COLUMNS, ids=str)
def test_no_column_has_a_name_that_some_database_reserves(column: sa.Column[object]) -> None:
    assert column.name not in RESERVED


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_a_table_has_no_partial_index_and_carries_the_prefix(table: sa.Table) -> None:
    assert table.name.startswith("hub_")
    for index in table.indexes:
        assert not any(name.endswith("_where") for name in index.dialect_kwargs)
