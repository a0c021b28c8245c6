"""A clock that only moves when told to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

_START = datetime(2025, 1, 6, 1, 0, tzinfo=UTC)  # a Monday, 09:00 in Shanghai


class FakeClock:
    """Implements `hub.sdk.clock.Clock`; `sleep` returns at once and moves the time."""

    def __init__(self, start: datetime = _START) -> None:
        self._start = start
        self._passed = 0.0
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def now(self) -> datetime:
        """The current moment, aware."""
        return self._start + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._passed

    def sleep(self, seconds: float) -> None:
        """Move on by `seconds` and remember the wait in `slept`."""
        if seconds > 0:
            with self._lock:
                self.slept.append(seconds)
                self._passed += seconds

    def advance(self, seconds: float) -> None:
        """Move on without a wait being noted."""
        with self._lock:
            self._passed += seconds
