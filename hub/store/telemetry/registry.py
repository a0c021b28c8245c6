"""The device registry as operators see and change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.tables.telemetry import chunk, credential, device, series
from hub.store.telemetry.positions import touch_registry

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which devices; None means any. `name` is a part of it; `seen_before` finds the silent."""

    name: str | None = None
    source: str | None = None
    gateway: str | None = None
    kind: str | None = None
    state: str | None = None
    seen_before: int | None = None


def find_devices_like(
    connection: Connection, wanted: DeviceFilter, limit: int, after: int = 0
) -> list[Row]:
    """Devices in the order of their ids, from behind `after` on."""
    conditions = [device.c.device_id > after]
    for column in ("source", "gateway", "kind", "state"):
        value = getattr(wanted, column)
        if value is not None:
            conditions.append(device.c[column] == value)
    if wanted.name is not None:
        conditions.append(device.c.name.contains(wanted.name, autoescape=True))
    if wanted.seen_before is not None:
        silent = sa.or_(device.c.seen_at.is_(None), device.c.seen_at < wanted.seen_before)
        conditions.append(silent)
    statement = sa.select(device).where(*conditions).order_by(device.c.device_id).limit(limit)
    return [dict(row) for row in connection.execute(statement).mappings()]


def load_device(connection: Connection, device_id: int) -> Row | None:
    """One device."""
    found = connection.execute(sa.select(device).where(device.c.device_id == device_id))
    row = found.mappings().one_or_none()
    return None if row is None else dict(row)


def devices_named(connection: Connection, name: str, limit: int = 20) -> list[Row]:
    """Devices of exactly this name: one per gateway that has such a device."""
    statement = sa.select(device).where(device.c.name == name).order_by(device.c.device_id)
    return [dict(row) for row in connection.execute(statement.limit(limit)).mappings()]


def change_device(connection: Connection, device_id: int, changes: Mapping[str, Any]) -> None:
    """Set columns of a device; the projector notices within two seconds."""
    if changes:
        mine = device.c.device_id == device_id
        connection.execute(device.update().where(mine).values(**changes))
    touch_registry(connection)


def series_of(connection: Connection, device_id: int) -> list[Row]:
    """The metrics of a device with their newest values, by name."""
    statement = sa.select(series).where(series.c.device_id == device_id).order_by(series.c.metric)
    return [dict(row) for row in connection.execute(statement).mappings()]


def set_unit(connection: Connection, device_id: int, metric: str, unit: str) -> bool:
    """Set the unit of a metric; whether there is such a metric."""
    mine = (series.c.device_id == device_id, series.c.metric == metric)
    done = connection.execute(series.update().where(*mine).values(unit=unit)).rowcount == 1
    touch_registry(connection)
    return done


def readings_since(
    connection: Connection, device_ids: Sequence[int], since_ms: int
) -> dict[int, int]:
    """Readings per device in the chunks that begin at `since_ms` or later."""
    total = sa.func.sum(chunk.c.count)
    joined = series.join(chunk, chunk.c.series_id == series.c.series_id)
    statement = sa.select(series.c.device_id, total).select_from(joined)
    mine = (series.c.device_id.in_(list(device_ids)), chunk.c.start >= since_ms)
    found = connection.execute(statement.where(*mine).group_by(series.c.device_id))
    return {row[0]: int(row[1]) for row in found}


_TOTALS = ("readings", "late", "duplicates", "restated", "quarantined")


def gateways(connection: Connection) -> list[Row]:
    """Each gateway with its devices added up."""
    sums = [sa.func.coalesce(sa.func.sum(device.c[name]), 0).label(name) for name in _TOTALS]
    columns = [
        device.c.source,
        device.c.gateway,
        sa.func.count().label("devices"),
        sa.func.max(device.c.seen_at).label("seen_at"),
        *sums,
    ]
    grouped = sa.select(*columns).where(device.c.gateway != "")
    ordered = grouped.group_by(device.c.source, device.c.gateway).order_by(device.c.gateway)
    return [dict(row) for row in connection.execute(ordered).mappings()]


def totals_by_source(connection: Connection) -> list[Row]:
    """Each source with its devices by state, and what they sent."""
    sums = [sa.func.coalesce(sa.func.sum(device.c[name]), 0).label(name) for name in _TOTALS]
    columns = [device.c.source, device.c.state, sa.func.count().label("devices")]
    columns.append(sa.func.max(device.c.seen_at).label("seen_at"))
    grouped = sa.select(*columns, *sums).group_by(device.c.source, device.c.state)
    return [dict(row) for row in connection.execute(grouped).mappings()]


def sender_of(connection: Connection, credential_id: str) -> Row | None:
    """Whom a credential belongs to."""
    found = connection.execute(
        sa.select(credential).where(credential.c.credential_id == credential_id)
    )
    row = found.mappings().one_or_none()
    return None if row is None else dict(row)
