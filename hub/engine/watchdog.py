"""Jobs that do not get on: waiting without a reader, taken without progress, failing for ever.

The engine says nothing when a job can never start (docs/engine.md). So every sweep looks at what is
not over, repairs what it can, and tells the rest: once in the log, always in `hub doctor` and
`/metrics`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from hub.engine.durable import QUEUES, is_readable
from hub.engine.jobs import DELAYED, KEEPS_FAILING, RUNNING, WAITING, Job
from hub.sdk.errors import HubError
from hub.store.executors import Executor, list_executors

if TYPE_CHECKING:
    from hub.engine.hub import Hub

NOT_STARTED_SECONDS = 60.0
"""A job that nothing holds up starts within a second; one that did not in this time will not."""

NO_PROGRESS_SECONDS = 900.0
"""A job commits with every page and every delivery; calls to other systems have deadlines."""

DYING_ATTEMPTS = 5
_MOST_LOOKED_AT = 2000

log = logging.getLogger("hub.engine.watchdog")


@dataclass(frozen=True, slots=True)
class Look:
    """The jobs that are not over and the processes that may work on them, at one moment."""

    now_ms: int
    jobs: Sequence[Job]
    executors: Sequence[Executor]
    jobs_at_once: int

    @property
    def alive(self) -> list[Executor]:
        """The processes with a fresh heartbeat."""
        return [one for one in self.executors if one.alive]


def look(hub: Hub) -> Look:
    """How things stand now."""
    hub.durable.connect()
    jobs = hub.durable.unfinished(_MOST_LOOKED_AT)
    with hub.store.reading() as connection:
        known = list_executors(connection, hub.durable.grace)
    return Look(hub.now_ms(), jobs, known, hub.durable.jobs_at_once)


def troubles(seen: Look) -> list[HubError]:
    """What an operator should be told."""
    return [
        *_unread(seen),
        *_failing(seen.jobs),
        *_standing_still(seen),
    ]


def _unread(seen: Look) -> Iterator[HubError]:
    waiting = [job for job in seen.jobs if job.state == WAITING]
    for job in waiting:
        if not is_readable(job):
            yield HubError(
                "job.unreadable",
                job=job.id,
                queue=job.queue or "none",
                version=job.version or "none",
            )
    overdue = [job for job in waiting if is_readable(job) and _waits(job, seen.now_ms)]
    if overdue and not seen.alive:
        yield HubError("worker.none", waiting=len(overdue))
        return
    for job in _without_a_reason(seen, overdue):
        seconds = (seen.now_ms - job.created_at) // 1000
        yield HubError("job.not_started", job=job.id, queue=job.queue, seconds=seconds)


def _waits(job: Job, now_ms: int) -> bool:
    since = max(job.created_at, job.due_at or 0)
    return now_ms - since > NOT_STARTED_SECONDS * 1000


def _without_a_reason(seen: Look, waiting: Sequence[Job]) -> Iterator[Job]:
    """The first job of each partition that is free, in queues whose processes have room."""
    running = [job for job in seen.jobs if job.state == RUNNING]
    busy = {(job.queue, job.partition) for job in running}
    load = Counter(job.queue for job in running)
    room = seen.jobs_at_once * len(seen.alive)
    for job in waiting:
        place = (job.queue, job.partition)
        if place not in busy and load[job.queue] < room:
            busy.add(place)
            yield job


def _failing(jobs: Sequence[Job]) -> Iterator[HubError]:
    for job in jobs:
        if job.tries >= KEEPS_FAILING:
            yield HubError("job.failing", job=job.id, tries=job.tries)
        if job.attempts > DYING_ATTEMPTS:
            yield HubError("job.dying", job=job.id, attempts=job.attempts - 1)


def _standing_still(seen: Look) -> Iterator[HubError]:
    for one in seen.alive:
        for held in one.jobs:
            if held.still > NO_PROGRESS_SECONDS:
                name = f"{one.identity.host}:{one.identity.pid}"
                seconds = int(held.still)
                yield HubError("job.no_progress", job=held.job, worker=name, seconds=seconds)


def repair(hub: Hub, seen: Look) -> None:
    """Mend what can be mended: forgotten queues, and jobs that were queued by another version."""
    if missing := hub.durable.missing_queues():
        log.error("queues %s were forgotten by the engine; registered again", ", ".join(missing))
        hub.durable.restore_queues()
    for job in seen.jobs:
        if not is_readable(job) and job.state in (WAITING, DELAYED) and hub.durable.queue_anew(job):
            log.warning("job %s: nobody could take it (%s); queued anew", job.id, job.version)


class Watchdog:
    """Looks again and again; tells each trouble in the log when it begins."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._told: set[tuple[str, str]] = set()

    def round(self) -> None:
        """One look, with its repairs."""
        seen = look(self._hub)
        repair(self._hub, seen)
        found = {(error.code, str(error.params.get("job"))): error for error in troubles(seen)}
        for key, error in found.items():
            if key not in self._told:
                log.error("%s", error)
        self._told = set(found)


class Backlog(NamedTuple):
    """How many jobs of a queue wait, are delayed and run, and how long the oldest one waits."""

    queue: str
    waiting: int
    delayed: int
    running: int
    oldest_seconds: int


def backlog(seen: Look) -> list[Backlog]:
    """Where the jobs of each queue stand."""
    rows = []
    for name in QUEUES:
        mine = [job for job in seen.jobs if job.queue == name]
        count = Counter(job.state for job in mine)
        since = [max(job.created_at, job.due_at or 0) for job in mine if job.state == WAITING]
        oldest = max(0, seen.now_ms - min(since)) // 1000 if since else 0
        rows.append(Backlog(name, count[WAITING], count[DELAYED], count[RUNNING], oldest))
    return rows
