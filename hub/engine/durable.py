"""Durable jobs: the only file that knows the workflow engine (DBOS).

Business truth lives in the hub's tables; the engine only makes sure that somebody works on it.
So a job carries ids, never payloads, does its own checkpoints in the hub's tables, and may run
again from the start at any time (docs/decisions/0001-page-checkpoints.md). The engine's traps and
what holds each of them shut: docs/engine.md.
"""

from __future__ import annotations

import inspect
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

import hub
from hub.engine.heart import Duties, Heart
from hub.engine.jobs import (
    DELAYED,
    KEEPS_FAILING,
    RUNNING,
    WAITING,
    Hand,
    Handler,
    Job,
    UnknownHandler,
    call,
    next_id,
    split_id,
    wait_before,
)
from hub.store.database import STANDSTILL_SECONDS, Store
from hub.store.executors import Identity

if TYPE_CHECKING:
    from dbos import DBOSClient, WorkflowStatus
    from dbos._client import EnqueueOptions

# The engine is imported where jobs are run or queued: most commands only look at the store.

QUEUES = {"flow": 1, "delivery": 1, "system": 1}
"""Fixed queues and how many jobs of one partition run at a time across all processes."""

APPLICATION = "hub"
VERSION = "hub-jobs-1"
"""Never changes: a job queued or taken under one version is invisible to every other. What a
program cannot run it puts back (`UnknownHandler`), so versions of the hub may share a database."""

JOBS_AT_ONCE = 16
"""Jobs of one queue that one process takes at a time; the rest is for other processes."""

_POLL_SECONDS = 0.2
_WORKFLOW = "hub_job"
_MIGRATION_LOCK = 7_165_003
_STATES = {"ENQUEUED": WAITING, "DELAYED": DELAYED, "PENDING": RUNNING}
_OVER = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_STORE_AWAY_SECONDS = 0.5
_LAST_WORDS_SECONDS = 1.5

log = logging.getLogger("hub.engine.durable")


class LeftPending(BaseException):
    """Ends a job without an end: whoever takes it over begins it again.

    Not an `Exception`: the engine records every one of those as the job's outcome.
    """


class Durable:
    """Runs queued jobs in this process and takes over the jobs of processes that died.

    `handlers` name what a job may call. On PostgreSQL a process is taken for dead when its
    heartbeat is older than `grace` seconds; on SQLite there is only one process, so every job of
    an earlier life is taken over at start.
    """

    def __init__(
        self,
        store: Store,
        handlers: Mapping[str, Handler],
        *,
        grace: float = STANDSTILL_SECONDS,
        jobs_at_once: int = JOBS_AT_ONCE,
    ) -> None:
        self.executor_id = uuid.uuid4().hex
        self.grace = grace
        self.jobs_at_once = jobs_at_once
        self.running = False
        self._store = store
        if wrong := [name for name, one in handlers.items() if inspect.iscoroutinefunction(one)]:
            # Called, it would return at once: the job would count as done, its work never begun.
            raise TypeError(f"handlers must be plain functions: {', '.join(wrong)}")
        self._handlers = dict(handlers)
        self._hand = Hand(store.commits)
        self._stop = threading.Event()
        self._client: DBOSClient | None = None
        self._heart: Heart | None = None

    # --- life -------------------------------------------------------------------------------------

    def start(self, kind: str = "worker") -> None:
        """Work on jobs in this process; `kind` says what it is to whoever lists processes."""
        from dbos import DBOS, DBOSPortableJSONSerializer

        self.connect()
        self._register_queues()
        who = Identity(self.executor_id, kind, socket.gethostname(), os.getpid(), hub.__version__)
        duties = Duties(self._running_jobs, self._take_over, self._put_back, self._give_up)
        self._heart = Heart(self._store, who, self.grace, self._hand, duties)
        self._heart.beat()  # before the first job: who has a job and no heartbeat is dead
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_engine": self._store.engine,
                "application_version": VERSION,
                "executor_id": self.executor_id,
                "serializer": DBOSPortableJSONSerializer(),
                "use_listen_notify": False,
                "run_migrations": False,
                "log_level": "ERROR",
            }
        )

        @DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=1000)
        def run_job(handler: str, args: list[Any]) -> str | None:
            return self._run(str(DBOS.workflow_id), handler, args)

        DBOS.launch()
        self.running = True
        if self._store.embedded:
            earlier = {job.executor_id for job in self._running_jobs() if job.executor_id}
            self._take_over(earlier - {self.executor_id})
        self._heart.start()

    @property
    def open(self) -> bool:
        """Whether jobs can be queued from here."""
        return self._client is not None

    def connect(self) -> None:
        """Open the queues for `enqueue` and the questions below; no job runs in this process."""
        from dbos import DBOSClient, DBOSPortableJSONSerializer

        if self._client is not None:
            return
        _quiet_logs()
        _refuse_pickle()
        client = DBOSClient(
            system_database_engine=self._store.side_engine,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
            use_listen_notify=False,
            lazy=True,
            # Otherwise a call sleeps for up to a minute after the database is back.
            retry_connection_errors=False,
        )
        with self._store.alone(_MIGRATION_LOCK):
            client._sys_db.run_migrations()  # private: a client alone never makes the tables
        self._client = client

    def stop(self) -> None:
        """Stop taking jobs. What is not over stays pending and is taken over at once."""
        self._stop.set()
        # A job that ends behind our back finds the engine gone; it is taken over, not lost.
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        while len(self._hand) and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._heart is not None:
            self._heart.stop()
            self._heart.leave()  # first: the engine may take its time, or be killed at it
        if self.running:
            from dbos import DBOS

            self.running = False
            DBOS.destroy(destroy_registry=True)
        if self._client is not None:
            self._client.destroy()
            self._client = None

    @property
    def is_well(self) -> bool:
        """Whether this process works on jobs and its heartbeat reaches the store."""
        return self.running and self._heart is not None and self._heart.is_well

    # --- queueing ---------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether jobs can be queued."""
        return self._client is not None

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
        self._queue(connection, handler, job_id, queue, partition, args, delay)

    def _queue(
        self,
        connection: Connection,
        handler: str,
        job_id: str,
        queue: str,
        partition: str,
        args: Sequence[str | int],
        delay: float,
    ) -> None:
        options: EnqueueOptions = {
            "workflow_name": _WORKFLOW,
            "queue_name": queue,
            "workflow_id": job_id,
            "queue_partition_key": partition,
            # Without one, only processes of the version registered last would take it.
            "app_version": VERSION,
        }
        if delay > 0:
            options["delay_seconds"] = delay
        self._opened().enqueue_in_transaction(connection, options, handler, list(args))

    # --- questions --------------------------------------------------------------------------------

    def alive(self, prefix: str) -> bool:
        """Whether a job whose id starts with `prefix` is queued, delayed or running.

        One that nobody can ever take does not count: its work needs another job.
        """
        found = self._list(status=list(_STATES), workflow_id_prefix=prefix)
        return any(job.id.startswith(prefix) and is_readable(job) for job in found)

    def unfinished(self, limit: int = 1000) -> list[Job]:
        """Jobs that are queued, delayed or running, the oldest first."""
        return self._list(status=list(_STATES), limit=limit)

    def missing_queues(self) -> list[str]:
        """Queues that no process polls because the engine has forgotten them."""
        known = {one.name for one in self._opened().list_queues()}
        return [name for name in QUEUES if name not in known]

    def _running_jobs(self) -> list[Job]:
        return self._list(status="PENDING")

    def _list(self, **filters: Any) -> list[Job]:
        found = self._opened().list_workflows(**filters, load_input=False, load_output=False)
        return [_job(one) for one in found]

    # --- repairs ----------------------------------------------------------------------------------

    def restore_queues(self) -> None:
        """Register the queues again, so that every process polls them."""
        self._register_queues()

    def queue_anew(self, job: Job) -> bool:
        """Replace a job of another version by one that this program's processes can take."""
        found = self._opened().list_workflows(workflow_ids=[job.id], load_output=False)
        given = found[0].input if found else None  # text when it cannot be read
        if not isinstance(given, dict) or len(given["args"]) != 2:
            return False
        if job.workflow != _WORKFLOW or job.queue not in QUEUES or not job.partition:
            return False
        handler, args = given["args"]
        with self._store.transaction() as connection:
            self._queue(
                connection, handler, next_id(job.id), job.queue, job.partition, args, delay=0.0
            )
        self._opened().cancel_workflow(job.id)
        return True

    def forget_finished(self, older_than_seconds: float, limit: int = 500) -> int:
        """Delete finished jobs; a deleted id no longer guards against being queued again."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - older_than_seconds))
        ids = [job.id for job in self._list(status=_OVER, end_time=moment, limit=limit)]
        if ids:
            self._opened().delete_workflows(ids)
        return len(ids)

    # --- inside -----------------------------------------------------------------------------------

    def _opened(self) -> DBOSClient:
        # Never opened on the way: that writes, and a caller's transaction may hold SQLite's lock.
        if self._client is None:
            raise RuntimeError("the durable engine is not open")
        return self._client

    def _register_queues(self) -> None:
        # Before the launch: the engine looks for new queues only once a second.
        for name, each in QUEUES.items():
            self._opened().register_queue(
                name,
                partition_concurrency=each,
                worker_concurrency=self.jobs_at_once,
                polling_interval_sec=_POLL_SECONDS,
                on_conflict="always_update",
            )

    def _run(self, job_id: str, handler: str, args: list[Any]) -> str | None:
        """Run the job; the name of its error when it must be tried again."""
        failure: Exception | None = None
        with self._hand.holding(job_id):
            if not self._stop.is_set():
                try:
                    call(self._handlers, handler, args)
                except Exception as error:  # noqa: BLE001 (whatever it is, the work is not done)
                    failure = error
                self._wait_for_store()
            if self._stop.is_set():
                raise LeftPending
            if failure is not None:
                self._try_again(job_id, handler, args, failure)
        return None if failure is None else type(failure).__name__

    def _try_again(self, job_id: str, handler: str, args: list[Any], failure: Exception) -> None:
        """Queue the job once more, later the more often it failed, and say so."""
        (job,) = self._list(workflow_ids=[job_id])
        tries = split_id(job_id)[1]
        wait = wait_before(tries, failure)
        assert job.queue is not None  # noqa: S101 (it came from a queue)
        assert job.partition is not None  # noqa: S101 (so it has one)
        with self._store.transaction() as connection:
            self._queue(
                connection, handler, next_id(job_id), job.queue, job.partition, args, delay=wait
            )
        again = f"job {job_id} failed {tries + 1} times, again in {wait:.0f} s"
        if isinstance(failure, UnknownHandler):
            log.warning("%s: %s; a newer hub may know it", again, failure)
        elif tries == 0:
            log.error("%s", again, exc_info=failure)
        else:
            level = logging.ERROR if tries + 1 >= KEEPS_FAILING else logging.WARNING
            log.log(level, "%s: %s", again, type(failure).__name__)

    def _wait_for_store(self) -> None:
        """Return when the store answers: the engine, told so later, would sleep for a minute."""
        while not self._store.embedded and not self._stop.is_set():
            try:
                with self._store.reading() as connection:
                    connection.execute(sa.select(sa.literal(1)))
            except sa.exc.SQLAlchemyError:
                self._stop.wait(_STORE_AWAY_SECONDS)
            else:
                return

    def _take_over(self, dead: set[str]) -> None:
        if dead:
            from dbos import DBOS

            log.info("taking over the jobs of %d process(es) that died", len(dead))
            # Private, but the public way forgets how many processes died of the job.
            DBOS._recover_pending_workflows(sorted(dead))

    def _put_back(self, job: Job) -> None:
        self._opened().resume_workflow(job.id, queue_name=job.queue)

    def _give_up(self, job: Job) -> None:
        self._opened().cancel_workflow(job.id)


def is_readable(job: Job) -> bool:
    """Whether some process of this program would take the job (or has it)."""
    return (
        job.workflow == _WORKFLOW
        and job.queue in QUEUES
        and bool(job.partition)
        and job.version in (None, VERSION)
    )


def _job(found: WorkflowStatus) -> Job:
    return Job(
        id=found.workflow_id,
        state=_STATES.get(found.status, found.status.lower()),
        queue=found.queue_name,
        partition=found.queue_partition_key,
        version=found.app_version,
        workflow=found.name,
        executor_id=found.executor_id,
        attempts=found.recovery_attempts or 0,
        created_at=found.created_at or 0,
        started_at=found.dequeued_at,
        due_at=found.delay_until_epoch_ms,
    )


def _refuse_pickle() -> None:
    """The engine reads a row by the serializer that the row names, and pickle runs code."""
    from dbos import _serialization

    def refused(_text: str) -> None:
        raise ValueError("a job in pickle form is refused")

    _serialization.DBOSDefaultSerializer.deserialize = refused  # type: ignore[method-assign, assignment]  # private: there is no setting


def _quiet_logs() -> None:
    logging.getLogger("dbos").setLevel(logging.ERROR)
