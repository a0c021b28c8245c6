"""Keeping received events: whatever waits is written in one transaction, and only then thanked for.

    put      an event waits, in a bounded queue                          any thread
    write    all that wait: one transaction, duplicates left out          one writer thread
    settle   the outcome of each, in one call per batch                   writer thread
    wake     runs for the flows that the events feed                      one waker thread

An event whose outcome is an error may still have been kept (the answer of the commit was lost):
its sender sends it again, and it is recognised by its id.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.engine.event_runs import TRICKLE_SECONDS, wake_event_flows
from hub.sdk.errors import HubError, TransientError
from hub.store.crash import crash_point
from hub.store.database import AtOnce
from hub.store.group_commit import GroupCommit, Limits, Reasons
from hub.store.inbox import NewEvent, NotNew, append_events, append_new

if TYPE_CHECKING:
    from hub.engine.hub import Hub

MOST_WAITING = 2_000
MOST_WAITING_BYTES = 64_000_000
_BATCH = Limits(items=1_000, bytes=16_000_000)
_REASONS = Reasons("intake.disk_full", "intake.store", "intake.failed")
_RETRY_SOON = 1.0
_CLOSE_SECONDS = 10.0

Settled = Sequence[tuple[Any, HubError | None]]
Settle = Callable[[Settled], None]
"""Takes the tickets of a batch, each with the reason why its event is not kept, or None."""

Transaction = Callable[[], AbstractContextManager[Connection]]
Append = Callable[[Connection, str, Sequence[NewEvent]], int]
Kept = dict[tuple[str, str], int]

log = logging.getLogger("hub.engine.intake")


class Waiting(NamedTuple):
    """An event on its way into the inbox; `ticket` is what its sender's answer is found by."""

    connection_id: str
    event: NewEvent
    ticket: Any
    settle: Settle
    size: int


class Intake:
    """The way into the inbox, for one process. Several processes may use the same inbox.

    `counts` holds how many events of a connection ended how, since the process began.
    """

    def __init__(self, hub: Hub) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.batches: Counter[int] = Counter()
        self.queue = GroupCommit[Waiting, Kept]("hub-intake", self, _BATCH, _REASONS)
        self._hub = hub
        self._at_once = AtOnce(hub.store)
        self._waker = Waker(hub)

    @property
    def waiting(self) -> int:
        """How many events wait to be written."""
        return self.queue.waiting

    def put(self, connection_id: str, event: NewEvent, ticket: Any, settle: Settle) -> None:
        """Queue an event; `settle` is called once it is safe, or cannot be kept.

        Raises TransientError (`intake.overload`) when too much waits already.
        """
        waiting = Waiting(connection_id, event, ticket, settle, len(event.body))
        if not self.queue.put(waiting, Limits(MOST_WAITING, MOST_WAITING_BYTES)):
            raise TransientError("intake.overload", retry_after=_RETRY_SOON)

    def close(self) -> None:
        """Write and settle what waits, and take nothing more."""
        self.queue.close()
        self._waker.close()

    # --- on the writer's thread -----------------------------------------------------------------

    def kept(self, batch: Sequence[Waiting], outcome: Kept) -> None:
        """Thank the senders, and wake the flows that the events feed."""
        self.batches[len(batch)] += 1
        for (connection_id, ended), number in outcome.items():
            self.counts[connection_id, ended] += number
        _settle(batch, None)
        self._waker.wake(connection_id for connection_id, ended in outcome if ended == "accepted")

    def refused(self, batch: Sequence[Waiting], reason: HubError) -> None:
        """Tell the senders why their events are not kept."""
        _settle(batch, reason)

    def parts(self, batch: Sequence[Waiting]) -> Sequence[Sequence[Waiting]]:
        """The batch by connection, or event by event where there is only one."""
        groups = list(_by_connection(batch).values())
        return groups if len(groups) > 1 else [[one] for one in batch]

    def end(self) -> None:
        """Nothing more comes."""
        self._at_once.close()

    def commit(self, batch: Sequence[Waiting]) -> Kept:
        """One transaction; how many events of each connection were new and how many known.

        Nearly always all are new: only where that turns out wrong they are looked up first.
        """
        single = len({one.connection_id for one in batch}) == 1
        transaction = self._at_once.transaction if single else self._hub.store.transaction
        try:
            return self._append(batch, append_new, transaction)
        except NotNew:
            pass
        except sa.exc.DBAPIError as error:
            # A kept connection is not asked first whether it still leads anywhere.
            if not (single and error.connection_invalidated):
                raise
        return self._append(batch, append_events, self._hub.store.transaction)

    def _append(self, batch: Sequence[Waiting], append: Append, transaction: Transaction) -> Kept:
        kept: Kept = {}
        with transaction() as connection:
            # Always in the same order: two processes never wait for each other.
            for connection_id, events in sorted(_by_connection(batch).items()):
                new = append(connection, connection_id, [one.event for one in events])
                if new:
                    kept[connection_id, "accepted"] = new
                if new < len(events):
                    kept[connection_id, "duplicate"] = len(events) - new
            crash_point("intake.before_commit")
        crash_point("intake.after_commit")
        return kept


class Waker:
    """Starts runs for what has arrived; at most one round in `TRICKLE_SECONDS`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._fed: set[str] = set()
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self, connections: Iterable[str]) -> None:
        """Events of these connections were kept."""
        with self._lock:
            self._fed.update(connections)
            if not self._fed:
                return
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._loop, name="hub-waker", daemon=True)
                self._thread.start()
        self._changed.set()

    def close(self) -> None:
        """Stop. What was not woken is found by the next sweep of any process."""
        self._stop.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(timeout=_CLOSE_SECONDS)

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._changed.wait()
            self._changed.clear()
            with self._lock:
                fed, self._fed = self._fed, set()
            if fed and not self._hub.durable.is_open:
                self.wake(fed)  # the hub takes events while it still starts
            elif fed and not self._stop.is_set():
                try:
                    wake_event_flows(self._hub, fed)
                except Exception:  # the sweeper asks again
                    log.exception("runs of events could not be started")
            self._stop.wait(TRICKLE_SECONDS)


def _settle(batch: Sequence[Waiting], reason: HubError | None) -> None:
    by_receiver: dict[Settle, list[tuple[Any, HubError | None]]] = {}
    for one in batch:
        by_receiver.setdefault(one.settle, []).append((one.ticket, reason))
    for settle, settled in by_receiver.items():
        settle(settled)


def _by_connection(batch: Sequence[Waiting]) -> dict[str, list[Waiting]]:
    groups: dict[str, list[Waiting]] = {}
    for one in batch:
        groups.setdefault(one.connection_id, []).append(one)
    return groups
