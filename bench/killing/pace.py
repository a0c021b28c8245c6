"""What runs beside the faults: the stopwatch, and somebody who keeps asking for runs."""

from __future__ import annotations

import random
import threading
import time
from types import TracebackType
from typing import Self

import httpx

from bench.killing.asking import Api
from bench.killing.deployment import KEPT, PULLED
from bench.killing.fleet import PATIENCE, GoneForGood
from bench.killing.world import World

_POLL = 0.02


class _Beside:
    """A thread that runs until the end of the block."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._end.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        raise NotImplementedError


class Stopwatch(_Beside):
    """How long each start of the server took until it was ready, and had accepted an event.

    Starts that were cut short by the next kill, or by a stop of the database, do not count.
    """

    def __init__(self, here: World) -> None:
        super().__init__()
        self._here, self._server = here, here.fleet.server
        self._probe = here.probe("RESTART")
        self._back = 0
        self._disturbed = 0
        self.ready: list[float] = []
        self.accepted: list[float] = []

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

    def _run(self) -> None:
        while not self._end.wait(_POLL):
            start = self._server.starts
            if start != self._back and self._here.fleet.is_ready() and start == self._server.starts:
                self._measure(start)

    def _measure(self, start: int) -> None:
        ready = time.monotonic() - self._server.started_at
        accepted = self._probe.send(lambda: self._server.starts != start or self._end.is_set())
        took = time.monotonic() - self._server.started_at
        if not accepted or start != self._server.starts:
            return
        if start != self._disturbed:
            self.ready.append(ready)
            self.accepted.append(took)
        self._back = start


class Requester(_Beside):
    """Somebody who asks for a run of one flow or another all the time."""

    def __init__(self, here: World, seed: int) -> None:
        super().__init__()
        self._here = here
        self._chance = random.Random(seed)

    def _run(self) -> None:
        api = Api(self._here.fleet.deployment, self._here.fleet.port)
        while not self._end.wait(self._chance.uniform(0.2, 1.5)):
            try:
                api.start(self._chance.choice([*PULLED, f"keep_{KEPT}"]))
            except httpx.HTTPError:
                continue  # the hub is down: that is the point
        api.close()
