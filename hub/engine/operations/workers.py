"""The processes that run jobs."""

from __future__ import annotations

from hub.engine.operations.base import Opened, Row, iso
from hub.store.executors import Executor, list_executors
from hub.store.rows import from_ms


class WorkerOperations(Opened):
    """Looking at the processes of a deployment."""

    def workers(self) -> list[Row]:
        """Every process that runs jobs, the living first; those that died stay for a day."""
        hub = self._opened
        with hub.store.reading() as connection:
            found = list_executors(connection, hub.durable.grace)
        return [worker_row(one) for one in found]


def worker_row(one: Executor) -> Row:
    """A process as every face shows it."""
    who = one.identity
    return {
        "id": who.id,
        "kind": who.kind,
        "host": who.host,
        "pid": who.pid,
        "version": who.version,
        "alive": one.alive,
        "started_at": iso(from_ms(one.started_at)),
        "seen_at": iso(from_ms(one.seen_at)),
        "silent_seconds": round(one.silent, 1),
        "jobs": [
            {"job": held.job, "age_seconds": held.age, "still_seconds": held.still}
            for held in one.jobs
        ],
    }
