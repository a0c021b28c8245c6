"""What a job is to the hub: its id, its tries, and who has it in hand."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hub.store.executors import InHand

Handler = Callable[..., None]

WAITING = "waiting"
DELAYED = "delayed"
RUNNING = "running"

FIRST_WAIT = 2.0
LONGEST_WAIT = 300.0
LONGEST_WAIT_UNKNOWN = 60.0
KEEPS_FAILING = 6
"""From so many tries on a job that fails is reported: it has had two minutes."""

_TRY = "!"


class UnknownHandler(Exception):
    """This program cannot run the job; another version of it may."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job that is not over. Times are milliseconds; `attempts` counts processes that took it."""

    id: str
    state: str
    queue: str | None
    partition: str | None
    version: str | None
    workflow: str
    executor_id: str | None
    attempts: int
    created_at: int
    started_at: int | None
    due_at: int | None

    @property
    def tries(self) -> int:
        """How often the job has failed."""
        return split_id(self.id)[1]


def split_id(job_id: str) -> tuple[str, int]:
    """The id a job was queued with, and how often it has failed since."""
    base, mark, tries = job_id.rpartition(_TRY)
    return (base, int(tries)) if mark and tries.isdecimal() else (job_id, 0)


def next_id(job_id: str) -> str:
    """The id of the next try."""
    base, tries = split_id(job_id)
    return f"{base}{_TRY}{tries + 1}"


def wait_before(tries: int, error: Exception) -> float:
    """Seconds before a job that has failed `tries` times is tried once more."""
    longest = LONGEST_WAIT_UNKNOWN if isinstance(error, UnknownHandler) else LONGEST_WAIT
    return float(min(longest, FIRST_WAIT * 2.0 ** min(tries, 20)))


def call(handlers: Mapping[str, Handler], name: str, args: Sequence[Any]) -> None:
    """Run the handler. Raises UnknownHandler when this program has none that takes `args`."""
    handler = handlers.get(name)
    if handler is None:
        raise UnknownHandler(f"no handler {name!r}")
    try:
        inspect.signature(handler).bind(*args)
    except TypeError as error:
        raise UnknownHandler(f"handler {name!r}: {error}") from error
    except ValueError:  # a builtin that does not tell its signature
        pass
    handler(*args)


class Hand:
    """The jobs this process is working on."""

    def __init__(self, commits: Mapping[int, int]) -> None:
        self._commits = commits
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    @contextmanager
    def holding(self, job_id: str) -> Iterator[None]:
        """The calling thread works on the job."""
        thread = threading.get_ident()
        now = time.monotonic()
        with self._lock:
            self._held[job_id] = _Held(thread, now, now, self._commits.get(thread, 0))
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(job_id, None)

    def __contains__(self, job_id: str) -> bool:
        with self._lock:
            return job_id in self._held

    def __len__(self) -> int:
        with self._lock:
            return len(self._held)

    def show(self) -> list[InHand]:
        """Every job in hand, the one that has stood still longest first."""
        now = time.monotonic()
        with self._lock:
            for held in self._held.values():
                held.look(self._commits.get(held.thread, 0), now)
            found = [
                InHand(job, round(now - held.since, 1), round(now - held.moved, 1))
                for job, held in self._held.items()
            ]
        return sorted(found, key=lambda one: -one.still)


@dataclass(slots=True)
class _Held:
    thread: int
    since: float
    moved: float
    commits: int

    def look(self, commits: int, now: float) -> None:
        if commits != self.commits:
            self.commits, self.moved = commits, now
