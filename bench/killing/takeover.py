"""Who works on what: the job rows of the database, seen from outside."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from bench.killing.cluster import Cluster
from bench.killing.fleet import GoneForGood, Program

_READY_SECONDS = 10.0
_WORK_SECONDS = 20.0
_LONGEST = 60.0
_POLL = 0.02
_IN_HAND = """
SELECT workflow_uuid FROM dbos.workflow_status WHERE status = 'PENDING' AND executor_id = %s
"""
_LEFT = """
SELECT count(*) FROM dbos.workflow_status
WHERE workflow_uuid = ANY(%s)
  AND (status = 'ENQUEUED' OR (status = 'PENDING' AND executor_id = %s))
"""


class Observer:
    """Looks at the jobs while somebody else kills."""

    def __init__(self, cluster: Cluster) -> None:
        self._connection = cluster.connect()
        self._executor = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._connection.close()

    def wait_for_work(self, worker: Program) -> list[str]:
        """The jobs the worker has in hand, as soon as it has some; empty when none come."""
        until = time.monotonic() + _READY_SECONDS
        while worker.executor is None and time.monotonic() < until:
            time.sleep(_POLL)
        self._executor = worker.executor or ""
        until = time.monotonic() + _WORK_SECONDS
        jobs: list[str] = []
        while not jobs and time.monotonic() < until:
            jobs = [row[0] for row in self._connection.execute(_IN_HAND, [self._executor])]
            time.sleep(_POLL)
        return jobs

    def wait_for_another(self, jobs: list[str]) -> float:
        """Seconds until another process works on each of `jobs`, or has ended it."""
        began = time.monotonic()
        while self._left(jobs):
            if time.monotonic() - began > _LONGEST:
                raise GoneForGood(f"nobody goes on with {', '.join(jobs)}")
            time.sleep(_POLL)
        return time.monotonic() - began

    def _left(self, jobs: list[str]) -> int:
        row = self._connection.execute(_LEFT, [jobs, self._executor]).fetchone()
        return int(row[0]) if row is not None else 0
