"""What runs beside the faults: the stopwatch, and somebody who keeps asking for runs."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from types import TracebackType
from typing import Self

import httpx

from bench.killing.asking import Api
from bench.killing.deployment import KEPT, PULLED
from bench.killing.fleet import PATIENCE, GoneForGood
from bench.killing.world import World

SLOW_SECONDS = 4.0
"""From how many seconds on a start is told with what went on meanwhile."""

_POLL = 0.02


class _Beside:
    """Runs on a thread of its own until the end of the block."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._end.set()
        self._thread.join(timeout=10)


class Stopwatch(_Beside):
    """Seconds from the end of a server until the next one had accepted an event, and was ready.

    Starts that were cut short by the next kill, or by a stop of the database, do not count.
    """

    def __init__(self, here: World) -> None:
        super().__init__(self._watch)
        self._here, self._server = here, here.fleet.server
        self._probe = here.probe("RESTART")
        self._back = 0
        self._disturbed = 0
        self.ready: list[float] = []
        self.accepted: list[float] = []
        self.slow: list[str] = []

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        super().__exit__(*_)
        self._probe.close()

    def wait_back(self) -> None:
        """Return when the server accepts events. Raises GoneForGood."""
        until = time.monotonic() + PATIENCE
        while self._back != self._server.starts:
            if time.monotonic() > until:
                raise GoneForGood(f"the server is not back; it says\n{self._server.said()[-2000:]}")
            time.sleep(_POLL)

    def disturb(self) -> None:
        """The start under way says nothing about the hub: something else was broken as well."""
        self._disturbed = self._server.starts

    def _watch(self) -> None:
        while not self._end.wait(_POLL):
            start = self._server.starts
            if start != self._back:
                self._measure(start)

    def _measure(self, start: int) -> None:
        down_since, asleep = self._server.down_since, self._asleep()
        if not self._probe.send(lambda: self._is_over(start)) or self._is_over(start):
            return
        if self._counts(start):
            self.accepted.append(time.monotonic() - down_since)
            self._explain(start, self.accepted[-1], asleep | self._asleep())
        self._back = start
        while not self._here.fleet.is_ready():
            if self._end.wait(_POLL) or self._is_over(start):
                return
        if self._counts(start):
            self.ready.append(time.monotonic() - down_since)

    def _explain(self, start: int, took: float, asleep: set[str]) -> None:
        """Say of a slow start what else was the matter."""
        if took > SLOW_SECONDS:
            frozen = f", {', '.join(sorted(asleep))} frozen" if asleep else ""
            load = os.getloadavg()[0]
            self.slow.append(f"start {start}: {took:.1f} s, load average {load:.1f}{frozen}")

    def _asleep(self) -> set[str]:
        return {one.name for one in self._here.fleet.programs if one.frozen}

    def _is_over(self, start: int) -> bool:
        return self._server.starts != start or self._end.is_set()

    def _counts(self, start: int) -> bool:
        return start not in (1, self._disturbed)  # the first start makes the store


class Requester(_Beside):
    """Somebody who asks for a run of one flow or another all the time."""

    def __init__(self, here: World, seed: int) -> None:
        super().__init__(self._ask)
        self._here = here
        self._chance = random.Random(seed)

    def _ask(self) -> None:
        with closing(Api(self._here.fleet.deployment, self._here.fleet.port)) as api:
            while not self._end.wait(self._chance.uniform(0.2, 1.5)):
                with suppress(httpx.HTTPError):  # the hub is down: that is the point
                    api.start(self._chance.choice([*PULLED, f"keep_{KEPT}"]))
