"""Messages as machines send them, made before the clock starts; no reading is ever sent twice.

A machine has four metrics with two to four decimals, one reading of each per second. Values walk
as a bearing's do: noise around a level that drifts.
"""

from __future__ import annotations

import gzip
import json
import math
import random
import time
from collections.abc import Iterator
from itertools import count

METRICS = ("vib_rms", "temperature", "rpm", "current")
RUN_MS = 200_000_000
"""Between the times of two measurements."""
_DAY_MS = 86_400_000
EPOCH_MS = int(time.time() * 1000) // _DAY_MS * _DAY_MS - 150 * _DAY_MS
"""Young enough that retention leaves the readings alone; the same in every process of a day."""


def device(number: int) -> str:
    """The name of a machine, which is its token too."""
    return f"machine-{number:05d}"


class Machine:
    """One machine's clock and values. `run` keeps the times of several measurements apart."""

    def __init__(self, number: int, run: int) -> None:
        self._random = random.Random(number)
        self._ts = EPOCH_MS + run * RUN_MS
        self.name = device(number)

    def entries(self, times: int, metrics: int = len(METRICS)) -> list[dict[str, object]]:
        """The readings of the next `times` seconds: `times` × `metrics` of them."""
        found: list[dict[str, object]] = []
        for _ in range(times):
            self._ts += 1000
            found.append({"ts": self._ts, "values": self._values(metrics)})
        return found

    def lines(self, times: int) -> str:
        """The same as line protocol, nanoseconds, all metrics of a second in one line."""
        found = []
        for entry in self.entries(times):
            values = entry["values"]
            assert isinstance(values, dict)  # noqa: S101 (made above)
            fields = ",".join(f"{name}={value}" for name, value in values.items())
            found.append(f"machine,device={self.name} {fields} {entry['ts']}000000")
        return "\n".join(found)

    def _values(self, metrics: int) -> dict[str, float]:
        noise = self._random.gauss(0, 1)
        phase = math.sin(self._ts / 3.6e6)
        levels = (2.8 + 0.3 * phase + 0.2 * noise, 61 + 4 * phase + noise, 1480 + 3 * noise,
                  11.4 + 0.4 * phase + 0.1 * noise)  # fmt: skip
        digits = (3, 1, 0, 2)
        pairs = zip(METRICS, levels, digits, strict=True)
        return {name: round(level, kept) for name, level, kept in list(pairs)[:metrics]}


def json_bodies(readings: int, machines: int, run: int) -> Iterator[tuple[str, bytes]]:
    """Token and ThingsBoard body of `readings` readings each, machine after machine, endlessly."""
    fleet = [Machine(number, run) for number in range(machines)]
    for turn in count():
        one = fleet[turn % machines]
        body = json.dumps(one.entries(readings // len(METRICS)), separators=(",", ":"))
        yield one.name, body.encode()


def line_bodies(readings: int, machines: int, run: int) -> Iterator[tuple[str, bytes]]:
    """Token and gzipped line protocol of `readings` readings each."""
    fleet = [Machine(number, run) for number in range(machines)]
    for turn in count():
        one = fleet[turn % machines]
        yield one.name, gzip.compress(one.lines(readings // len(METRICS)).encode(), 1)


def mqtt_payloads(readings: int, machine: int, run: int) -> Iterator[bytes]:
    """Payloads of one machine, two metrics a second."""
    one = Machine(machine, run)
    while True:
        yield json.dumps(one.entries(readings // 2, metrics=2), separators=(",", ":")).encode()
