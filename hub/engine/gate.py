"""Limits shared by every process: the next allowed call of each account stands in the store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.sdk.clock import Clock
from hub.sdk.errors import TransientError
from hub.sdk.limits import LONGEST_PAUSE, Gate, LocalGate
from hub.store.database import Store, database_time
from hub.store.tables import rate_gate


class StoreGate:
    """A `Gate` for several processes on one PostgreSQL.

    Calls get evenly spaced places in time (GCRA with a burst of one), handed out under the lock
    of the account's row and measured by the database's clock. Concurrency is kept per process.
    """

    def __init__(self, store: Store, clock: Clock, *, margin: float = 0.02) -> None:
        self._store = store
        self._clock = clock
        self._margin = margin
        self._local = LocalGate(clock)

    def wait(self, account: str, rate: float | None) -> None:
        """Return when one more call is allowed; TransientError when that is too far away."""
        gap = (1 + self._margin) / rate if rate is not None else 0.0
        delay = self._change(account, lambda now, free: max(now, free) + gap)
        if delay > LONGEST_PAUSE:
            self._change(account, lambda _now, free: free - gap)
            raise TransientError(
                "http.paused", retry_after=delay, account=account, seconds=int(delay)
            )
        if delay > 0:
            self._clock.sleep(delay)

    def slot(self, account: str, concurrent: int) -> AbstractContextManager[None]:
        """One of `concurrent` places in this process."""
        return self._local.slot(account, concurrent)

    def pause(self, account: str, seconds: float) -> None:
        """No call of this account, from any process, for `seconds` from now on."""
        self._change(account, lambda now, free: max(free, now + seconds))

    def _change(self, account: str, move: Callable[[float, float], float]) -> float:
        """Move the account's next free moment; how long (seconds) the old one lies ahead."""
        with self._store.transaction() as connection:
            now = database_time(connection)
            free = _locked_free_at(connection, account)
            moved = {"free_at": move(now, free)}
            connection.execute(
                rate_gate.update().where(rate_gate.c.account == account).values(moved)
            )
            return free - now


def gate_for(store: Store, clock: Clock) -> Gate:
    """The limiter that fits the store: one process needs no row in the database."""
    return LocalGate(clock) if store.embedded else StoreGate(store, clock)


def _locked_free_at(connection: Connection, account: str) -> float:
    this = rate_gate.c.account == account
    touched = connection.execute(rate_gate.update().where(this).values(free_at=rate_gate.c.free_at))
    if touched.rowcount == 0:
        try:
            with connection.begin_nested():
                connection.execute(rate_gate.insert().values(account=account, free_at=0.0))
        except sa.exc.IntegrityError:
            return _locked_free_at(connection, account)
    return float(connection.execute(sa.select(rate_gate.c.free_at).where(this)).scalar_one())
