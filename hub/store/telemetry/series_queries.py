"""Looking up series by device and metric, and what is known of them without reading points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.database import Store
from hub.store.rows import chunks
from hub.store.tables.telemetry import chunk, device, series, text_reading
from hub.store.telemetry.devices import WAITING

_JOINED = sa.join(series, device, series.c.device_id == device.c.device_id)
_IN_SERVICE = device.c.state != WAITING
"""What a device sent is kept while it waits for approval, and seen after it."""

_HOUR = 3_600_000
_MANY = 500


class SeriesRow(NamedTuple):
    """A series with the device it belongs to and its newest value."""

    series_id: int
    device_id: int
    tenant: str
    gateway: str
    device: str
    zone: str
    source: str
    metric: str
    unit: str
    last_ts: int | None
    last_value: float | None
    last_received_at: int | None
    last_known: int


@dataclass(frozen=True, slots=True)
class SeriesFilter:
    """Which series: by names of devices and metrics (none: all), of a gateway, of a tenant."""

    devices: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    gateway: str | None = None
    tenant: str | None = None


@contextmanager
def snapshot(store: Store) -> Iterator[Connection]:
    """A connection whose queries all see the same moment."""
    with store.engine.connect() as connection:
        if store.embedded:
            connection.exec_driver_sql("BEGIN")
        else:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def find_series_rows(connection: Connection, wanted: SeriesFilter, limit: int) -> list[SeriesRow]:
    """The series of a filter by gateway, device and metric, at most `limit`."""
    columns = (
        series.c.series_id,
        series.c.device_id,
        device.c.tenant,
        device.c.gateway,
        device.c.name,
        device.c.zone,
        device.c.source,
        series.c.metric,
        series.c.unit,
        series.c.last_ts,
        series.c.last_value,
        series.c.last_received_at,
        series.c.last_known,
    )
    statement = sa.select(*columns).select_from(_JOINED).where(_IN_SERVICE)
    for column, names in ((device.c.name, wanted.devices), (series.c.metric, wanted.metrics)):
        if names:
            statement = statement.where(column.in_(names))
    if wanted.gateway is not None:
        statement = statement.where(device.c.gateway == wanted.gateway)
    if wanted.tenant is not None:
        statement = statement.where(device.c.tenant == wanted.tenant)
    order = (device.c.tenant, device.c.gateway, device.c.name, series.c.metric)
    found = connection.execute(statement.order_by(*order).limit(limit))
    return [SeriesRow(*row) for row in found]


def known_devices(connection: Connection, names: Sequence[str]) -> set[str]:
    """Those of the names that some device has."""
    found: set[str] = set()
    for some in chunks(names, _MANY):
        named = device.c.name.in_(list(some))
        statement = sa.select(device.c.name).where(named, _IN_SERVICE)
        found |= set(connection.execute(statement).scalars())
    return found


def some_devices(connection: Connection, limit: int) -> list[str]:
    """Names of devices, for hints."""
    statement = sa.select(device.c.name).where(_IN_SERVICE).order_by(device.c.name)
    return list(connection.execute(statement.limit(limit)).scalars())


def some_metrics(connection: Connection, names: Sequence[str], limit: int) -> list[str]:
    """Metrics that these devices have, for hints."""
    statement = sa.select(series.c.metric).distinct().select_from(_JOINED).where(_IN_SERVICE)
    if names:
        statement = statement.where(device.c.name.in_(list(names)))
    return list(connection.execute(statement.order_by(series.c.metric).limit(limit)).scalars())


def count_points(connection: Connection, series_id: int, since: int, until: int) -> int:
    """How many readings the chunks that touch [since, until) hold."""
    statement = sa.select(sa.func.coalesce(sa.func.sum(chunk.c.count), 0)).where(
        chunk.c.series_id == series_id,
        chunk.c.start >= since - since % _HOUR,
        chunk.c.start < until,
    )
    return int(connection.execute(statement).scalar_one())


def newest_text(connection: Connection, series_id: int) -> tuple[int, str] | None:
    """The newest text of a series."""
    statement = (
        sa.select(text_reading.c.ts, text_reading.c.text)
        .where(text_reading.c.series_id == series_id)
        .order_by(text_reading.c.ts.desc())
        .limit(1)
    )
    row: Any = connection.execute(statement).first()
    return None if row is None else (row.ts, row.text)
