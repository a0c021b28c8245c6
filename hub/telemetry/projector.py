"""The projector: raw messages become readings, each message once.

    read a batch of messages → decode → one transaction: readings … position → the next batch

The position and what it stands for are committed together, so a process may die at any moment.
A message that cannot be read or stored is quarantined and never stops those behind it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from hub.sdk.errors import LostRace
from hub.sdk.telemetry import Decode
from hub.sdk.telemetry_source import TelemetrySource
from hub.store.crash import crash_point
from hub.store.database import Store
from hub.store.telemetry.inbox import StoredMessage
from hub.store.telemetry.outcomes import trim_outcomes
from hub.store.telemetry.positions import advance_held
from hub.telemetry.batch import Batch, Read, Reader, make_batch, refused_whole
from hub.telemetry.careful import Care
from hub.telemetry.feed import Feed, Taken
from hub.telemetry.leases import Leases
from hub.telemetry.projection import Projection, Writer, log_change
from hub.telemetry.resolving import Resolver
from hub.telemetry.troubles import Trouble, trouble_of

FEWEST_READINGS, MOST_READINGS = 10_000, 200_000
"""Of a transaction, when more wait."""

TRANSACTION_SECONDS = 1.0
MOST_BYTES = 8_388_608
MOST_MESSAGES = 20_000
_FIRST_READING_BYTES = 20.0
_MOST_REDOS = 50
_HOUSEKEEPING_SECONDS = 20.0

log = logging.getLogger("hub.telemetry.projector")


class Progress(NamedTuple):
    """What a step did, and how many messages still wait in the parts this process holds."""

    messages: int
    readings: int
    lag: int


@dataclass(frozen=True, slots=True)
class Setup:
    """What a projector works with. `now_ms` is UTC milliseconds; `clash` is what the writer raises
    when another process changed the same readings meanwhile."""

    store: Store
    feed: Feed
    sources: Mapping[str, TelemetrySource]
    decoders: Mapping[str, Decode]
    writer: Writer
    now_ms: Callable[[], int]
    clash: type[Exception]


class Projector:
    """Works on the parts that `leases` holds."""

    def __init__(self, setup: Setup, leases: Leases, care: Care) -> None:
        self._setup = setup
        self._leases = leases
        self._care = care
        self._resolver = Resolver(setup.sources)
        self._reader = Reader(setup.decoders, self._resolver)
        self._projection = Projection(self._resolver, setup.writer)
        self._most = 50_000
        self._reading_bytes = _FIRST_READING_BYTES
        self._tidied = time.monotonic()

    def step(self) -> Progress:
        """Project the next batch, if messages wait. Raises SQLAlchemyError when the store is
        away, TransientError when the bus is."""
        self._leases.renew()
        self._resolver.make_room()
        self._tidy()
        try:
            messages, waiting = self._next()
            if not messages:
                return Progress(0, 0, 0)
            batch = make_batch(self._read(messages))
            begun = time.monotonic()
            self._project(batch)
        except LostRace:
            self._leases.forget()
            return Progress(0, 0, 0)
        readings = len(batch.columns) + len(batch.texts.text)
        self._adapt(batch, readings, time.monotonic() - begun)
        return Progress(len(batch.reads), readings, waiting - len(batch.reads))

    def _next(self) -> Taken:
        """The messages to project next, part by part, and how many wait."""
        most = int(min(MOST_BYTES, max(65_536, self._most * self._reading_bytes)))
        return self._setup.feed.take(self._leases.held, most, MOST_MESSAGES)

    def _read(self, messages: list[StoredMessage]) -> list[Read]:
        if not self._care.singly:
            return self._reader.read(messages, self._most)
        if self._care.kills(messages[0], self._setup.now_ms()):
            log.error(
                "message %d of part %d kills the projector", messages[0].seq, messages[0].part
            )
            return [self._reader.unread(messages[0], "it ends the process that reads it")]
        return self._reader.read(messages[:1], self._most)

    def _project(self, batch: Batch) -> None:
        """Commit a batch; what the store does not take of it is quarantined."""
        for left in reversed(range(_MOST_REDOS)):
            try:
                self._commit(batch)
            except Exception as error:
                self._projection.undo()
                trouble = (
                    Trouble.AGAIN if isinstance(error, self._setup.clash) else trouble_of(error)
                )
                if trouble is Trouble.STORE or (trouble is Trouble.AGAIN and not left):
                    raise
                if trouble is Trouble.MESSAGE:
                    self._part_with(batch, error)
                    return
                time.sleep(0.002 * (_MOST_REDOS - left))
            else:
                return

    def _part_with(self, batch: Batch, error: Exception) -> None:
        """Something in the batch cannot be stored: halve it until it is found."""
        if len(batch.reads) > 1:
            for half in batch.split():
                self._project(half)
            return
        read = batch.reads[0]
        message = read.message
        from_database = isinstance(error, sa.exc.DBAPIError)
        kind = type(error.orig if isinstance(error, sa.exc.DBAPIError) else error).__name__
        log.error(
            "message %d of part %d cannot be stored: %s",
            message.seq,
            message.part,
            kind,
            exc_info=None if from_database else error,
        )
        self._project_refused(make_batch([refused_whole(read, f"store: {kind}")]))

    def _project_refused(self, batch: Batch) -> None:
        try:
            self._commit(batch)
        except BaseException:
            self._projection.undo()
            raise

    def _commit(self, batch: Batch) -> None:
        now = self._setup.now_ms()
        ends = batch.ends()
        with self._setup.store.transaction() as connection:
            hours = self._projection.project(connection, batch, now)
            for part, (_first, last) in sorted(ends.items()):
                mine = self._leases.owner, self._leases.held[part]
                if not advance_held(connection, part, *mine, last, now):
                    raise LostRace("telemetry.lost_part", part=part)
            log_change(connection, hours, now)
            crash_point("projector.before_commit")
        crash_point("projector.after_commit")
        self._projection.keep()
        for part, (_first, last) in ends.items():
            self._leases.held[part] = last

    def _adapt(self, batch: Batch, readings: int, seconds: float) -> None:
        """Aim at transactions of about a second under load."""
        if readings < 1000:
            return
        size = sum(len(read.message.body) for read in batch.reads)
        self._reading_bytes += (size / readings - self._reading_bytes) * 0.3
        fitting = int(readings / max(seconds, 0.001) * TRANSACTION_SECONDS)
        self._most = min(MOST_READINGS, max(FEWEST_READINGS, (self._most + fitting) // 2))

    def _tidy(self) -> None:
        if time.monotonic() - self._tidied < _HOUSEKEEPING_SECONDS:
            return
        self._tidied = time.monotonic()
        with self._setup.store.transaction() as connection:
            trim_outcomes(connection, self._setup.now_ms())
