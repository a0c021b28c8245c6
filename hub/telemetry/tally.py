"""Counting: per device for the operator, per message for who asked, newest values per series."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hub.sdk.telemetry import RETAINED
from hub.sdk.telemetry_clock import CLOCK_UNSET_BEFORE
from hub.store.telemetry.devices import Latest, Seen
from hub.store.telemetry.outcomes import Outcome
from hub.telemetry.batch import Batch, Read
from hub.telemetry.clocks import LATE_MS, offsets
from hub.telemetry.judging import DUPLICATE, NEW, REFUSED, RESTATED, Judged
from hub.telemetry.resolving import Resolver

_UNKNOWN = np.iinfo(np.int64).min
_BOOLEANS = ("true", "false")


def seen_devices(resolver: Resolver, batch: Batch, judged: Judged, texts: Judged) -> list[Seen]:
    """What the batch adds to each device it comes from or speaks of."""
    readings = _joined(judged, _without_mirrored(batch, texts))
    touched, touched_at = _touched(resolver, batch)
    refused = _refused_parts(batch)
    of = np.concatenate([resolver.device_of.array[readings.slots], touched])
    slots, place = np.unique(of, return_inverse=True)
    count = _Counts(place, len(slots), len(readings.slots))
    old = _retained(batch)[readings.message]
    ahead = offsets(readings.told_ts, readings.received)
    ahead[old | (readings.told_ts < CLOCK_UNSET_BEFORE)] = _UNKNOWN
    received = np.where(old, _UNKNOWN, readings.received)
    stored = readings.verdict != REFUSED
    kept = (readings.verdict == NEW) | (readings.verdict == RESTATED)
    late = readings.received - readings.ts > LATE_MS
    columns = zip(
        slots.tolist(),
        count.most(np.concatenate([received, touched_at])),
        count.most(np.where(stored, readings.ts, _UNKNOWN)),
        count.most(ahead),
        count.number(kept),
        count.number(kept & late),
        count.number(readings.verdict == DUPLICATE),
        count.number(readings.verdict == RESTATED),
        count.number(~stored),
        strict=True,
    )
    return list(_as_seen(resolver, columns, refused))


def _as_seen(
    resolver: Resolver,
    columns: Iterator[tuple[int | None, ...]] | zip[tuple[int | None, ...]],
    refused: Counter[int],
) -> Iterator[Seen]:
    for slot, *counts in columns:
        number = resolver.device_id(slot or 0)
        if number is not None:
            seen = Seen(number, *counts)  # type: ignore[arg-type]  # counts are never None
            yield seen._replace(quarantined=seen.quarantined + refused[slot or 0])


class _Counts:
    """Sums and maxima per group; `place` is each row's group, the first `rows` are readings."""

    def __init__(self, place: NDArray[np.int64], groups: int, rows: int) -> None:
        self._place, self._groups, self._rows = place, groups, rows
        self._order = np.argsort(place, kind="stable")
        self._starts = np.searchsorted(place[self._order], np.arange(groups))

    def number(self, mask: NDArray[np.bool_]) -> list[int]:
        """How many of the readings are marked."""
        counts: list[int] = np.bincount(
            self._place[: self._rows][mask], minlength=self._groups
        ).tolist()
        return counts

    def most(self, numbers: NDArray[np.int64]) -> list[int | None]:
        """The greatest number; None where there is none."""
        if not self._groups:
            return []
        short = len(self._place) - len(numbers)
        padded = np.concatenate([numbers, np.full(short, _UNKNOWN)]) if short else numbers
        found = np.maximum.reduceat(padded[self._order], self._starts).tolist()
        return [None if one == _UNKNOWN else one for one in found]


def _joined(samples: Judged, texts: Judged) -> Judged:
    if not len(texts.slots):
        return samples
    names = Judged.__slots__
    return Judged(*(np.concatenate([getattr(samples, n), getattr(texts, n)]) for n in names))


def _touched(resolver: Resolver, batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Devices that a message comes from, or names without a reading, and its receipt.

    A message of last known values only says nothing of now, nor does a retained one.
    """
    rows: list[tuple[int, int]] = []
    for read in batch.reads:
        if _is_retained(read):
            # Counted like the others, but not as seen.
            rows += [(slot, _UNKNOWN) for slot in (read.sender.own, *devices_of(read))]
            continue
        at = read.message.received_at
        decoded = read.decoded
        said = decoded.samples or decoded.texts or decoded.states or decoded.refused
        if said or decoded.attributes or decoded.kinds or not decoded.last_known:
            rows.append((read.sender.own, at))
        rows += [(slot, at) for slot in devices_of(read)]
    rows = [row for row in rows if row[0] >= 0]
    both = np.array(rows, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _retained(batch: Batch) -> NDArray[np.bool_]:
    return np.array([_is_retained(read) for read in batch.reads], np.bool_)


def _is_retained(read: Read) -> bool:
    """Whether a broker had kept the message: nobody knows when it was sent."""
    details = read.message.details
    # Most messages do not have the word; only the others are looked into.
    try:
        return RETAINED in details and json.loads(details).get(RETAINED) == "1"
    except ValueError:
        return False  # it is in the quarantine


def devices_of(read: Read) -> Iterator[int]:
    """Slots of the devices that a message names besides its readings."""
    decoded, sender = read.decoded, read.sender
    names = [*decoded.attributes, *decoded.kinds, *(one[0] for one in decoded.states)]
    names += [one.device for one in decoded.refused if one.device]
    for name in names:
        slot = sender.device(name)
        if slot is not None and slot >= 0:
            yield slot


def _refused_parts(batch: Batch) -> Counter[int]:
    """Parts refused when the message was read, by the slot of the device (or else the sender)."""
    found: Counter[int] = Counter()
    for read in batch.reads:
        for one in read.decoded.refused:
            slot = read.sender.device(one.device)
            found[read.sender.own if slot is None or slot < 0 else slot] += 1
    return found


def latest(resolver: Resolver, judged: Judged, batch: Batch) -> list[Latest]:
    """The newest reading of each series of the batch; of two at one time the later received.

    A retained one counts as received when it was taken: it has been at the broker since.
    """
    chosen = np.flatnonzero((judged.verdict == NEW) | (judged.verdict == RESTATED))
    if not len(chosen):
        return []
    series = resolver.series_ids.array[judged.slots[chosen]]
    ts = judged.ts[chosen]
    order = np.lexsort((ts, series))
    last = order[np.append(series[order][1:] != series[order][:-1], True)]
    at = chosen[last]
    old = _retained(batch)[judged.message[at]]
    received = np.where(old, np.minimum(ts[last], judged.received[at]), judged.received[at])
    columns = (series[last], ts[last], batch.columns.value[at], received)
    return [Latest(*row) for row in zip(*(one.tolist() for one in columns), strict=True)]


def outcomes(batch: Batch, judged: Judged, texts: Judged, now: int) -> list[Outcome]:
    """Counts of the messages that asked for them."""
    asked = [place for place, read in enumerate(batch.reads) if read.message.counted]
    if not asked:
        return []
    told = _joined(judged, _without_mirrored(batch, texts))
    counts = {
        verdict: np.bincount(told.message[told.verdict == verdict], minlength=len(batch.reads))
        for verdict in (NEW, DUPLICATE, RESTATED, REFUSED)
    }
    return [
        _outcome(batch.reads[at], [int(one[at]) for one in counts.values()], now) for at in asked
    ]


def _outcome(read: Read, counts: list[int], now: int) -> Outcome:
    new, duplicates, restated, refused = counts
    refused += len(read.decoded.refused)
    message = read.message
    return Outcome(message.part, message.seq, new + restated, duplicates, restated, refused, now)


def _without_mirrored(batch: Batch, texts: Judged) -> Judged:
    """Texts without those that stand beside a number: a boolean is one reading."""
    if not len(texts.slots):
        return texts
    alone: list[bool] = []  # in the order of `texts`: message after message
    for read in batch.reads:
        said = read.decoded.texts
        if any(one[3] in _BOOLEANS for one in said):
            numbers = {(one[0], one[1], one[2]) for one in read.decoded.samples}
            alone += [one[3] not in _BOOLEANS or tuple(one[:3]) not in numbers for one in said]
        else:
            alone += [True] * len(said)
    if all(alone):
        return texts
    kept = np.array(alone, np.bool_)
    return Judged(*(getattr(texts, name)[kept] for name in Judged.__slots__))
