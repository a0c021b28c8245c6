"""An engine of its own for tests that look at jobs, not at flows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from hub.engine.durable import Durable
from hub.store.database import Store


@contextmanager
def running(
    store: Store, *, grace: float = 2.0, jobs_at_once: int = 16, **handlers: Callable[..., None]
) -> Iterator[Durable]:
    """An engine in this process that runs `handlers`."""
    durable = Durable(store, handlers, grace=grace, jobs_at_once=jobs_at_once)
    durable.start()
    try:
        yield durable
    finally:
        durable.stop()


@contextmanager
def queueing(store: Store, **handlers: Callable[..., None]) -> Iterator[Durable]:
    """An engine that only queues."""
    durable = Durable(store, handlers)
    durable.connect()
    try:
        yield durable
    finally:
        durable.stop()


def enqueue(durable: Durable, store: Store, job_id: str, *args: str, **more: object) -> None:
    """Queue a job of handler `work` in a transaction of its own."""
    options: dict[str, object] = {"queue": "flow", "partition": "p", **more}
    with store.transaction() as connection:
        durable.enqueue(connection, "work", job_id, args=args, **options)  # type: ignore[arg-type]


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def engine_table(store: Store, name: str) -> sa.Table:
    """A table of the engine as it stands in the database."""
    schema = None if store.embedded else "dbos"
    return sa.Table(name, sa.MetaData(), autoload_with=store.engine, schema=schema)
