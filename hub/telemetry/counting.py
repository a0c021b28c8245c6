"""Counts of messages that asked for them: all who wait ask the store together."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hub.sdk.telemetry import Counts, Receipt
from hub.store.database import Store
from hub.store.telemetry.outcomes import find_outcomes
from hub.store.telemetry.positions import part_name, positions

_POLL_SECONDS = 0.015
_FAR_BEHIND = 5_000
"""Messages before one's own: then it is not worth waiting."""
_STALLED_SECONDS = 2.0
_PAUSE_SECONDS = 1.0
_MOST_WAITERS = 10_000

log = logging.getLogger("hub.telemetry.counting")

Place = tuple[int, int]
"""Part and number of a message."""


class Waiter(NamedTuple):
    """Somebody who waits for the counts of a message."""

    place: Place
    future: asyncio.Future[Counts | None]
    loop: asyncio.AbstractEventLoop


class Counting:
    """Asks for outcomes while somebody waits, on a thread of its own."""

    def __init__(self, readings: Callable[[], Store]) -> None:
        self._readings = readings
        self._waiters: list[Waiter] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._positions: dict[int, int] = {}
        self._moved_at = time.monotonic()
        self._asked_at = float("-inf")

    async def wait(self, receipt: Receipt, seconds: float) -> Counts | None:
        """The counts; None when they are not there in time, or would not be.

        Where the projector is far behind or stands still, nobody waits for it.
        """
        if self._in_vain(receipt) or len(self._waiters) > _MOST_WAITERS:
            return None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Counts | None] = loop.create_future()
        self._join(Waiter((receipt.part, receipt.seq), future, loop))
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return None

    def close(self) -> None:
        """Let everyone go."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _in_vain(self, receipt: Receipt) -> bool:
        """Whether what was seen a moment ago says that the counts will not be there in time."""
        now = time.monotonic()
        if now - self._asked_at > _PAUSE_SECONDS:
            return False
        behind = receipt.seq - self._positions.get(receipt.part, receipt.seq)
        return behind > _FAR_BEHIND or now - self._moved_at > _STALLED_SECONDS

    def _join(self, waiter: Waiter) -> None:
        with self._changed:
            if not self._waiters:
                self._moved_at = max(self._moved_at, time.monotonic() - _STALLED_SECONDS / 2)
            self._waiters.append(waiter)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="hub-counts", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not self._waiters and not self._closing:
                    self._changed.wait()
                if self._closing:
                    _tell([(one, None) for one in self._waiters])
                    return
                waiters = [one for one in self._waiters if not one.future.done()]
                self._waiters = waiters
            try:
                self._ask(waiters)
            except Exception as error:  # noqa: BLE001 (who waits now and later needs this thread)
                log.warning("counts could not be read: %s", type(error).__name__)
                time.sleep(_PAUSE_SECONDS)
            time.sleep(_POLL_SECONDS)

    def _ask(self, waiters: Sequence[Waiter]) -> None:
        if not waiters:
            return
        with self._readings().reading() as connection:
            # In this order: whatever is behind a position has its outcome.
            known = positions(connection)
            found = find_outcomes(connection, [one.place for one in waiters])
        self._asked_at = time.monotonic()
        parts = {one.place[0] for one in waiters}
        now_at = {**self._positions, **{part: known.get(part_name(part), 0) for part in parts}}
        if now_at != self._positions:
            self._positions, self._moved_at = now_at, self._asked_at
        stalled = self._asked_at - self._moved_at > _STALLED_SECONDS
        told: list[tuple[Waiter, Counts | None]] = []
        for one in waiters:
            if one.place in found:
                told.append((one, Counts(*found[one.place])))
            elif stalled or now_at[one.place[0]] >= one.place[1]:
                told.append((one, None))  # it did not ask for counts, or nobody counts
        _tell(told)
        gone = {id(one) for one, _ in told}
        with self._changed:
            self._waiters = [one for one in self._waiters if id(one) not in gone]


def _tell(told: Sequence[tuple[Waiter, Counts | None]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Waiter, Counts | None]]] = {}
    for one in told:
        by_loop.setdefault(one[0].loop, []).append(one)
    for loop, answers in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, answers)
        except RuntimeError:  # the loop has ended
            log.info("counts were found for senders that are gone")


def _resolve(answers: Sequence[tuple[Waiter, Counts | None]]) -> None:
    for waiter, counts in answers:
        if not waiter.future.done():
            waiter.future.set_result(counts)
