"""At most so many calls of an account at a time, over all processes.

A process leases a place in the store, keeps it from call to call while it has use for it, and
renews the lease beside its calls. A killed process leaves its places to others when the lease
runs out; one that was only asleep notices that before its next call. Where several processes
want more places than there are, each gives one back after a while.
"""

from __future__ import annotations

import logging
import random
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa

from hub.sdk.clock import Clock
from hub.store.database import Store, database_time
from hub.store.places import lease_place, others_wait, renew_places, return_place, say_waiting

LEASE = 5.0
"""Seconds after which the places of a process that died are free."""

_BEAT = 1.0
_SLACK = 0.5
"""A lease is trusted for this much less than it lasts: the answer took time to arrive."""
_IDLE = 1.0
_TURN = 1.0
"""Seconds for which a place is kept although another process waits for one."""
_MANNERS = 0.3
"""Seconds for which who gave a place back does not ask for one: longer than a waiter sleeps."""
_WAITING = 2.0
_LOOK = (0.05, 0.15)

log = logging.getLogger("hub.engine.places")


@dataclass(slots=True, eq=False)
class _Place:
    number: int
    since: float
    until: float
    used_at: float
    busy: bool = True


@dataclass(slots=True)
class _Account:
    changed: threading.Condition = field(default_factory=threading.Condition)
    places: list[_Place] = field(default_factory=list)
    asking: bool = False
    wanted_elsewhere: bool = False
    ask_from: float = float("-inf")


class Places:
    """The leased places of this process. Safe for threads; `close` gives all of them back."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._holder = uuid.uuid4().hex
        self._waiting_no = -random.randrange(1, 2**31)  # noqa: S311 (a name, not a secret)
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}
        self._closed = threading.Event()
        self._keeper: threading.Thread | None = None

    @contextmanager
    def hold(self, account: str, concurrent: int) -> Iterator[None]:
        """One of `concurrent` places of the account, held while the block runs."""
        state = self._state(account)
        mine = self._take(account, state, concurrent)
        try:
            yield
        finally:
            self._give_back(account, state, mine)

    def close(self) -> None:
        """Give every place back; calls under way keep theirs until the lease runs out."""
        self._closed.set()
        if self._keeper is not None:
            self._keeper.join(timeout=5)
        try:
            for account, state in list(self._accounts.items()):
                with state.changed:
                    left = [one for one in state.places if not one.busy]
                    state.places = [one for one in state.places if one.busy]
                self._return(account, left)
        except sa.exc.SQLAlchemyError as error:
            log.info("places not given back, they run out: %s", type(error).__name__)

    # --- taking -------------------------------------------------------------------------------

    def _take(self, account: str, state: _Account, concurrent: int) -> _Place:
        while True:
            with state.changed:
                found = self._idle(state)
                if found is not None:
                    return found
                now = self._clock.monotonic()
                may_ask = len(state.places) < concurrent and now >= state.ask_from
                if state.asking or not may_ask:
                    state.changed.wait(_LOOK[1])
                    continue
                state.asking = True
            leased = None
            try:
                leased = self._lease(account, concurrent)
            finally:
                with state.changed:
                    state.asking = False
                    if leased is not None:
                        state.places.append(leased)
                    state.changed.notify_all()
            if leased is not None:
                self._keep()
                return leased
            self._clock.sleep(random.uniform(*_LOOK))  # noqa: S311 (spreads load)

    def _idle(self, state: _Account) -> _Place | None:
        """A place of ours that nobody uses; those that ran out while we slept are dropped."""
        now = self._clock.monotonic()
        state.places = [one for one in state.places if one.busy or one.until > now]
        for one in state.places:
            if not one.busy:
                one.busy, one.used_at = True, now
                return one
        return None

    def _lease(self, account: str, concurrent: int) -> _Place | None:
        asked = self._clock.monotonic()
        with self._store.transaction() as connection:
            now = int(database_time(connection) * 1000)
            until = now + int(LEASE * 1000)
            number = lease_place(connection, account, concurrent, self._holder, now, until)
            if number is None:
                waiting = now + int(_WAITING * 1000)
                say_waiting(connection, account, self._waiting_no, self._holder, now, waiting)
                return None
        return _Place(number, since=asked, until=asked + LEASE - _SLACK, used_at=asked)

    # --- giving back --------------------------------------------------------------------------

    def _give_back(self, account: str, state: _Account, mine: _Place) -> None:
        now = self._clock.monotonic()
        with state.changed:
            mine.busy, mine.used_at = False, now
            turn_over = state.wanted_elsewhere and now - mine.since >= _TURN
            lost = mine.until <= now
            if turn_over or lost:
                state.places.remove(mine)
            if turn_over:
                state.ask_from = now + _MANNERS
            state.changed.notify()
        if turn_over and not lost:
            self._return(account, [mine])

    def _return(self, account: str, places: list[_Place]) -> None:
        if places:
            with self._store.transaction() as connection:
                for one in places:
                    return_place(connection, account, one.number, self._holder)

    # --- keeping ------------------------------------------------------------------------------

    def _keep(self) -> None:
        with self._lock:
            if self._keeper is None and not self._closed.is_set():
                self._keeper = threading.Thread(
                    target=self._keep_loop, name="hub-places", daemon=True
                )
                self._keeper.start()

    def _keep_loop(self) -> None:
        while not self._closed.wait(_BEAT):
            for account, state in list(self._accounts.items()):
                try:
                    self._renew(account, state)
                except sa.exc.SQLAlchemyError as error:
                    log.warning("places of %s not renewed: %s", account, type(error).__name__)

    def _renew(self, account: str, state: _Account) -> None:
        asked = self._clock.monotonic()
        with state.changed:
            idle = [one for one in state.places if not one.busy and asked - one.used_at >= _IDLE]
            state.places = [one for one in state.places if one not in idle]
            held = list(state.places)
        self._return(account, idle)
        if not held:
            return
        with self._store.transaction() as connection:
            now = int(database_time(connection) * 1000)
            numbers, until = [one.number for one in held], now + int(LEASE * 1000)
            kept = renew_places(connection, account, numbers, self._holder, now, until)
            wanted = others_wait(connection, account, self._holder, now)
        with state.changed:
            state.wanted_elsewhere = wanted
            for one in held:
                one.until = asked + LEASE - _SLACK if one.number in kept else asked

    def _state(self, account: str) -> _Account:
        with self._lock:
            return self._accounts.setdefault(account, _Account())
