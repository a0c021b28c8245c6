"""What becomes of each reading of a batch: stored, or refused and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hub.telemetry import clocks
from hub.telemetry.batch import Batch, Read
from hub.telemetry.resolving import SHUT_OUT, Resolver

NEW, DUPLICATE, RESTATED, REFUSED = range(4)
CODES = ("", "future", "clock_unset", "invalid", "unknown_device")
_FUTURE, _UNSET, _INVALID, _UNKNOWN = range(1, 5)


@dataclass(slots=True)
class Judged:
    """Aligned with the readings. `ts` is the time to store; `why` 0 or the place in `CODES`;
    `verdict` is final once the readings are written."""

    slots: NDArray[np.int64]
    message: NDArray[np.int64]
    told_ts: NDArray[np.int64]
    ts: NDArray[np.int64]
    received: NDArray[np.int64]
    why: NDArray[np.int64]
    verdict: NDArray[np.uint8]

    @property
    def good(self) -> NDArray[np.bool_]:
        """Those to store."""
        return np.equal(self.why, 0)

    def settle(self, verdicts: NDArray[np.uint8]) -> None:
        """What the writer said of the good ones."""
        self.verdict[self.good] = verdicts


@dataclass(frozen=True, slots=True)
class Policies:
    """Per message of a batch: its receipt and what its source thinks of clocks."""

    received: NDArray[np.int64]
    ahead: NDArray[np.int64]
    at_receipt: NDArray[np.bool_]


def policies(reads: Sequence[Read]) -> Policies:
    """The policies of these messages."""
    rules = [read.sender.source.clock for read in reads]
    return Policies(
        np.array([read.message.received_at for read in reads], np.int64),
        np.array([int(rule.future * 1000) for rule in rules], np.int64),
        np.array([rule.future_policy == "receive_time" for rule in rules], np.bool_),
    )


def judge(
    resolver: Resolver,
    rules: Policies,
    slots: NDArray[np.int64],
    ts: NDArray[np.int64],
    message: NDArray[np.int64],
    value: NDArray[np.float64] | None = None,
) -> Judged:
    """Readings whose slots are settled, by their clocks, values and devices."""
    received = rules.received[message]
    times = clocks.judge(ts, received, rules.ahead[message], rules.at_receipt[message])
    why = np.zeros(len(slots), np.int64)
    why[times.future] = _FUTURE
    why[times.unset] = _UNSET
    if value is not None:
        why[~np.isfinite(value)] = _INVALID
    why[resolver.series_ids.array[slots] == SHUT_OUT] = _UNKNOWN
    verdict = np.full(len(slots), REFUSED, np.uint8)
    return Judged(slots, message, ts, times.ts, received, why, verdict)


def judge_samples(resolver: Resolver, rules: Policies, batch: Batch) -> Judged:
    """The numbers of a batch."""
    rows = batch.columns
    return judge(resolver, rules, rows.slots, rows.ts, rows.message, rows.value)


def judge_texts(resolver: Resolver, rules: Policies, batch: Batch) -> Judged:
    """The texts of a batch."""
    rows = batch.texts
    return judge(resolver, rules, rows.slots, rows.ts, rows.message)


def code_of(resolver: Resolver, judged: Judged, place: int) -> str:
    """Why a refused reading is refused."""
    return resolver.codes.get(int(judged.slots[place])) or CODES[judged.why[place]]
