"""From parts to the columns of an answer: min, max, mean, count, sum, last, std, percentiles."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hub.sdk.errors import ConfigError
from hub.telemetry.buckets import Parts
from hub.telemetry.sketch import rank_of

PLAIN = ("min", "max", "mean", "count", "sum", "last", "std")
DEFAULT = ("min", "mean", "max")

_PERCENTILE = re.compile(r"p([0-9]{1,2}|100|[0-9]{1,2}\.[0-9]{1,3})")

Column = list[float | int | None]


def percent_of(name: str) -> float | None:
    """95.0 for `p95`; None for another aggregate."""
    found = _PERCENTILE.fullmatch(name)
    return None if found is None else float(found[1])


def checked(names: Sequence[str]) -> tuple[str, ...]:
    """The aggregates asked for, each once. Raises ConfigError."""
    for name in names:
        if name not in PLAIN and percent_of(name) is None:
            known = ", ".join([*PLAIN, "p50", "p95", "p99"])
            raise ConfigError("telemetry.aggregate", value=name, known=known)
    return tuple(dict.fromkeys(names)) or DEFAULT


def columns_of(
    parts: Parts, names: Sequence[str], exact: dict[float, NDArray[np.float64]] | None = None
) -> dict[str, Column]:
    """A column per aggregate; `exact` has percentiles that are known without sketches."""
    return {name: _column(parts, name, exact or {}) for name in names}


def _column(parts: Parts, name: str, exact: dict[float, NDArray[np.float64]]) -> Column:
    percent = percent_of(name)
    if percent is not None:
        return _known(exact[percent] if percent in exact else _estimates(parts, percent))
    if name == "count":
        return list(parts.count.tolist())
    with np.errstate(over="ignore", invalid="ignore"):
        mean = parts.total / parts.count
        found = {
            "min": parts.low,
            "max": parts.high,
            "sum": parts.total,
            "last": parts.last_value,
            "mean": np.clip(mean, parts.low, parts.high),
            "std": np.sqrt(parts.squares / parts.count),
        }[name]
    return _known(np.where(np.isfinite(parts.total), found, np.nan) if name == "mean" else found)


def _estimates(parts: Parts, percent: float) -> NDArray[np.float64]:
    found = np.array([sketch.percentiles([percent])[0] for sketch in parts.sketches])
    inside: NDArray[np.float64] = np.clip(found, parts.low, parts.high)
    return inside


def exact_percentiles(
    value: NDArray[np.float64], count: NDArray[np.int64], percents: Sequence[float]
) -> dict[float, NDArray[np.float64]]:
    """Nearest-rank percentiles of consecutive groups of so many values."""
    group = np.repeat(np.arange(len(count)), count)
    by_size = value[np.lexsort((value, group))]
    firsts = np.cumsum(count) - count
    found = {}
    for percent in percents:
        ranks = [rank_of(percent, size) - 1 for size in count.tolist()]
        found[percent] = by_size[firsts + np.array(ranks, dtype=np.int64)]
    return found


def _known(values: NDArray[np.float64]) -> Column:
    return [value if math.isfinite(value) else None for value in values.tolist()]
