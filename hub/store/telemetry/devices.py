"""The device registry and its series, many at once.

Whoever changes devices or series for another reason than a reading calls
`positions.touch_registry` in the same transaction: the projector remembers both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import decode_json, encode_json
from hub.store.tables.telemetry import device, series
from hub.store.telemetry.bulk import insert_missing, select_by, update_each

ACTIVE, WAITING, REFUSED = "active", "waiting", "refused"

DeviceKey = tuple[str, str, str]
"""Tenant, gateway ("" for a device that speaks for itself), name."""


class Known(NamedTuple):
    """A device of the registry; `kind` is its class."""

    device_id: int
    tenant: str
    gateway: str
    name: str
    state: str
    kind: str

    @property
    def key(self) -> DeviceKey:
        return self.tenant, self.gateway, self.name


class NewDevice(NamedTuple):
    """A device to enter into the registry."""

    tenant: str
    gateway: str
    name: str
    source: str
    state: str
    kind: str
    zone: str
    created_at: int


class Seen(NamedTuple):
    """What one transaction adds to a device. `offset`: its clock minus ours, None: not known."""

    device_id: int
    seen_at: int | None
    latest_ts: int | None
    offset: int | None
    readings: int
    late: int
    duplicates: int
    restated: int
    quarantined: int


class Latest(NamedTuple):
    """The newest reading of a series in one transaction."""

    series_id: int
    ts: int
    value: float
    received_at: int


def find_devices(connection: Connection, keys: Sequence[DeviceKey]) -> list[Known]:
    """Those of `keys` that the registry knows."""
    columns = {"tenant": "text", "gateway": "text", "name": "text"}
    found = select_by(connection, device, columns, keys, *Known._fields)
    return [Known(*row) for row in found]


def create_devices(connection: Connection, new: Sequence[NewDevice]) -> None:
    """Enter devices; one that is there already (another process was first) stays as it is."""
    columns = {**dict.fromkeys(NewDevice._fields[:-1], "text"), "created_at": "bigint"}
    columns |= {"client_attributes": "text", "shared_attributes": "text"}
    # In one order everywhere: two processes that enter the same devices never lock each other out.
    insert_missing(connection, device, columns, [(*one, "{}", "{}") for one in sorted(new)])


def set_kinds(connection: Connection, kinds: Sequence[tuple[int, str]]) -> None:
    """Classes of devices that have none yet."""
    columns = {"device_id": "bigint", "kind": "text"}
    where = "device_id = {device_id} AND kind = ''"
    update_each(connection, device, columns, sorted(kinds), sets="kind = {kind}", where=where)


def set_online(connection: Connection, states: Sequence[tuple[int, str, int]]) -> None:
    """(device, online | offline | stale, since when); what is older than the known is ignored."""
    columns = {"device_id": "bigint", "online": "text", "online_at": "bigint"}
    sets = "online = {online}, online_at = {online_at}"
    where = "device_id = {device_id} AND (online_at IS NULL OR online_at <= {online_at})"
    update_each(connection, device, columns, sorted(states), sets=sets, where=where)


def merge_attributes(
    connection: Connection, told: Mapping[int, Mapping[str, Any]], most_bytes: int
) -> list[int]:
    """Add to what devices told of themselves; the devices whose attributes grew beyond the limit
    (theirs stay as they were)."""
    rows = sa.select(device.c.device_id, device.c.client_attributes)
    chosen = rows.where(device.c.device_id.in_(sorted(told))).order_by(device.c.device_id)
    written, too_large = [], []
    for device_id, text in connection.execute(chosen.with_for_update()):
        merged = encode_json({**decode_json(text or "{}"), **told[device_id]}).decode()
        if len(merged.encode()) > most_bytes:
            too_large.append(device_id)
        elif merged != text:
            written.append((device_id, merged))
    columns = {"device_id": "bigint", "client": "text"}
    sets, where = "client_attributes = {client}", "device_id = {device_id}"
    update_each(connection, device, columns, written, sets=sets, where=where)
    return too_large


def add_seen(connection: Connection, seen: Sequence[Seen]) -> None:
    """Bring what an operator sees of devices up to date.

    The clock's deviation follows early messages quickly and late ones slowly: what was on its way
    for long says little about the clock.
    """
    columns = dict.fromkeys(Seen._fields, "bigint")
    update_each(connection, device, columns, sorted(seen), sets=_SEEN, where=_THIS_DEVICE)


_THIS_DEVICE = "device_id = {device_id}"
_SEEN = """
  seen_at = CASE WHEN seen_at IS NULL OR seen_at < {seen_at} THEN {seen_at} ELSE seen_at END,
  latest_ts = CASE WHEN latest_ts IS NULL OR latest_ts < {latest_ts} THEN {latest_ts}
    ELSE latest_ts END,
  skew_ms = CASE WHEN {offset} IS NULL THEN skew_ms WHEN skew_ms IS NULL THEN {offset}
    WHEN {offset} > skew_ms THEN skew_ms + ({offset} - skew_ms + 1) / 2
    ELSE skew_ms - (skew_ms - {offset}) / 16 END,
  readings = readings + {readings}, late = late + {late}, duplicates = duplicates + {duplicates},
  restated = restated + {restated}, quarantined = quarantined + {quarantined}
"""


def find_series(
    connection: Connection, keys: Sequence[tuple[int, str]]
) -> dict[tuple[int, str], int]:
    """Series by (device, metric); the unknown ones are missing."""
    columns = {"device_id": "bigint", "metric": "text"}
    found = select_by(connection, series, columns, keys, "device_id", "metric", "series_id")
    return {(row[0], row[1]): row[2] for row in found}


def create_series(connection: Connection, new: Sequence[tuple[int, str, str]]) -> None:
    """Enter series as (device, metric, unit); one that is there already stays as it is."""
    columns = {"device_id": "bigint", "metric": "text", "unit": "text"}
    insert_missing(connection, series, columns, sorted(new))


def set_latest(connection: Connection, latest: Sequence[Latest]) -> None:
    """Newest readings, unless a series has a newer one."""
    columns = {"series_id": "bigint", "ts": "bigint", "val": "float8", "received_at": "bigint"}
    sets = "last_ts = {ts}, last_value = {val}, last_received_at = {received_at}, last_known = 0"
    where = "series_id = {series_id} AND (last_ts IS NULL OR last_ts <= {ts})"
    update_each(connection, series, columns, sorted(latest), sets=sets, where=where)


def set_last_known(connection: Connection, known: Sequence[tuple[int, float, int]]) -> None:
    """(series, value, receipt) of unknown time, for series that never had a reading."""
    columns = {"series_id": "bigint", "val": "float8", "received_at": "bigint"}
    sets = "last_value = {val}, last_received_at = {received_at}, last_known = 1"
    where = "series_id = {series_id} AND last_ts IS NULL"
    update_each(connection, series, columns, sorted(known), sets=sets, where=where)
