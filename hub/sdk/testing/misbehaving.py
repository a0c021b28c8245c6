"""What a fake server and a fault proxy share: orders to misbehave, and a log of what came."""

from __future__ import annotations

import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from hub.sdk.testing.alterations import COMMON, NamedAlteration
from hub.sdk.testing.faults import Alteration, Fault, Misbehaviour, Schedule, misbehaviour
from hub.sdk.testing.messages import Request
from hub.sdk.testing.ways import prepare

_KEPT_REQUESTS = 50_000
_KEPT_BYTES = 64_000_000


class Misbehaving(ABC):
    """A server on loopback that does wrong what it is told to. Safe for threads.

    `port` 0 takes a free one; the same `seed` gives the same chances.
    """

    def __init__(self, port: int = 0, seed: int = 0) -> None:
        self.lock = threading.RLock()
        self.failures: list[str] = []  # what broke by itself; leaving the `with` raises for it
        self._port = port
        self.alterations: dict[str, NamedAlteration] = dict(COMMON)
        self.commands: dict[str, Callable[..., Any]] = {}
        self._started_at = time.monotonic()
        self._faults: Schedule[Misbehaviour] = Schedule(seed)
        self._altered: Schedule[Alteration] = Schedule(seed)
        self._log: deque[Request] = deque()
        self._log_bytes = 0
        self._counts: Counter[tuple[str, str]] = Counter()
        self._log_lock = threading.Lock()

    def state(self) -> dict[str, Any]:
        """What it holds, as JSON; shown over HTTP at `state`."""
        return {}

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen on 127.0.0.1."""
        listener = socket.create_server(("127.0.0.1", self._port), backlog=256)
        self._port = listener.getsockname()[1]
        self._begin(listener)
        return self

    @abstractmethod
    def _begin(self, listener: socket.socket) -> None:
        """Serve what arrives at `listener`."""

    @abstractmethod
    def stop(self) -> None:
        """Close every socket and join every thread; waits under way end at once."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if self.failures and kind is None:
            raise RuntimeError(f"the fake broke by itself: {self.failures[0]}")

    @property
    def url(self) -> str:
        """The address of the running server, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    # --- orders -------------------------------------------------------------------------------

    def misbehave(
        self,
        fault: Fault | str,
        path: str | None = None,
        method: str | None = None,
        times: int | None = 1,
        after: int = 0,
        chance: float = 1.0,
        **options: Any,
    ) -> None:
        """Do `fault` to the next `times` matching requests (None: all), after `after` good ones.

        `path` may hold `*`; `chance` is the share of the matching requests that is hit.
        """
        act = misbehaviour(fault, options)
        prepare(act)
        self._faults.add(act, path, method, times, after, chance)

    def alter(
        self,
        path: str | None,
        change: Alteration | str,
        times: int | None = 1,
        after: int = 0,
        *,
        method: str | None = None,
        **options: Any,
    ) -> None:
        """Change the JSON of the next `times` matching answers, by a function or a known name."""
        self._altered.add(self._alteration(change, options), path, method, times, after)

    def behave(self) -> None:
        """Forget all faults and alterations that have not happened yet."""
        self._faults.clear()
        self._altered.clear()

    def _alteration(self, change: Alteration | str, options: Mapping[str, Any]) -> Alteration:
        if not isinstance(change, str):
            return change
        if change not in self.alterations:
            raise ValueError(f"no alteration {change!r}; known: {sorted(self.alterations)}")
        return self.alterations[change](**options)

    @property
    def misbehaved(self) -> int:
        """How many faults and alterations have happened so far."""
        return self._faults.taken + self._altered.taken

    # --- what happened ------------------------------------------------------------------------

    @property
    def requests(self) -> list[Request]:
        """The requests so far, oldest first (the last 50,000, or 64 MB of bodies)."""
        with self._log_lock:
            return list(self._log)

    def count(self, path: str | None = None, method: str | None = None) -> int:
        """How many requests came, misbehaved ones included."""
        with self._log_lock:
            return sum(
                number
                for (made, asked), number in self._counts.items()
                if path in (None, asked) and method in (None, made)
            )

    def busiest(self, window: float, path: str | None = None) -> int:
        """The largest number of requests inside any `window` seconds."""
        times = sorted(r.time for r in self.requests if path in (None, r.path))
        return _busiest(times, window)

    def forget(self) -> None:
        """Empty the log and the counts."""
        with self._log_lock:
            self._log.clear()
            self._log_bytes = 0
            self._counts.clear()

    def _now(self) -> float:
        return time.monotonic() - self._started_at

    def _note(self, request: Request) -> None:
        with self._log_lock:
            self._log.append(request)
            self._log_bytes += len(request.body)
            self._counts[(request.method, request.path)] += 1
            while len(self._log) > _KEPT_REQUESTS or self._log_bytes > _KEPT_BYTES:
                self._log_bytes -= len(self._log.popleft().body)


def _busiest(times: Iterable[float], window: float) -> int:
    best = 0
    recent: deque[float] = deque()
    for moment in times:
        recent.append(moment)
        while moment - recent[0] >= window:
            recent.popleft()
        best = max(best, len(recent))
    return best
