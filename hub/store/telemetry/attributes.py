"""What is known of a device besides its readings."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import decode_json
from hub.store.tables.telemetry import device
from hub.store.telemetry.devices import DeviceKey

_COLUMNS = {"client": device.c.client_attributes, "shared": device.c.shared_attributes}


def read_attributes(
    connection: Connection, key: DeviceKey, whose: Literal["client", "shared"]
) -> dict[str, Any]:
    """What the device told of itself, or what operators set for it; {} for an unknown device."""
    tenant, gateway, name = key
    mine = (device.c.tenant == tenant, device.c.gateway == gateway, device.c.name == name)
    found = connection.execute(sa.select(_COLUMNS[whose]).where(*mine)).scalar_one_or_none()
    known: dict[str, Any] = decode_json(found or "{}")
    return known
