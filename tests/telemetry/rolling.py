"""A process that rolls up as fast as it can, to be killed."""

from __future__ import annotations

import sys
import time

from hub.store.telemetry.database import open_telemetry
from hub.telemetry import rollups
from hub.telemetry.calendar import Zones


def main(url: str, now: int) -> None:
    """Roll up in small transactions until killed."""
    rollups._HOURS = 5
    store = open_telemetry(url)
    sys.stdout.write("rolling\n")
    sys.stdout.flush()
    while True:
        now += rollups.QUIET_MS
        while rollups.roll_up(store, now, Zones("Asia/Shanghai")):
            pass
        time.sleep(0.01)
