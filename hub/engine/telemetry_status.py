"""What waits for the projector, and figures of telemetry for monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from hub.engine.letter_rows import iso_ms
from hub.sdk.errors import HubError, TransientError
from hub.store.tables.telemetry import telemetry_message, telemetry_part
from hub.store.telemetry import registry
from hub.store.telemetry.positions import part_name, positions
from hub.telemetry.bus import BUS_PART
from hub.telemetry.bus_state import bus_positions, look

if TYPE_CHECKING:
    from hub.engine.hub import Hub

_LONG_SECONDS = 60

Row = dict[str, object]
Samples = list[tuple[dict[str, str], int]]
Metric = tuple[str, str, Samples, str]


def lag_of_parts(hub: Hub) -> list[Row]:
    """Per part of the inbox, and of the bus: messages that wait, and since when the oldest does.

    Raises TransientError when the bus is away.
    """
    return _lag_in_table(hub) + _lag_in_stream(hub)


def _lag_in_table(hub: Hub) -> list[Row]:
    with hub.telemetry.readings.reading() as connection:
        reached = positions(connection)
    found: list[Row] = []
    with hub.telemetry.inbox.reading() as connection:
        parts = connection.execute(sa.select(telemetry_part).order_by(telemetry_part.c.part))
        for part, last in parts.all():
            message = telemetry_message.c
            behind = (message.part == part, message.seq > reached.get(part_name(part), 0))
            first = sa.select(message.seq, message.received_at).where(*behind)
            oldest = connection.execute(first.order_by(message.seq).limit(1)).first()
            # Numbers are gapless, but those before the oldest may be gone without having been read.
            seq, since = (last + 1, None) if oldest is None else oldest
            row: Row = {"part": part, "messages": last, "waiting": last + 1 - seq}
            found.append({**row, "oldest_waiting": iso_ms(since), "oldest_at": since})
    return found


def _lag_in_stream(hub: Hub) -> list[Row]:
    bus = hub.telemetry.bus
    if bus is None:
        return []
    reached = bus_positions(hub.telemetry.readings)
    found: list[Row] = []
    for one in bus.run(lambda link: look(link, reached)):
        name = f"bus:{one.part - BUS_PART}"
        row: Row = {"part": name, "messages": one.messages, "waiting": one.waiting}
        found.append({**row, "oldest_waiting": iso_ms(one.since), "oldest_at": one.since})
    return found


def projection_trouble(hub: Hub) -> HubError | None:
    """That messages wait for long, if they do."""
    waiting = [row for row in lag_of_parts(hub) if row["oldest_at"] is not None]
    oldest = min((_number(row["oldest_at"]) for row in waiting), default=hub.now_ms())
    seconds = (hub.now_ms() - oldest) // 1000
    if seconds < _LONG_SECONDS:
        return None
    messages = sum(_number(row["waiting"]) for row in waiting)
    return HubError("telemetry.lag", messages=messages, seconds=seconds)


def telemetry_metrics(hub: Hub) -> list[Metric]:
    """Name, help, samples and kind of each metric."""
    try:
        lag = lag_of_parts(hub)
    except TransientError:  # `hub doctor` says so; the other figures are no less true
        lag = _lag_in_table(hub)
    now = hub.now_ms()
    waiting: Samples = [({"part": str(row["part"])}, _number(row["waiting"])) for row in lag]
    ages: Samples = []
    for row in lag:
        since = row["oldest_at"]
        age = 0 if since is None else max(0, (now - _number(since)) // 1000)
        ages.append(({"part": str(row["part"])}, age))
    with hub.telemetry.readings.reading() as connection:
        totals = registry.totals_by_source(connection)
    devices: Samples = []
    readings: Samples = []
    for one in totals:
        labels = {"source": one["source"], "state": one["state"]}
        devices.append((labels, int(one["devices"])))
        for outcome in ("readings", "late", "duplicates", "restated", "quarantined"):
            readings.append(({**labels, "outcome": outcome}, int(one[outcome])))
    return [
        ("hub_telemetry_waiting_count", "Raw messages not projected yet.", waiting, "gauge"),
        ("hub_telemetry_oldest_waiting_seconds", "Age of the oldest of them.", ages, "gauge"),
        ("hub_devices_count", "Devices by source and state.", devices, "gauge"),
        ("hub_readings_total", "Readings by source and outcome.", readings, "counter"),
    ]


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
