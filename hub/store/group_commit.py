"""Group commit: whatever waits is written in one transaction, by one thread.

    put      an item waits, in a bounded queue            any thread
    commit   all that wait: one transaction               one writer thread
    kept     the outcome, in one call per batch           writer thread
    refused  the same for a batch that is not kept

A batch that fails, but not because of an outage, is tried again in parts: what cannot be kept does
not take others along.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import sqlalchemy as sa

from hub.sdk.errors import HubError, TransientError
from hub.store.database import is_disk_full

RETRY_LATER = 5.0
_CLOSE_SECONDS = 10.0

log = logging.getLogger("hub.store.group_commit")


class Sized(Protocol):
    """What waits; `size` counts its bytes."""

    @property
    def size(self) -> int: ...


Item = TypeVar("Item", bound=Sized)
Outcome = TypeVar("Outcome")


class Limits(NamedTuple):
    """Of the queue, or of a batch: its last item may exceed the bytes."""

    items: int
    bytes: int


class Reasons(NamedTuple):
    """The codes of what is told when something is not kept; `failed` has a `kind`."""

    disk_full: str
    store: str
    failed: str


class Work(Protocol[Item, Outcome]):
    """What is done with a batch. All of it on the writer's thread."""

    def commit(self, batch: Sequence[Item]) -> Outcome:
        """Write the batch in one transaction."""

    def kept(self, batch: Sequence[Item], outcome: Outcome) -> None:
        """The batch is safe."""

    def refused(self, batch: Sequence[Item], reason: HubError) -> None:
        """The batch is not known to be kept."""

    def parts(self, batch: Sequence[Item]) -> Sequence[Sequence[Item]]:
        """The batch in smaller ones, in order; fewer than two when it cannot be divided."""

    def end(self) -> None:
        """Nothing more comes."""


class GroupCommit(Generic[Item, Outcome]):
    """A queue and its writer. The thread is started by the first item."""

    def __init__(
        self, name: str, work: Work[Item, Outcome], batch: Limits, reasons: Reasons
    ) -> None:
        self.changed = threading.Condition()
        """Held by whoever changes the queue; the writer takes nothing meanwhile."""
        self.waiting_bytes = 0
        self._name = name
        self._work = work
        self._batch = batch
        self._reasons = reasons
        self._queue: deque[Item] = deque()
        self._closing = False
        self._idle = False
        self._writer: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How many items wait to be written."""
        return len(self._queue)

    def put(self, item: Item, limits: Limits) -> bool:
        """Queue an item; False when too much waits already, or nothing is taken any more."""
        with self.changed:
            full = len(self._queue) >= limits.items
            full = full or self.waiting_bytes + item.size > limits.bytes
            if full or self._closing:
                return False
            self._queue.append(item)
            self.waiting_bytes += item.size
            if self._writer is None:
                self._writer = threading.Thread(target=self._loop, name=self._name, daemon=True)
                self._writer.start()
            if self._idle:
                self._idle = False
                self.changed.notify()
            return True

    def close(self) -> None:
        """Write what waits, and take nothing more."""
        with self.changed:
            self._closing = True
            self.changed.notify_all()
        if self._writer is not None:
            self._writer.join(timeout=_CLOSE_SECONDS)

    def _loop(self) -> None:
        while batch := self._take():
            try:
                self._write(batch)
            except Exception:  # whatever happens, the next batch is written
                log.exception("%s: a batch of %d could not be settled", self._name, len(batch))
        self._work.end()

    def _take(self) -> list[Item]:
        """Everything that waits, as far as one transaction should hold it; empty at the end."""
        with self.changed:
            while not self._queue and not self._closing:
                self._idle = True
                self.changed.wait()
            batch: list[Item] = []
            size = 0
            most_items, most_bytes = self._batch
            while self._queue and len(batch) < most_items and size <= most_bytes:
                batch.append(self._queue.popleft())
                size += batch[-1].size
            self.waiting_bytes -= size
            return batch

    def _write(self, batch: Sequence[Item]) -> None:
        """Write a batch and settle it; one that fails is tried again in smaller parts."""
        try:
            outcome = self._work.commit(batch)
        except Exception as error:
            reason = reason_of(error, self._reasons)
            lasting = not isinstance(reason, TransientError)
            parts = self._work.parts(batch) if lasting else []
            if len(parts) < 2:
                if lasting:
                    log.error("%s: %d cannot be kept", self._name, len(batch), exc_info=error)
                self._work.refused(batch, reason)
                return
            for part in parts:
                self._write(part)
            return
        self._work.kept(batch, outcome)


def reason_of(error: Exception, reasons: Reasons) -> HubError:
    """What the sender is told; an outage of the store is worth another try."""
    if isinstance(error, HubError):
        return error
    if isinstance(error, sa.exc.DBAPIError) and is_disk_full(error):
        return TransientError(reasons.disk_full, retry_after=RETRY_LATER)
    out_of_reach = isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
    lost = isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
    if out_of_reach or lost or isinstance(error, sa.exc.TimeoutError):
        return TransientError(reasons.store, retry_after=RETRY_LATER)
    return HubError(reasons.failed, kind=type(error).__name__)
