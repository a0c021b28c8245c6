"""One batch of messages becomes one transaction: readings, texts, newest values, counts, refusals,
outcomes and the log of changed hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from hub.store.telemetry import devices as registry
from hub.store.telemetry.changes import append_change
from hub.store.telemetry.outcomes import add_outcomes
from hub.store.telemetry.quarantine import add_quarantined
from hub.telemetry import tally
from hub.telemetry.batch import Batch, each_told
from hub.telemetry.judging import Judged, judge_samples, judge_texts, policies
from hub.telemetry.refusals import refused_rows
from hub.telemetry.resolving import Resolver

ATTRIBUTE_BYTES = 65_536
"""What a device may tell of itself, as JSON."""


class Written(Protocol):
    """What the writer made of readings: a verdict each, and the changed hours (series, start)."""

    @property
    def verdict(self) -> NDArray[np.uint8]: ...
    @property
    def hours(self) -> NDArray[np.int64]: ...


class Writer(Protocol):
    """Where readings go; rows are in order of receipt, of one identity the last one wins."""

    def write(
        self,
        connection: Connection,
        series: NDArray[np.int64],
        ts: NDArray[np.int64],
        value: NDArray[np.float64],
    ) -> Written: ...

    def write_texts(self, connection: Connection, rows: Sequence[tuple[int, int, str]]) -> Any: ...


class LastKnown(NamedTuple):
    """Readings of unknown time: slots of series, values, receipts."""

    slots: list[int]
    values: list[float]
    received: list[int]


class Projection:
    """Writes batches. What it remembers of a transaction counts after `keep`, not after `undo`."""

    def __init__(self, resolver: Resolver, writer: Writer) -> None:
        self._resolver = resolver
        self._writer = writer
        self._told: dict[int, dict[str, Any]] = {}

    def keep(self) -> None:
        """The transaction is committed."""
        self._resolver.keep()
        if len(self._told) > 100_000:
            self._told.clear()

    def undo(self) -> None:
        """The transaction left no trace."""
        self._resolver.undo()
        self._told.clear()

    def project(self, connection: Connection, batch: Batch, now: int) -> NDArray[np.int64]:
        """Write everything but the log of changes; the changed hours."""
        known = _last_known(batch)
        self._settle(connection, batch, known, now)
        rules = policies(batch.reads)
        judged = judge_samples(self._resolver, rules, batch)
        texts = judge_texts(self._resolver, rules, batch)
        hours = self._write(connection, batch, judged)
        self._write_texts(connection, batch, texts)
        self._tell_devices(connection, batch)
        registry.add_seen(connection, tally.seen_devices(self._resolver, batch, judged, texts))
        newest = tally.latest(self._resolver, judged, batch)
        registry.set_latest(connection, newest)
        registry.set_last_known(connection, self._numbered(known))
        add_quarantined(connection, refused_rows(self._resolver, batch, judged, texts))
        add_outcomes(connection, tally.outcomes(batch, judged, texts, now))
        return hours

    def _settle(self, connection: Connection, batch: Batch, known: LastKnown, now: int) -> None:
        self._resolver.look_at_registry(connection)
        slots = [batch.columns.slots, batch.texts.slots, np.array(known.slots, np.int64)]
        named = {slot for read in batch.reads for slot in tally.devices_of(read)}
        senders = {read.sender.own for read in batch.reads}
        for read in batch.reads:
            for name, kind in read.decoded.kinds.items():
                slot = read.sender.device(name)
                if slot is not None and slot >= 0:
                    self._resolver.name_it(slot, kind)
        self._resolver.settle(connection, np.concatenate(slots), named | senders, now)

    def _write(self, connection: Connection, batch: Batch, judged: Judged) -> NDArray[np.int64]:
        good = judged.good
        if not good.any():
            return np.zeros((0, 2), np.int64)
        series = self._resolver.series_ids.array[judged.slots[good]]
        rows = series, judged.ts[good], batch.columns.value[good]
        written = self._writer.write(connection, *rows)
        judged.settle(written.verdict)
        return written.hours

    def _write_texts(self, connection: Connection, batch: Batch, texts: Judged) -> None:
        good = np.flatnonzero(texts.good)
        if not len(good):
            return
        series = self._resolver.series_ids.array[texts.slots[good]].tolist()
        said = [batch.texts.text[place] for place in good.tolist()]
        rows = list(zip(series, texts.ts[good].tolist(), said, strict=True))
        texts.settle(np.asarray(self._writer.write_texts(connection, rows), np.uint8))

    def _tell_devices(self, connection: Connection, batch: Batch) -> None:
        told: dict[int, dict[str, Any]] = {}
        for slot, attributes in each_told(batch, lambda decoded: decoded.attributes):
            number = self._resolver.device_id(slot)
            if number is not None and not _holds(self._told.get(number, {}), attributes):
                told.setdefault(number, {}).update(attributes)
        registry.merge_attributes(connection, told, ATTRIBUTE_BYTES)
        for number, attributes in told.items():
            self._told.setdefault(number, {}).update(attributes)
        registry.set_online(connection, self._states(batch))

    def _states(self, batch: Batch) -> list[tuple[int, str, int]]:
        """The newest state of each device."""
        newest: dict[int, tuple[int, str, int]] = {}
        for read in batch.reads:
            for name, state, ts in read.decoded.states:
                slot = read.sender.device(name)
                number = None if slot is None else self._resolver.device_id(slot)
                if number is None:
                    continue
                since = min(ts, read.message.received_at)  # a fast clock must not outlast the truth
                if number not in newest or newest[number][2] <= since:
                    newest[number] = number, state, since
        return list(newest.values())

    def _numbered(self, known: LastKnown) -> list[tuple[int, float, int]]:
        newest: dict[int, tuple[int, float, int]] = {}
        for slot, value, received in zip(*known, strict=True):
            series = int(self._resolver.series_ids.array[slot])
            if series > 0 and np.isfinite(value):
                newest[series] = series, value, received
        return list(newest.values())


def _last_known(batch: Batch) -> LastKnown:
    found = LastKnown([], [], [])
    for read in batch.reads:
        for device, metric, _ts, value in read.decoded.last_known:
            found.slots.append(read.sender.series[device, metric])
            found.values.append(float(value))
            found.received.append(read.message.received_at)
    return found


def _holds(known: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool:
    return all(name in known and known[name] == value for name, value in attributes.items())


def log_change(connection: Connection, hours: NDArray[np.int64], now: int) -> None:
    """Tell the consumers; last in the transaction, see `append_change`."""
    if len(hours):
        append_change(connection, hours, now)
