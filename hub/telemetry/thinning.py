"""Fewer points for a chart: what is left keeps every peak and every dip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST = 4


def thinned(
    ts: NDArray[np.int64], value: NDArray[np.float64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """At most `most` (4 or more) of the points, by time: of each slice of time the lowest and the
    highest, and the first and last of all. None is made up."""
    if len(ts) <= most:
        return ts, value
    slices = max((most - 2) // 2, 1)
    width = max(-(-(int(ts[-1]) - int(ts[0]) + 1) // slices), 1)
    piece = (ts - ts[0]) // width
    order = np.lexsort((value, piece))
    firsts = np.flatnonzero(np.diff(piece[order], prepend=-1))
    lows, highs = order[firsts], order[np.append(firsts[1:], len(order)) - 1]
    kept = np.unique(np.concatenate([[0], lows, highs, [len(ts) - 1]]))
    return ts[kept], value[kept]
