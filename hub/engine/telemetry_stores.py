"""The stores of telemetry as the hub opens them: when they are first asked for."""

from __future__ import annotations

import logging
import threading

from hub.engine.deployment import Deployment
from hub.store.database import Store
from hub.store.telemetry.database import open_telemetry, open_telemetry_inbox
from hub.store.telemetry.inbox import number_on
from hub.store.telemetry.positions import part_positions
from hub.telemetry.bus import BUS_PART, Bus, BusAt

log = logging.getLogger("hub.engine.telemetry")


class TelemetryStores:
    """Readings and devices (`readings`), and raw messages (`inbox`). Several processes share both.

    Opening raises ConfigError when a store cannot be used; the next use tries again.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._urls = {"readings": deployment.telemetry_url, "inbox": deployment.telemetry_inbox_url}
        self._opened: dict[str, Store] = {}
        self._lock = threading.Lock()
        self._bus_at = deployment.telemetry_bus
        self._bus: Bus | None = None

    @property
    def bus(self) -> Bus | None:
        """The way to the bus, where there is one; it connects when it is used. Raises ConfigError
        when it never can."""
        with self._lock:
            if self._bus is None and self._bus_at is not None:
                self._bus = Bus(BusAt(*self._bus_at))
            return self._bus

    @property
    def readings(self) -> Store:
        with self._lock:
            return self._readings()

    @property
    def inbox(self) -> Store:
        """Before it takes anything, its numbers are behind those that are projected."""
        with self._lock:
            if "inbox" not in self._opened:
                self._opened["inbox"] = self._open_inbox()
            return self._opened["inbox"]

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            while self._opened:
                self._opened.popitem()[1].close()
            if self._bus is not None:
                self._bus.close()
                self._bus = None

    def _readings(self) -> Store:
        if "readings" not in self._opened:
            self._opened["readings"] = open_telemetry(self._urls["readings"])
        return self._opened["readings"]

    def _open_inbox(self) -> Store:
        with self._readings().reading() as connection:
            reached = part_positions(connection, BUS_PART)
        inbox = open_telemetry_inbox(self._urls["inbox"])
        try:
            with inbox.transaction() as connection:
                behind = number_on(connection, reached)
        except BaseException:
            inbox.close()
            raise
        if behind:
            log.error("the inbox was lost or is older than the readings: parts %s go on", behind)
        return inbox
