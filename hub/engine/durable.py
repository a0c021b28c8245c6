"""Durable jobs: the only file that knows the workflow engine (DBOS).

Business truth lives in the hub's tables; the engine only makes sure that somebody works on it.
So a job carries ids, never payloads, does its own checkpoints in the hub's tables, and may run
again from the start at any time (docs/decisions/0001-page-checkpoints.md).
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.database import Store, database_time
from hub.store.tables import executor

if TYPE_CHECKING:
    from dbos import DBOSClient
    from dbos._client import EnqueueOptions

# The engine is imported where jobs are run: most commands only look at the store.

Handler = Callable[..., None]

QUEUES = {"flow": 1, "delivery": 1, "system": 1}
"""Fixed queues and how many jobs of one partition run at a time across all processes."""

APPLICATION = "hub"
# A pinned version: the default is a hash of the code, and an edit would strand running jobs.
VERSION = "hub-jobs-1"

_POLL_SECONDS = 0.2
_BEAT_SECONDS = 1.0
_REAPER_LOCK = 7_165_001
_JOB = "hub_job"

log = logging.getLogger("hub.engine.durable")


class Durable:
    """Runs queued jobs in this process and takes over the jobs of processes that died.

    `handlers` name what a job may call. On PostgreSQL a process is taken for dead when its
    heartbeat is older than `grace` seconds; on SQLite there is only one process, so every job of
    an earlier life is taken over at start.
    """

    def __init__(
        self, store: Store, handlers: Mapping[str, Handler], *, grace: float = 6.0
    ) -> None:
        self.executor_id = uuid.uuid4().hex
        self._store = store
        self._handlers = dict(handlers)
        self._grace = grace
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._client: DBOSClient | None = None
        self.running = False

    def start(self) -> None:
        """Launch the engine and its queues in this process."""
        from dbos import DBOS, DBOSPortableJSONSerializer

        _quiet_logs()
        self._beat()  # before the first job: who has a job and no heartbeat is taken for dead
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_engine": self._store.engine,
                "application_version": VERSION,
                "executor_id": self.executor_id,
                "serializer": DBOSPortableJSONSerializer(),
                "use_listen_notify": False,
                "log_level": "ERROR",
                # The queue loop starts polling new queues only after one of its own rounds.
                "notification_listener_polling_interval_sec": 1.0,
            }
        )

        @DBOS.workflow(name=_JOB, max_recovery_attempts=1000)
        def run_job(handler: str, args: list[Any]) -> None:
            self._run(handler, args)

        DBOS.launch()
        for name, each in QUEUES.items():
            DBOS.register_queue(
                name,
                partition_concurrency=each,
                polling_interval_sec=_POLL_SECONDS,
                on_conflict="always_update",
            )
        self.connect()
        self.running = True
        self._beat()
        if self._store.embedded:
            self._take_over(self._strangers())
        else:
            self._watch()

    def connect(self) -> None:
        """Open the queues for `enqueue` only; no job runs in this process."""
        from dbos import DBOSClient, DBOSPortableJSONSerializer

        self._client = DBOSClient(
            system_database_engine=self._store.engine,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            use_listen_notify=False,
            lazy=True,
        )

    def stop(self) -> None:
        """Stop taking jobs. Jobs in flight stay pending and are taken over by the next process."""
        self._stop.set()
        # A job that ends behind our back finds the engine gone; it is taken over, not lost.
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        for thread in self._threads:
            thread.join(timeout=5)
        if self._client is not None:
            self._client.destroy()
            self._client = None
        if self.running:
            from dbos import DBOS

            self.running = False
            DBOS.destroy(destroy_registry=True)

    def enqueue(
        self,
        connection: Connection,
        handler: str,
        job_id: str,
        *,
        queue: str,
        partition: str,
        args: Sequence[str | int],
        delay: float = 0.0,
    ) -> None:
        """Queue a job in the caller's transaction; the same `job_id` again changes nothing.

        Unknown handlers and queues are refused here because the engine would leave such a job
        waiting forever without a word.
        """
        if handler not in self._handlers or queue not in QUEUES or not partition:
            raise ValueError(f"job {job_id}: no handler {handler!r}, queue {queue!r} or partition")
        if self._client is None:
            raise RuntimeError("the durable engine is not open")
        options: EnqueueOptions = {
            "workflow_name": _JOB,
            "queue_name": queue,
            "workflow_id": job_id,
            "queue_partition_key": partition,
        }
        if delay > 0:
            options["delay_seconds"] = delay
        self._client.enqueue_in_transaction(connection, options, handler, list(args))

    def alive(self, prefix: str) -> bool:
        """Whether a job whose id starts with `prefix` is queued, delayed or running.

        The engine's filter is a LIKE without escapes (`_` is any character), so we look again.
        """
        if self._client is None:
            raise RuntimeError("the durable engine is not open")
        found = self._client.list_workflows(
            workflow_id_prefix=prefix,
            status=["ENQUEUED", "DELAYED", "PENDING"],
            load_input=False,
            load_output=False,
        )
        return any(one.workflow_id.startswith(prefix) for one in found)

    def forget_finished(self, older_than_seconds: float, limit: int = 500) -> int:
        """Delete finished jobs; a deleted id no longer guards against being queued again."""
        if self._client is None:
            raise RuntimeError("the durable engine is not open")
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - older_than_seconds))
        found = self._client.list_workflows(
            status=["SUCCESS", "ERROR", "CANCELLED"],
            end_time=moment,
            limit=limit,
            load_input=False,
            load_output=False,
        )
        ids = [one.workflow_id for one in found]
        if ids:
            self._client.delete_workflows(ids)
        return len(ids)

    def _run(self, handler: str, args: list[Any]) -> None:
        if self._stop.is_set():
            return
        self._handlers[handler](*args)

    def _beat(self) -> None:
        mine = executor.c.id == self.executor_id
        with self._store.transaction() as connection:
            now = int(database_time(connection) * 1000)
            if connection.execute(executor.update().where(mine).values(seen_at=now)).rowcount == 0:
                connection.execute(executor.insert().values(id=self.executor_id, seen_at=now))
            old = executor.c.seen_at < now - 86_400_000
            connection.execute(executor.delete().where(old))

    def _watch(self) -> None:
        thread = threading.Thread(target=self._watch_loop, name="hub-reaper", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _watch_loop(self) -> None:
        judging_from = last = time.monotonic()
        while not self._stop.wait(_BEAT_SECONDS):
            try:
                self._beat()
                now = time.monotonic()
                if now - last > 0.7 * self._grace:
                    # The database or this process was away, and maybe everybody else's
                    # heartbeat with it: let the living show themselves first.
                    judging_from = now + self._grace
                last = now
                if now >= judging_from:
                    self._reap()
            except sa.exc.SQLAlchemyError as error:
                log.warning("heartbeat failed: %s", type(error).__name__)

    def _reap(self) -> None:
        lock = sa.text("SELECT pg_try_advisory_xact_lock(:lock)")
        with self._store.transaction() as connection:
            if connection.execute(lock, {"lock": _REAPER_LOCK}).scalar_one():
                self._take_over(self._strangers() - self._recently_seen(connection))

    def _recently_seen(self, connection: Connection) -> set[str]:
        fresh = executor.c.seen_at >= int((database_time(connection) - self._grace) * 1000)
        return set(connection.execute(sa.select(executor.c.id).where(fresh)).scalars())

    def _strangers(self) -> set[str]:
        """Other processes that have a job in hand."""
        assert self._client is not None  # noqa: S101 (only called while open)
        pending = self._client.list_workflows(status="PENDING", load_input=False, load_output=False)
        return {one.executor_id for one in pending if one.executor_id} - {self.executor_id}

    def _take_over(self, dead: set[str]) -> None:
        if dead:
            from dbos import DBOS

            log.info("taking over the jobs of %d process(es) that died", len(dead))
            # Private, but the public way drops the queue's deduplication (contract test).
            DBOS._recover_pending_workflows(sorted(dead))


def _quiet_logs() -> None:
    logging.getLogger("dbos").setLevel(logging.ERROR)
