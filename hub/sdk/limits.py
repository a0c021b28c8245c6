"""Keeping an account's rate and concurrency, shared by all flows and threads that use it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from hub.sdk.clock import Clock
from hub.sdk.errors import TransientError

LONGEST_PAUSE = 300.0
"""A longer pause than this (seconds) is not waited for but raised as TransientError."""


class Gate(Protocol):
    """What every call passes. A database-backed gate shares the limits between processes.

    `patience` is the longest pause, in seconds, that a call waits for in its thread.
    """

    patience: float

    def wait(self, account: str, rate: float | None) -> None:
        """Return when one more call is allowed; TransientError when that is too far away."""

    def slot(self, account: str, concurrent: int) -> AbstractContextManager[None]:
        """One of `concurrent` places, held while a call is under way."""

    def pause(self, account: str, seconds: float) -> None:
        """No call of this account for `seconds` from now on."""

    def pause_left(self, account: str) -> float:
        """How many seconds of a pause are left; 0 when there is none."""

    def close(self) -> None:
        """Give up whatever is held for this process."""


def paused(account: str, seconds: float) -> TransientError:
    """The error for a pause that is too long to wait for."""
    return TransientError(
        "http.paused", retry_after=seconds, account=account, seconds=round(seconds)
    )


@dataclass(slots=True)
class _Account:
    turn: threading.Lock = field(default_factory=threading.Lock)
    calls: int = 0
    left: threading.Condition = field(default_factory=threading.Condition)
    next_call: float = float("-inf")
    paused_until: float = float("-inf")


class LocalGate:
    """Limits for the threads of one process.

    Calls are evenly spaced (GCRA with a burst of one), so that no window, wherever it starts,
    holds more than the declared rate. `margin` widens the gap a little: a call that travels
    faster than the one before must not arrive too early.
    """

    def __init__(
        self, clock: Clock, *, margin: float = 0.01, patience: float = LONGEST_PAUSE
    ) -> None:
        self.patience = patience
        self._clock = clock
        self._margin = margin
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}

    def wait(self, account: str, rate: float | None) -> None:
        """Return when one more call is allowed."""
        state = self._state(account)
        # The turn is held while waiting: the next caller measures from the real time of this one.
        with state.turn:
            while (delay := self._delay(account, state)) > 0:
                self._clock.sleep(delay)
            if rate is not None:
                state.next_call = self._clock.monotonic() + (1 + self._margin) / rate

    def _delay(self, account: str, state: _Account) -> float:
        now = self._clock.monotonic()
        if state.paused_until - now > self.patience:
            raise paused(account, state.paused_until - now)
        return max(state.next_call, state.paused_until) - now

    @contextmanager
    def slot(self, account: str, concurrent: int) -> Iterator[None]:
        """One of `concurrent` places, free again when the block ends."""
        state = self._state(account)
        with state.left:
            state.left.wait_for(lambda: state.calls < concurrent)
            state.calls += 1
        try:
            yield
        finally:
            with state.left:
                state.calls -= 1
                state.left.notify()

    def pause(self, account: str, seconds: float) -> None:
        """No call of this account for `seconds`; a shorter pause never ends a longer one."""
        state = self._state(account)
        until = self._clock.monotonic() + seconds
        state.paused_until = max(state.paused_until, until)

    def pause_left(self, account: str) -> float:
        """How many seconds of a pause are left."""
        return max(0.0, self._state(account).paused_until - self._clock.monotonic())

    def close(self) -> None:
        """Nothing is held beyond a call."""

    def _state(self, account: str) -> _Account:
        with self._lock:
            return self._accounts.setdefault(account, _Account())
