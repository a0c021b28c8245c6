"""The projector as a process of its own: started and watched by the server or a worker.

Decoding takes a whole core under load; in the server's process it would hold up who sends.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import sqlalchemy as sa

from hub.sdk.errors import Clash, ConfigError, HubError, TransientError
from hub.sdk.loading import validate
from hub.sdk.telemetry import Decode
from hub.store.database import Store
from hub.store.telemetry.database import open_telemetry, open_telemetry_inbox
from hub.store.telemetry.inbox import last_seqs
from hub.telemetry.bus import Bus, BusAt
from hub.telemetry.bus_feed import BusFeed, bus_parts, dealt
from hub.telemetry.careful import Care
from hub.telemetry.feed import Feed, Feeds, TableFeed
from hub.telemetry.leases import Leases
from hub.telemetry.projector import Projector, Setup
from hub.telemetry.series_writer import SeriesWriter, TextRow, write_texts
from hub.telemetry.settings import ProjectorSettings, load_decoders
from hub.telemetry.upkeep import Upkeep

STEP_SECONDS = 0.05
"""At low load a transaction is not begun sooner after the last one: it takes more along."""

_IDLE_SECONDS = (0.02, 0.05)
_AWAY_SECONDS = (0.5, 5.0)
_ORPHAN_SECONDS = 10.0
_LOCK_SECONDS = 0.1

log = logging.getLogger("hub.telemetry")


def main(load: Callable[[ProjectorSettings], Mapping[str, Decode]] = load_decoders) -> int:
    """Project until SIGTERM, or until the parent's pipe closes; the exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        told = msgspec.json.decode(sys.stdin.buffer.readline())
        settings = validate(ProjectorSettings, told, "stdin")
        _end_with_parent(stop)
        run(settings, load(settings), stop)
    except (HubError, msgspec.DecodeError) as error:
        log.error("the projector cannot work: %s", error)
        return 1
    return 0


def _end_with_parent(stop: threading.Event) -> None:
    def watch() -> None:
        sys.stdin.buffer.read()
        stop.set()
        time.sleep(_ORPHAN_SECONDS)
        os._exit(1)  # a transaction that hangs must not outlive the server for long

    threading.Thread(target=watch, name="hub-parent", daemon=True).start()


def run(settings: ProjectorSettings, decoders: Mapping[str, Decode], stop: threading.Event) -> None:
    """Project until `stop`. A database that is away is waited for, said once."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # a batch is many short-lived tuples
    outage = _Outage(stop)
    while not stop.is_set():
        try:
            with _projector(settings, decoders, stop) as projector:
                _loop(projector, stop, outage)
        except (sa.exc.SQLAlchemyError, OSError, ConfigError, TransientError) as error:
            if not stop.is_set():
                outage.wait(error)


class _Outage:
    """Waiting for a database or a connector; said once when it begins and when it is over."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._pause = 0.0

    def wait(self, error: Exception) -> None:
        if not self._pause:
            kind = str(error) if isinstance(error, HubError) else type(error).__name__
            log.warning("telemetry waits: %s", kind)
        self._pause = min(max(2 * self._pause, _AWAY_SECONDS[0]), _AWAY_SECONDS[1])
        self._stop.wait(self._pause)

    def over(self) -> None:
        if self._pause:
            log.info("telemetry is projected again")
            self._pause = 0.0


@contextlib.contextmanager
def _projector(
    settings: ProjectorSettings, decoders: Mapping[str, Decode], stop: threading.Event
) -> Iterator[Projector]:
    with contextlib.ExitStack() as parts:
        store = parts.enter_context(contextlib.closing(open_telemetry(settings.url)))
        inbox = parts.enter_context(contextlib.closing(open_telemetry_inbox(settings.inbox_url)))
        if store.embedded:
            parts.enter_context(_alone(store, stop))
        declared = 1 if store.embedded else settings.parts
        numbers = list(range(declared if store.embedded else _parts(inbox, declared)))
        feed: Feed = TableFeed(inbox)
        if settings.bus is not None:
            bus = parts.enter_context(contextlib.closing(Bus(BusAt(*settings.bus))))
            feed = Feeds([feed, BusFeed(bus, store, settings.inbox_hours)])
            numbers = dealt(numbers, bus_parts(bus, declared))
        owner, after = settings.owner, settings.after
        leases = Leases(store, owner, numbers, after=after, seconds=settings.lease)
        setup = Setup(store, feed, settings.sources, decoders, _Writer(), _now_ms, Clash)
        upkeep = Upkeep(store, settings.keeping(), settings.owner)
        upkeep.start()
        try:
            yield Projector(setup, leases, Care(store, careful=settings.careful))
        finally:
            upkeep.stop()
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                leases.give_up()


def _parts(inbox: Store, declared: int) -> int:
    """Those declared, and those that have messages from when there were more."""
    with inbox.reading() as connection:
        return max(declared, *(part + 1 for part in last_seqs(connection)), 1)


class _Writer(SeriesWriter):
    """Numbers and texts."""

    def write_texts(self, connection: sa.Connection, rows: Sequence[tuple[int, int, str]]) -> Any:
        return write_texts(connection, [TextRow(*row) for row in rows])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _loop(projector: Projector, stop: threading.Event, outage: _Outage) -> None:
    idle = _IDLE_SECONDS[0]
    while not stop.is_set():
        begun = time.monotonic()
        done = projector.step()
        outage.over()
        if not done.messages:
            stop.wait(idle)
            idle = min(idle * 1.2, _IDLE_SECONDS[1])
            continue
        idle = _IDLE_SECONDS[0]
        if done.lag == 0:
            stop.wait(max(0.0, STEP_SECONDS - (time.monotonic() - begun)))


@contextlib.contextmanager
def _alone(store: Store, stop: threading.Event) -> Iterator[None]:
    """On SQLite one projector works on a file; the system frees the lock when it dies."""
    path = Path(f"{store.engine.url.database}.projector")
    with path.open("a") as file:
        while not _locked(file):
            if stop.wait(_LOCK_SECONDS):
                raise ConfigError("store.locked", file=path, pid="unknown")
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
