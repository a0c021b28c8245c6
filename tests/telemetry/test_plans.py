"""Questions about one device look it up, however many devices there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.database import Store
from hub.store.telemetry import credentials, devices, registry, series_queries

QUESTIONS: dict[str, Callable[[Connection], Any]] = {
    "a device by its name": lambda c: registry.devices_named(c, "d"),
    "names that are known": lambda c: series_queries.known_devices(c, ["d", "e"]),
    "a device's series": lambda c: series_queries.find_series_rows(
        c, series_queries.SeriesFilter(("d",), ("m",)), 10
    ),
    "a device's metrics": lambda c: series_queries.some_metrics(c, ["d"], 5),
    "a device's credentials": lambda c: credentials.list_credentials(c, "iot", "d"),
    "what was revoked": lambda c: credentials.revoked_since(c, 5),
    "who holds a token": lambda c: credentials.find_token(c, "x"),
    "devices by their keys": lambda c: devices.find_devices(c, [("t", "g", "d")]),
    "readings of the last hour": lambda c: registry.readings_since(c, [1], 5),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_table_is_walked_through(sqlite_store: Store, question: str) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        asked.append((statement, parameters))

    with sqlite_store.reading() as connection:
        sa.event.listen(connection, "before_cursor_execute", note)
        QUESTIONS[question](connection)
        sa.event.remove(connection, "before_cursor_execute", note)
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            assert not [row[3] for row in plan if row[3].startswith("SCAN hub_")]
