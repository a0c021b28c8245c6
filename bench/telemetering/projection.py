"""The projector with a backlog before it: how fast it gets on, and what a reading takes on disk."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

from bench.telemetering.bodies import json_bodies
from bench.telemetering.site import Broken, Site
from hub.store.telemetry.inbox import NewMessage, append
from hub.telemetry.ingest import part_of

READINGS = 100
_AT_ONCE = 500
LEAST = {"sqlite": 80_000.0, "postgres": 60_000.0}
MOST_BYTES = 12.0


@dataclass(frozen=True, slots=True)
class Projected:
    """`series` series, messages of 100 readings each, a machine's readings in order."""

    store: str
    readings: int
    series: int
    seconds: float
    bytes_per_reading: float
    peak_mb: float

    @property
    def rate(self) -> float:
        return self.readings / self.seconds

    def row(self) -> dict[str, Any]:
        return {
            "readings": self.readings,
            "series": self.series,
            "per_second": round(self.rate),
            "bytes_per_reading": round(self.bytes_per_reading, 2),
            "peak_mb": round(self.peak_mb),
        }

    def missed(self) -> list[str]:
        found = []
        if self.rate < LEAST[self.store]:
            found.append(
                f"projection: {self.rate:,.0f} readings/s (target ≥ {LEAST[self.store]:,.0f})"
            )
        if self.bytes_per_reading > MOST_BYTES:
            found.append(
                f"projection: {self.bytes_per_reading:.1f} bytes (target ≤ {MOST_BYTES:g})"
            )
        return found


def fill(site: Site, machines: int, readings: int, run: int, parts: int) -> None:
    """Messages straight into the inbox, machine after machine."""
    now = int(time.time() * 1000)
    made = itertools.islice(json_bodies(READINGS, machines, run), readings // READINGS)
    for some in iter(lambda: list(itertools.islice(made, _AT_ONCE)), []):
        messages = [
            NewMessage(
                part_of("iot", name, parts), now, "iot", name, 0, "iot.thingsboard", "", 0, body
            )
            for name, body in some
        ]
        with site.inbox.transaction() as connection:
            append(connection, messages)


def project(site: Site, store: str, machines: int, run: int) -> Projected:
    """Serve until nothing waits; the clock runs from the first message on."""
    before = site.waiting()
    with site.serving() as served:
        while site.waiting() == before:
            time.sleep(0.01)
        began, left, peak = time.perf_counter(), site.waiting(), 0.0
        while site.waiting():
            time.sleep(0.1)
            peak = max(peak, *served.memory_mb().values())
        seconds = time.perf_counter() - began
    done, kept = before * READINGS, site.count(run)
    if kept != done:
        raise Broken(f"projection: {done:,} readings were in the inbox, {kept:,} are there")
    return Projected(
        store, left * READINGS, machines * 4, seconds, site.bytes_stored() / kept, peak
    )
