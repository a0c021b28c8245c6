"""A telemetry store with one call per thing that a test wants to have happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from hub.store.database import Store
from hub.store.tables.telemetry import device
from hub.store.telemetry.changes import append_change
from hub.store.telemetry.database import open_telemetry
from hub.store.telemetry.devices import (
    NewDevice,
    create_devices,
    create_series,
    find_devices,
    find_series,
)
from hub.telemetry.calendar import Zones
from hub.telemetry.rollups import QUIET_MS, follow_zones, roll_up
from hub.telemetry.series_writer import SeriesWriter

HOUR, DAY = 3_600_000, 86_400_000


def ms(text: str) -> int:
    """UTC milliseconds of an ISO time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


class Rig:
    """`now` moves only when a test moves it."""

    def __init__(self, store: Store, zones: Zones) -> None:
        self.store = store
        self.zones = zones
        self.writer = SeriesWriter()
        self.now = ms("2026-06-01T00:00:00")

    def series(self, name: str = "pump", metric: str = "vib", zone: str = "") -> int:
        key = ("default", "", name)
        with self.store.transaction() as connection:
            new = NewDevice(*key, "iot", "active", "", zone, 0)
            create_devices(connection, [new])
            device_id = find_devices(connection, [key])[0].device_id
            create_series(connection, [(device_id, metric, "mm/s")])
            return find_series(connection, [(device_id, metric)])[device_id, metric]

    def write(self, series_id: int, ts: Sequence[int], value: Sequence[float]) -> None:
        times = np.asarray(ts, dtype=np.int64)
        with self.store.transaction() as connection:
            written = self.writer.write(
                connection,
                np.full(len(times), series_id, dtype=np.int64),
                times,
                np.asarray(value, dtype=np.float64),
            )
            if len(written.hours):
                append_change(connection, written.hours, self.now)

    def roll_up(self, wait: int = 3 * DAY) -> None:
        """Let time pass, and recompute all there is."""
        self.now += wait
        follow_zones(self.store, self.now, self.zones)
        for _turn in ("noted", "quiet"):
            while roll_up(self.store, self.now, self.zones):
                pass
            self.now += QUIET_MS

    def move(self, name: str, zone: str) -> None:
        with self.store.transaction() as connection:
            connection.execute(device.update().where(device.c.name == name).values(zone=zone))


@contextmanager
def rig(folder: Path, zone: str = "Asia/Shanghai") -> Iterator[Rig]:
    """A rig on a SQLite file of its own."""
    store = open_telemetry(f"sqlite:///{folder}/telemetry.db")
    try:
        yield Rig(store, Zones(zone))
    finally:
        store.close()
