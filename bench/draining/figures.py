"""What the measurements of `bench drain` say: rates, memory, and whether the promises hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

RATE = 3_000.0
GROWTH_MB = 10.0
"""What a process may grow by over the second half and still be called flat."""

Sample = tuple[float, int, float]
"""Seconds since the start, deliveries settled, MB held."""


@dataclass(frozen=True, slots=True)
class Memory:
    """MB held when so much was settled; the slope by least squares over the second half."""

    at_10: float
    at_50: float
    at_100: float
    slope_mb_per_100k: float


@dataclass(frozen=True, slots=True)
class Drained:
    """One store: the hub beside the bare loop and the raw commits of the same minutes."""

    store: str
    sink: str
    deliveries: int
    commits_per_second: float
    bare_per_second: float
    per_second: float
    first_tenth_per_second: float
    last_tenth_per_second: float
    cpu_seconds: float
    memory: Memory
    problems: tuple[str, ...]
    samples: tuple[Sample, ...]

    @property
    def ratio(self) -> float:
        """Of the bare loop's rate."""
        return self.per_second / self.bare_per_second

    @property
    def missed(self) -> list[str]:
        """The promises that were not kept."""
        found = []
        if self.per_second < RATE:
            found.append(f"{self.per_second:,.0f} deliveries/s, promised {RATE:,.0f}")
        growth = self.memory.at_100 - self.memory.at_50
        if growth > GROWTH_MB:
            found.append(f"memory grew by {growth:.1f} MB over the second half")
        return found

    def summary(self) -> dict[str, Any]:
        """Everything that is worth keeping; of the samples about a hundred."""
        thin = self.samples[:: max(1, len(self.samples) // 100)]
        return {
            **asdict(self),
            "ratio_to_bare": round(self.ratio, 3),
            "missed": self.missed,
            "samples": thin,
        }


def seconds_at(samples: Sequence[Sample], settled: float) -> float:
    """When so many were settled, between the two samples around that moment."""
    before: Sample = (0.0, 0, 0.0)
    for now in samples:
        if now[1] >= settled:
            share = (settled - before[1]) / max(1, now[1] - before[1])
            return before[0] + share * (now[0] - before[0])
        before = now
    return before[0]


def rate_between(samples: Sequence[Sample], begin: float, end: float) -> float:
    """Deliveries per second between two counts of settled ones."""
    taken = seconds_at(samples, end) - seconds_at(samples, begin)
    return (end - begin) / max(taken, 1e-9)


def memory_of(samples: Sequence[Sample], total: int) -> Memory:
    """How much was held on the way."""

    def held(share: float) -> float:
        return next(mb for _, settled, mb in samples if settled >= share * total)

    later = [(settled / 100_000, mb) for _, settled, mb in samples if settled >= total / 2]
    return Memory(held(0.1), held(0.5), held(1.0), round(_slope(later), 3))


def _slope(points: Sequence[tuple[float, float]]) -> float:
    middle = [sum(axis) / len(points) for axis in zip(*points, strict=True)]
    spread = sum((x - middle[0]) ** 2 for x, _ in points)
    both = sum((x - middle[0]) * (y - middle[1]) for x, y in points)
    return both / spread if spread else 0.0
