"""Listeners of telemetry: all on one thread, on an event loop of their own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import TimeoutError as Overdue
from typing import Any, TypeVar

from hub.sdk.errors import ConfigError, HubError
from hub.sdk.telemetry import Listener

_START_SECONDS = 30.0
_STOP_SECONDS = 5.0

Value = TypeVar("Value")

log = logging.getLogger("hub.telemetry.listening")


class Listening:
    """Starts listeners, and stops them."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners
        self._started: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """All of them, or none. Raises what the first that could not start raised, as HubError."""
        if not self._listeners:
            return
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="hub-listeners", daemon=True)
        self._thread.start()
        for listener in self._listeners:
            try:
                self._wait(listener.start(), _START_SECONDS)
            except Exception as error:
                self.stop()
                if isinstance(error, HubError):
                    raise
                problem = str(error) or type(error).__name__
                raise ConfigError(
                    "telemetry.listener", name=listener.name, problem=problem
                ) from error
            self._started.append(listener)

    def stop(self) -> None:
        """Stop those that run, the last one first, then the loop."""
        if self._loop is None or self._thread is None:
            return
        while self._started:
            listener = self._started.pop()
            try:
                self._wait(listener.stop(), _STOP_SECONDS)
            except Exception as error:  # the others are stopped all the same
                log.warning("%s did not stop: %s", listener.name, error, exc_info=error)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=_STOP_SECONDS)
        self._loop = self._thread = None

    def status(self) -> dict[str, dict[str, Any]]:
        """What each listener says of itself, by name."""
        return {one.name: one.status() for one in self._started}

    def _wait(self, work: Coroutine[Any, Any, Value], seconds: float) -> Value:
        assert self._loop is not None  # noqa: S101 (only while it runs)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except Overdue:
            future.cancel()
            raise

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None  # noqa: S101 (set before the thread starts)
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            _cancel_all(loop)
            loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
