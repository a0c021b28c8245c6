"""Keeping raw messages: whatever waits is written in one transaction, and only then thanked for.

Messages of one sender are kept in the order in which they were given: one queue, one writer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol
from zlib import crc32

import sqlalchemy as sa

from hub.sdk.errors import HubError, TransientError
from hub.sdk.telemetry import Message, Receipt
from hub.store.database import AtOnce, Store, is_disk_full
from hub.store.group_commit import RETRY_LATER, GroupCommit, Limits, Reasons
from hub.store.rows import encode_json
from hub.store.telemetry.inbox import NewMessage, Placed, append

ANSWER_SECONDS = 25.0
"""After that a message is not known to be kept; its sender sends it again."""

QUEUE = Limits(items=20_000, bytes=128_000_000)
_BATCH = Limits(items=2_000, bytes=16_000_000)
_REASONS = Reasons("telemetry.disk_full", "telemetry.store", "telemetry.failed")
_RETRY_SOON = 1.0
_OVERHEAD = 256

Stores = Callable[[], Store]
"""The store, opened when it is first asked for. Raises ConfigError."""

Settled = list[tuple["Waiting", Receipt]]

log = logging.getLogger("hub.telemetry.ingest")


class Waiting(NamedTuple):
    """A message on its way into the inbox, and who waits for it."""

    message: NewMessage
    future: asyncio.Future[Receipt]
    overdue: asyncio.TimerHandle
    loop: asyncio.AbstractEventLoop
    size: int


class Keeper(Protocol):
    """Keeps messages elsewhere than in the table."""

    def keep(
        self, messages: Sequence[NewMessage], table: Callable[[Sequence[NewMessage]], list[Receipt]]
    ) -> list[Receipt]:
        """Where each message is safe now; `table` keeps those that do not fit."""


class Ingest:
    """The way into the inbox, for one process. `counts`: messages by how they ended.

    `make_room` is asked when the disk is full, and says whether it found something to delete.
    """

    def __init__(
        self,
        inbox: Stores,
        parts: int,
        limits: Limits = QUEUE,
        make_room: Callable[[], bool] = lambda: False,
        keeper: Keeper | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.queue = GroupCommit[Waiting, list[Receipt]]("hub-ingest", self, _BATCH, _REASONS)
        self._inbox = inbox
        self._parts = parts
        self._limits = limits
        self._make_room = make_room
        self._keeper = keeper
        self._at_once: AtOnce | None = None

    def room(self) -> float:
        """How much of the queue is free, 1.0 … 0.0."""
        items, size = self._limits
        used = max(self.queue.waiting / items, self.queue.waiting_bytes / size)
        return max(0.0, 1.0 - used)

    def keep(self, message: Message) -> asyncio.Future[Receipt]:
        """Queue a message; the future is settled once it is safe, or not known to be.

        Raises TransientError (`telemetry.overload`) when too much waits already.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Receipt] = loop.create_future()
        new = self._new(message)
        overdue = loop.call_later(ANSWER_SECONDS, _give_up, future)
        size = len(new.body) + len(new.details) + _OVERHEAD
        if not self.queue.put(Waiting(new, future, overdue, loop, size), self._limits):
            overdue.cancel()
            self.counts["overload"] += 1
            raise TransientError("telemetry.overload", retry_after=_RETRY_SOON)
        return future

    def close(self) -> None:
        """Write and settle what waits, and take nothing more."""
        self.queue.close()

    def _new(self, message: Message) -> NewMessage:
        sender, details = message.sender, message.details
        return NewMessage(
            part_of(sender.source, sender.device, self._parts),
            message.received_at,
            sender.source,
            sender.device,
            int(sender.gateway),
            message.format,
            encode_json(dict(details)).decode() if details else "",
            int(message.counted),
            message.body,
            message.key,
        )

    # --- on the writer's thread -----------------------------------------------------------------

    def commit(self, batch: Sequence[Waiting]) -> list[Receipt]:
        """Where each message is safe now."""
        messages = [one.message for one in batch]
        if self._keeper is None:
            return self._to_table(messages)
        return self._keeper.keep(messages, self._to_table)

    def _to_table(self, messages: Sequence[NewMessage]) -> list[Receipt]:
        placed = zip(messages, self._placed(messages), strict=True)
        return [Receipt(seq, duplicate, one.part) for one, (seq, duplicate) in placed]

    def _placed(self, messages: Sequence[NewMessage]) -> list[Placed]:
        """One transaction; a full disk is met by deleting what is not needed any more."""
        try:
            return self._append(messages)
        except sa.exc.DBAPIError as error:
            # A kept connection is not asked first whether it still leads anywhere.
            again = error.connection_invalidated or (is_disk_full(error) and self._make_room())
            if not again:
                raise
        return self._append(messages)

    def _append(self, messages: Sequence[NewMessage]) -> list[Placed]:
        store = self._opened()
        if self._at_once is None:
            self._at_once = AtOnce(store)
        single = not any(message.key for message in messages)
        transaction = self._at_once.transaction if single else store.transaction
        with transaction() as connection:
            return append(connection, messages)

    def _opened(self) -> Store:
        try:
            return self._inbox()
        except HubError as error:
            log.error("messages cannot be kept: %s", error)
            raise TransientError("telemetry.store", retry_after=RETRY_LATER) from error

    def kept(self, batch: Sequence[Waiting], outcome: list[Receipt]) -> None:
        """Tell everyone: one call for each event loop."""
        ended: dict[asyncio.AbstractEventLoop, Settled] = {}
        duplicates = 0
        for one, receipt in zip(batch, outcome, strict=True):
            ended.setdefault(one.loop, []).append((one, receipt))
            duplicates += receipt.duplicate
        self.counts["accepted"] += len(batch) - duplicates
        self.counts["duplicate"] += duplicates
        self.counts["bytes"] += sum(len(one.message.body) for one in batch)
        self.counts["batches"] += 1
        for loop, settled in ended.items():
            _on(loop, _resolve, settled)

    def refused(self, batch: Sequence[Waiting], reason: HubError) -> None:
        """Tell everyone why."""
        self.counts[reason.code.rpartition(".")[2]] += len(batch)
        ended: dict[asyncio.AbstractEventLoop, list[Waiting]] = {}
        for one in batch:
            ended.setdefault(one.loop, []).append(one)
        for loop, settled in ended.items():
            _on(loop, _reject, settled, reason)

    def parts(self, batch: Sequence[Waiting]) -> Sequence[Sequence[Waiting]]:
        """Both halves."""
        half = len(batch) // 2
        return [batch[:half], batch[half:]] if half else []

    def end(self) -> None:
        """Nothing more comes."""
        if self._at_once is not None:
            self._at_once.close()


def part_of(source: str, sender: str, parts: int) -> int:
    """The part that all messages of a sender are kept in."""
    if parts == 1:
        return 0
    return crc32(f"{source}\0{sender}".encode("utf-8", "surrogatepass")) % parts


def _on(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:  # the loop has ended, and with it those who waited
        log.info("messages were kept for senders that are gone")


def _resolve(settled: Settled) -> None:
    for one, receipt in settled:
        one.overdue.cancel()
        if not one.future.done():
            one.future.set_result(receipt)


def _reject(settled: Sequence[Waiting], reason: HubError) -> None:
    for one in settled:
        one.overdue.cancel()
        _fail(one.future, _copy(reason))


def _give_up(future: asyncio.Future[Receipt]) -> None:
    _fail(future, TransientError("telemetry.store", retry_after=RETRY_LATER))


def _fail(future: asyncio.Future[Receipt], reason: HubError) -> None:
    if not future.done():
        future.set_exception(reason)
        future.exception()  # counts as retrieved: whoever waited may be gone


def _copy(reason: HubError) -> HubError:
    """An exception of its own for everyone: a shared one would collect their tracebacks."""
    if isinstance(reason, TransientError):
        return TransientError(reason.code, retry_after=reason.retry_after, **reason.params)
    return type(reason)(reason.code, **reason.params)
