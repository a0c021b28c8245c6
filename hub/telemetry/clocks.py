"""Devices' clocks are not trusted: which readings have a time that can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hub.sdk.telemetry_clock import CLOCK_UNSET_BEFORE

LATE_MS = 300_000
"""Received so long after its own time a reading is late."""

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class Judged(NamedTuple):
    """Times to store, and what is refused (masks)."""

    ts: NDArray[np.int64]
    future: NDArray[np.bool_]
    unset: NDArray[np.bool_]


def as_times(times: Sequence[Any]) -> NDArray[np.int64]:
    """Times as an array; what no 64-bit number holds becomes the nearest one."""
    try:
        return np.array(times, np.int64)
    except OverflowError:
        return np.array([min(max(int(one), _LOWEST), _HIGHEST) for one in times], np.int64)


def judge(
    ts: NDArray[np.int64],
    received: NDArray[np.int64],
    ahead: NDArray[np.int64],
    at_receipt: NDArray[np.bool_],
) -> Judged:
    """`ahead`: how much later than its receipt a reading may be (ms); what is later yet is refused,
    or stored under the time of its receipt (`at_receipt`)."""
    # The sum cannot overflow: a receipt is a time of day, `ahead` a setting.
    future = ts > received + ahead
    stored = np.where(future & at_receipt, received, ts)
    return Judged(stored, future & ~at_receipt, ts < CLOCK_UNSET_BEFORE)


def offsets(ts: NDArray[np.int64], received: NDArray[np.int64]) -> NDArray[np.int64]:
    """How far ahead of its receipt each time is, within ±100 years."""
    century = 3_155_760_000_000
    within = np.clip(ts, received - century, received + century)
    return within - received
