"""Adding up readings and roll-ups into buckets, by columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.telemetry.sketch import Sketch, from_bytes, keys_of, merged

Millis = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of series, one per row: where it starts and what its readings come to.

    `squares` are those of the differences from the mean, added up: those of the readings themselves
    would lose a small spread of large numbers. `sketches` is empty when nobody asks for
    percentiles.
    """

    start: Millis
    count: Millis
    low: Numbers
    high: Numbers
    total: Numbers
    squares: Numbers
    last_ts: Millis
    last_value: Numbers
    sketches: Sequence[Sketch]

    def __len__(self) -> int:
        return len(self.start)

    def rows(self, series_id: int, span: str) -> list[tuple[Any, ...]]:
        """Rows of the table of roll-ups."""
        columns = zip(
            self.start.tolist(),
            self.count.tolist(),
            self.low.tolist(),
            self.high.tolist(),
            self.total.tolist(),
            self.squares.tolist(),
            self.last_ts.tolist(),
            self.last_value.tolist(),
            (sketch.to_bytes() for sketch in self.sketches),
            strict=True,
        )
        return [(series_id, span, *row) for row in columns]

    def select(self, chosen: NDArray[np.bool_]) -> Parts:
        """Only the rows that are chosen."""
        places = np.flatnonzero(chosen)
        sketches = [self.sketches[place] for place in places.tolist()] if len(self.sketches) else []
        return Parts(
            self.start[places],
            self.count[places],
            self.low[places],
            self.high[places],
            self.total[places],
            self.squares[places],
            self.last_ts[places],
            self.last_value[places],
            sketches,
        )


def nothing() -> Parts:
    """No part at all."""
    whole, real = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float64)
    return Parts(whole, whole, real, real, real, real, whole, real, [])


def of_rollups(numbers: Numbers, sketches: Sequence[bytes]) -> Parts:
    """Roll-ups as they are read from the store."""
    start, count, low, high, total, squares, last_ts, last_value = numbers.T
    return Parts(
        start.astype(np.int64),
        count.astype(np.int64),
        low,
        high,
        total,
        squares,
        last_ts.astype(np.int64),
        last_value,
        [from_bytes(sketch) for sketch in sketches],
    )


def of_points(ts: Millis, value: Numbers, edges: Millis, *, sketches: bool) -> Parts:
    """Readings (by time) added up per bucket; those outside of the edges are left out."""
    low, high = np.searchsorted(ts, [edges[0], edges[-1]])
    ts, value = ts[low:high], value[low:high]
    if not len(ts):
        return nothing()
    bucket = np.searchsorted(edges, ts, side="right") - 1
    firsts = np.flatnonzero(np.diff(bucket, prepend=-1))
    ends = np.append(firsts[1:], len(ts))
    sizes = ends - firsts
    # A sum beyond float64 is infinite, and shown as unknown.
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.add.reduceat(value, firsts)
        off = value - np.repeat(total / sizes, sizes)
        squares = _known_or_infinite(np.add.reduceat(off * off, firsts))
    found: list[Sketch] = []
    if sketches:
        keys = keys_of(value)
        for first, end in zip(firsts.tolist(), ends.tolist(), strict=True):
            some, counts = np.unique(keys[first:end], return_counts=True)
            found.append(Sketch(some, counts.astype(np.int64)))
    return Parts(
        edges[bucket[firsts]],
        sizes,
        np.minimum.reduceat(value, firsts),
        np.maximum.reduceat(value, firsts),
        total,
        squares,
        ts[ends - 1],
        value[ends - 1],
        found,
    )


def combined(parts: Sequence[Parts], edges: Millis) -> Parts:
    """Parts added up per bucket; each lies within one bucket, or outside and is left out."""
    present = [part for part in parts if len(part)]
    if not present:
        return nothing()
    start = np.concatenate([part.start for part in present])
    last_ts = np.concatenate([part.last_ts for part in present])
    bucket = np.searchsorted(edges, start, side="right") - 1
    order = np.lexsort((last_ts, bucket))
    order = order[(start[order] >= edges[0]) & (start[order] < edges[-1])]
    if not len(order):
        return nothing()
    firsts = np.flatnonzero(np.diff(bucket[order], prepend=-1))
    ends = np.append(firsts[1:], len(order))

    def column(name: str) -> NDArray[Any]:
        found: NDArray[Any] = np.concatenate([getattr(part, name) for part in present])[order]
        return found

    with np.errstate(over="ignore", invalid="ignore"):
        total, count = (np.add.reduceat(column(name), firsts) for name in ("total", "count"))
        off = column("total") / column("count") - np.repeat(total / count, ends - firsts)
        sums = np.add.reduceat(column("squares") + column("count") * off * off, firsts)
        squares = _known_or_infinite(sums)
    sketches = [sketch for part in present for sketch in part.sketches]
    return Parts(
        edges[bucket[order][firsts]],
        count,
        np.minimum.reduceat(column("low"), firsts),
        np.maximum.reduceat(column("high"), firsts),
        total,
        squares,
        last_ts[order][ends - 1],
        column("last_value")[ends - 1],
        [
            merged([sketches[place] for place in order[first:end]])
            for first, end in zip(firsts.tolist(), ends.tolist(), strict=True)
        ]
        if sketches
        else [],
    )


def _known_or_infinite(numbers: Numbers) -> Numbers:
    """A database may take NaN for NULL; what is beyond float64 is infinite."""
    return np.where(np.isnan(numbers), np.inf, numbers)
