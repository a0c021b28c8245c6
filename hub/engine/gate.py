"""Limits shared by every process: the next allowed call of each account stands in the store."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.engine.places import Places
from hub.sdk.clock import Clock
from hub.sdk.limits import Gate, LocalGate, paused
from hub.store.database import Store, database_time
from hub.store.tables import rate_gate

PATIENCE = 20.0
"""The longest pause (seconds) that a job waits for in its thread; then it comes back later."""

_FRESH = 0.25
"""Seconds for which a process believes that an account without a rate is not paused."""


@dataclass(slots=True)
class _Account:
    turn: threading.Lock = field(default_factory=threading.Lock)
    free_from: float = float("-inf")
    looked_at: float = float("-inf")


class StoreGate:
    """A `Gate` for several processes on one PostgreSQL.

    Calls are evenly spaced (GCRA with a burst of one) by the database's clock. Who may call next
    is decided under the lock of the account's row at the moment of the call, not ahead of it: a
    process that slept through its moment gets another one.
    """

    def __init__(
        self, store: Store, clock: Clock, *, margin: float = 0.02, patience: float = PATIENCE
    ) -> None:
        self.patience = patience
        self._store = store
        self._clock = clock
        self._margin = margin
        self._places = Places(store, clock)
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}

    def wait(self, account: str, rate: float | None) -> None:
        """Return when one more call is allowed; TransientError when that is too far away."""
        state = self._state(account)
        if rate is None:
            while (left := self._free_in(account, state)) > 0:
                self._sleep(account, left, 0.0)
            return
        gap = (1 + self._margin) / rate
        with state.turn:  # one thread of a process asks, the others queue up behind it
            while (left := self._pass(account, gap)) > 0:
                self._sleep(account, left, gap)

    def slot(self, account: str, concurrent: int) -> AbstractContextManager[None]:
        """One of `concurrent` places over all processes."""
        return self._places.hold(account, concurrent)

    def pause(self, account: str, seconds: float) -> None:
        """No call of this account, from any process, for `seconds` from now on."""
        with self._store.transaction() as connection:
            until = database_time(connection) + seconds
            _add_account(connection, account)
            later = sa.and_(rate_gate.c.account == account, rate_gate.c.free_at < until)
            connection.execute(rate_gate.update().where(later).values(free_at=until))
        self._state(account).looked_at = float("-inf")

    def pause_left(self, account: str) -> float:
        """How many seconds of a pause are left, as last seen."""
        return max(0.0, self._free_in(account, self._state(account)))

    def close(self) -> None:
        """Give up the places of this process."""
        self._places.close()

    def _sleep(self, account: str, left: float, gap: float) -> None:
        # More than the gap between two calls can only be a pause.
        if left > max(gap, self.patience):
            raise paused(account, left)
        self._clock.sleep(left)

    def _pass(self, account: str, gap: float) -> float:
        """Take the moment if it is free, 0 then; else the seconds until it may be."""
        this = rate_gate.c.account == account
        with self._store.transaction() as connection:
            locked = sa.select(rate_gate.c.free_at).where(this).with_for_update()
            found = connection.execute(locked).first()
            if found is None:
                _add_account(connection, account)
                found = connection.execute(locked).one()
            now = database_time(connection)
            if found.free_at > now:
                return float(found.free_at - now)
            connection.execute(rate_gate.update().where(this).values(free_at=now + gap))
        return 0.0

    def _free_in(self, account: str, state: _Account) -> float:
        """Seconds until the account may be called; looked up only now and then."""
        now = self._clock.monotonic()
        if now - state.looked_at > _FRESH:
            statement = sa.select(rate_gate.c.free_at).where(rate_gate.c.account == account)
            with self._store.reading() as connection:
                free_at = connection.execute(statement).scalar_one_or_none()
                left = 0.0 if free_at is None else float(free_at) - database_time(connection)
            state.free_from, state.looked_at = now + left, now
        return state.free_from - now

    def _state(self, account: str) -> _Account:
        with self._lock:
            return self._accounts.setdefault(account, _Account())


def gate_for(store: Store, clock: Clock) -> Gate:
    """The limiter that fits the store: one process needs no row in the database."""
    if store.embedded:
        return LocalGate(clock, patience=PATIENCE)
    return StoreGate(store, clock)


def _add_account(connection: Connection, account: str) -> None:
    known = sa.select(rate_gate.c.account).where(rate_gate.c.account == account)
    if connection.execute(known).first() is not None:
        return
    try:
        with connection.begin_nested():
            connection.execute(rate_gate.insert().values(account=account, free_at=0.0))
    except sa.exc.IntegrityError:
        return  # another process added it first
