"""Readings into chunks: what is new, what came before, what was said again with another value.

A batch and the chunks that it touches are merged as a whole: the stored points count as rows that
came before the batch. So readings that are late, repeated or out of order take the same way as
all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from hub.sdk.errors import Clash
from hub.store.telemetry.chunks import HOUR_MS, Found, Kept, Span, find_chunks, keep_chunks
from hub.store.telemetry.codec import Floats, Ints, decode_many, encode_many
from hub.store.telemetry.texts import TextRow, write_texts

__all__ = [
    "DUPLICATE",
    "NEW",
    "RESTATED",
    "Clash",
    "SeriesWriter",
    "TextRow",
    "Written",
    "write_texts",
]

NEW, DUPLICATE, RESTATED = 0, 1, 2
MOST_POINTS = 1024
"""A chunk with so many gets a successor for what comes later."""


@dataclass(frozen=True, slots=True)
class Written:
    """`verdict`: one of NEW, DUPLICATE, RESTATED per row of the batch, in its order.

    `hours`: the (series, start of a UTC hour in ms) whose readings have changed, in order.
    """

    verdict: NDArray[np.uint8]
    hours: Ints


class SeriesWriter:
    """Writes numbers. It keeps nothing between two calls, so any number may be at work."""

    def write(self, connection: Connection, series: Ints, ts: Ints, value: Floats) -> Written:
        """Rows in the order of receipt: of one series and time the last wins.

        Raises Clash when another process changed one of the chunks; nothing is kept then once the
        caller's transaction is undone, and it may be done again.
        """
        batch = _Batch(series, ts, value)
        if not batch.spans:
            return Written(np.zeros(0, np.uint8), np.zeros((0, 2), np.int64))
        merged = _Merged(batch, find_chunks(connection, batch.spans))
        keep_chunks(connection, merged.chunks())
        spans = np.unique(merged.spans[merged.changed])
        hours = np.column_stack((batch.series[batch.firsts[spans]], batch.hours[spans]))
        return Written(merged.verdict, hours)


class _Batch:
    """The rows by series and time, and the spans (series and hour) they fall into."""

    def __init__(self, series: Ints, ts: Ints, value: Floats) -> None:
        self.order = np.lexsort((ts, series))  # stable: of equal ones the later comes later
        self.series, self.ts, self.value = series[self.order], ts[self.order], value[self.order]
        hours = self.ts // HOUR_MS
        fresh = np.ones(len(hours), np.bool_)
        fresh[1:] = (hours[1:] != hours[:-1]) | (self.series[1:] != self.series[:-1])
        self.firsts = np.flatnonzero(fresh)
        self.counts = np.diff(self.firsts, append=len(hours))
        lasts = self.firsts + self.counts - 1
        self.hours = hours[self.firsts] * HOUR_MS
        columns = (self.series[self.firsts], self.hours, self.ts[self.firsts], self.ts[lasts])
        self.spans = [Span(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


class _Merged:
    """A batch laid over the chunks it touches; `spans`, `starts` … have one entry per chunk.

    A point's key is its place on one line of time on which the spans lie end to end, an hour each.
    """

    def __init__(self, batch: _Batch, found: list[Found]) -> None:
        self._batch = batch
        counts, ts, values = decode_many([one.points for one in found])
        self._open(found)
        old_spans = np.repeat(np.array([one.span for one in found], np.int64), counts)
        new_spans = np.repeat(np.arange(len(batch.spans)), batch.counts)
        keys = np.concatenate((self._keys(old_spans, ts), self._keys(new_spans, batch.ts)))
        # Two ascending runs: a stable sort merges them, with stored points before rows of one time.
        order = np.argsort(keys, kind="stable")
        keys, values = keys[order], np.concatenate((values, batch.value))[order]
        is_old = order < len(ts)
        again = np.zeros(len(keys), np.bool_)
        again[1:] = keys[1:] == keys[:-1]
        verdict = self._verdicts(again, values)
        self.verdict = np.empty(len(batch.order), np.uint8)
        self.verdict[batch.order[order[~is_old] - len(ts)]] = verdict[~is_old]
        groups = np.searchsorted(self._keys(self.spans, self.starts), keys, side="right") - 1
        self.changed = np.zeros(len(self.spans), np.bool_)
        self.changed[groups[~is_old & (verdict != DUPLICATE)]] = True
        last = np.append(~again[1:], True) & self.changed[groups]
        self._keys_kept, self._values, self._groups = keys[last], values[last], groups[last]
        self._is_old = is_old[last]

    def _open(self, found: list[Found]) -> None:
        """One entry per chunk found, and one per hour that has none yet at its first reading."""
        rows = [(one.span, one.start, one.version) for one in found]
        reached = {one.span for one in found if one.start <= self._batch.spans[one.span].first}
        rows += [
            (place, span.hour, 0)
            for place, span in enumerate(self._batch.spans)
            if place not in reached
        ]
        rows.sort()
        self.spans, self.starts, self.versions = np.array(rows, np.int64).T

    def _keys(self, spans: Ints, ts: Ints) -> Ints:
        return spans * HOUR_MS + (ts - self._batch.hours[spans])

    @staticmethod
    def _verdicts(again: NDArray[np.bool_], values: Floats) -> NDArray[np.uint8]:
        bits = values.view(np.int64)
        same = np.zeros(len(bits), np.bool_)
        same[1:] = bits[1:] == bits[:-1]
        return np.where(again, np.where(same, DUPLICATE, RESTATED), NEW).astype(np.uint8)

    def chunks(self) -> list[Kept]:
        """The changed chunks as they are to be kept, cut where they have grown too long."""
        if not len(self._groups):
            return []
        firsts, groups, ts = self._pieces()
        head = np.ones(len(groups), np.bool_)
        head[1:] = groups[1:] != groups[:-1]
        lasts = np.append(firsts[1:], len(ts)) - 1
        columns = (
            self._batch.series[self._batch.firsts[self.spans[groups]]],
            np.where(head, self.starts[groups], ts[firsts]),
            np.where(head, self.versions[groups] + 1, 1),
            lasts - firsts + 1,
            ts[lasts],
            np.minimum.reduceat(self._values, firsts),
            np.maximum.reduceat(self._values, firsts),
            _totals(self._values, firsts),
        )
        packed = encode_many(ts, self._values, firsts)
        return list(map(Kept, *(column.tolist() for column in columns), packed))

    def _pieces(self) -> tuple[Ints, Ints, Ints]:
        """Where each piece begins among the points, the chunk it comes from, and all times."""
        ends = np.append(np.flatnonzero(np.diff(self._groups)), len(self._groups) - 1) + 1
        sizes = np.diff(ends, prepend=0)
        parts = -(-sizes // MOST_POINTS)
        # Full pieces when the new comes at the end; after an insertion halves, so that the next
        # one finds room.
        lengths = np.where(self._is_old[ends - 1], -(-sizes // parts), MOST_POINTS)
        nth = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
        firsts = np.repeat(ends - sizes, parts) + nth * np.repeat(lengths, parts)
        spans = self.spans[self._groups]
        ts = self._keys_kept - spans * HOUR_MS + self._batch.hours[spans]
        return firsts, self._groups[firsts], ts


def _totals(values: Floats, firsts: Ints) -> Floats:
    """The sums per piece; infinite only if the sum itself is beyond float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        totals = np.add.reduceat(values, firsts)
        for place in np.flatnonzero(~np.isfinite(totals)).tolist():
            until = firsts[place + 1] if place + 1 < len(firsts) else len(values)
            totals[place] = math.fsum(values[firsts[place] : until] / 2.0**20) * 2.0**20
    return totals
