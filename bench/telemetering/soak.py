"""A steady load for minutes: memory and the projector's lag must not grow."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.hooks_load import Load
from bench.telemetering.intake import STEADY_CONNECTIONS, Senders
from bench.telemetering.site import Broken, Site

RATE = 300.0
_SAMPLE_SECONDS = 2.0
_MOST_GROWTH = 0.10
_MOST_LAG_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Soaked:
    """Medians of the fifth minute-tenth and of the last one, per process."""

    seconds: float
    load: Load
    memory_mb: dict[str, tuple[float, float]]
    most_waiting: int

    def row(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds),
            "readings_per_second": round(self.load.thanked * 100 / self.seconds),
            "p99_ms": round(self.load.p99 * 1000, 1),
            "memory_mb": {name: [round(a), round(b)] for name, (a, b) in self.memory_mb.items()},
            "most_waiting_messages": self.most_waiting,
        }

    def missed(self) -> list[str]:
        found = [
            f"soak: {name} grew from {early:.0f} to {late:.0f} MB"
            for name, (early, late) in self.memory_mb.items()
            if late > early * (1 + _MOST_GROWTH) and late - early > 10
        ]
        if self.most_waiting > RATE * _MOST_LAG_SECONDS:
            found.append(f"soak: {self.most_waiting} messages waited for the projector")
        return found


def soak(site: Site, senders: Senders, run: int, seconds: float) -> Soaked:
    """30,000 readings per second. Raises Broken when one that was acknowledged is missing."""
    memory: dict[str, list[float]] = defaultdict(list)
    most = 0
    with site.serving() as served:
        senders.start_steady(served.http, run, seconds, RATE)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(_SAMPLE_SECONDS)
            for name, size in served.memory_mb().items():
                memory[name].append(size)
            most = max(most, site.waiting())
        load = senders.steady()
        site.wait_projected()
    kept = sum(site.count(run + number) for number in range(STEADY_CONNECTIONS))
    if kept != load.thanked * 100:
        raise Broken(f"soak: {load.thanked * 100:,} readings were acknowledged, {kept:,} are there")
    return Soaked(seconds, load, {name: _ends(sizes) for name, sizes in memory.items()}, most)


def _ends(sizes: list[float]) -> tuple[float, float]:
    """Medians of the fifth and of the last tenth: the first are warm-up."""
    tenth = max(1, len(sizes) // 10)
    return median(sizes[4 * tenth : 5 * tenth] or sizes), median(sizes[-tenth:])
