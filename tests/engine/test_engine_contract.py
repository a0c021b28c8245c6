"""What we rely on in the workflow engine, private and young calls above all.

Each of these fails loudly when an upgrade of the engine changes what it promises.
"""

from __future__ import annotations

import base64
import inspect
import json
import pickle
import time
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig

from hub.engine.durable import APPLICATION, QUEUES, VERSION, Durable, LeftPending
from hub.engine.jobs import DELAYED, RUNNING, WAITING
from hub.store.database import Store, open_store
from hub.store.executors import Identity, beat
from hub.store.migrate import migrate
from tests.engine.durables import engine_table, enqueue, queueing, running, wait_for

ROOT = Path(__file__).resolve().parents[2]


def status_of(store: Store, job_id: str) -> Any:
    status = engine_table(store, "workflow_status")
    with store.reading() as connection:
        query = sa.select(status).where(status.c.workflow_uuid == job_id)
        return connection.execute(query).one()


def change(store: Store, job_id: str, **values: object) -> None:
    status = engine_table(store, "workflow_status")
    with store.transaction() as connection:
        this = status.c.workflow_uuid == job_id
        connection.execute(status.update().where(this).values(values))


def pretend_running(store: Store, job_id: str, executor_id: str) -> None:
    """As if a process that lives had claimed the job."""
    with store.transaction() as connection:
        beat(connection, Identity(executor_id, "worker", "there", 1, "0"), [])
    change(store, job_id, status="PENDING", executor_id=executor_id, application_version=VERSION)


def test_only_the_tested_line_of_the_engine_is_allowed() -> None:
    described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (bound,) = [one for one in described["project"]["dependencies"] if one.startswith("dbos")]
    assert bound == "dbos>=3.4,<3.5"
    assert version("dbos").startswith("3.4.")


def test_the_version_of_jobs_never_changes() -> None:
    # Jobs queued under another version are invisible to every process of this one.
    assert (VERSION, APPLICATION) == ("hub-jobs-1", "hub")


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (DBOS._recover_pending_workflows, {"executor_ids"}),
        (DBOSClient.enqueue_in_transaction, {"conn_or_session", "options"}),
        (DBOSClient.delete_workflows, {"workflow_ids"}),
        (DBOSClient.resume_workflow, {"workflow_id", "queue_name"}),
        (DBOSClient.cancel_workflow, {"workflow_id"}),
        (
            DBOSClient.list_workflows,
            {"status", "workflow_id_prefix", "workflow_ids", "end_time", "limit", "load_input"},
        ),
        (
            DBOSClient.register_queue,
            {"partition_concurrency", "worker_concurrency", "polling_interval_sec", "on_conflict"},
        ),
        (
            DBOSClient.__init__,
            {
                "system_database_engine",
                "serializer",
                "application_name",
                "use_listen_notify",
                "lazy",
                "retry_connection_errors",
            },
        ),
        (DBOS.workflow, {"name", "max_recovery_attempts"}),
        (DBOS.destroy, {"destroy_registry"}),
    ],
)
def test_the_calls_we_use_take_what_we_give(call: Any, names: set[str]) -> None:
    assert names <= set(inspect.signature(call).parameters)


def test_the_engine_knows_every_setting_we_give() -> None:
    given = {"name", "system_database_engine", "application_version", "executor_id", "serializer"}
    given |= {"use_listen_notify", "run_migrations", "log_level"}
    assert given <= set(DBOSConfig.__annotations__)  # others are ignored without a word


def test_connecting_makes_the_tables_of_the_engine_and_again_changes_nothing(store: Store) -> None:
    schema = None if store.embedded else "dbos"

    def tables() -> set[str]:
        return set(sa.inspect(store.engine).get_table_names(schema=schema))

    with queueing(store):
        made = tables()
    assert {"workflow_status", "workflow_input", "queues"} <= made
    with queueing(store):
        assert tables() == made


def test_the_engine_works_on_our_own_connections(store: Store) -> None:
    with running(store, work=lambda: None):
        import dbos._dbos

        instance = dbos._dbos._dbos_global_instance
        assert instance is not None
        assert instance._sys_db.engine.pool is store.engine.pool
        with instance._sys_db.engine.connect() as connection:
            if store.embedded:
                assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
                assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
            else:
                assert connection.get_isolation_level() == "READ COMMITTED"


def test_arguments_are_kept_as_plain_json(store: Store) -> None:
    with queueing(store, work=lambda _: None) as durable:
        enqueue(durable, store, "job-1", "值")
        with store.reading() as connection:
            kept = engine_table(store, "workflow_input").c.inputs
            text = connection.execute(sa.select(kept)).scalar_one()
    assert json.loads(text)["positionalArgs"] == ["work", ["值"]]


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return Path.touch, (self.place,)


@pytest.mark.parametrize("named", [None, "py_pickle", "unknown"])
def test_whoever_can_write_the_job_table_cannot_run_code(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    monkeypatch.setattr("hub.engine.heart.BEAT_SECONDS_ALONE", 0.3)
    monkeypatch.setattr("hub.engine.heart.BEAT_SECONDS", 0.3)
    mark = tmp_path / "exploded"
    armed = base64.b64encode(pickle.dumps(Bomb(mark))).decode()
    with queueing(store, work=lambda _: None) as durable:
        enqueue(durable, store, "job-1", "a")
    with store.transaction() as connection:
        connection.execute(engine_table(store, "workflow_input").update().values(inputs=armed))
    change(store, "job-1", serialization=named)
    with running(store, work=lambda _: None, grace=0.5) as durable:
        wait_for(lambda: not durable.alive("job-1"), seconds=30)
        assert durable.queue_anew(durable._list(workflow_ids=["job-1"])[0]) is False
    assert not mark.exists()
    assert status_of(store, "job-1").status in {"ERROR", "CANCELLED"}


def test_recovery_hands_back_the_jobs_of_the_named_process_only_and_only_once(
    store: Store,
) -> None:
    with running(store, work=lambda _: None, grace=300) as durable:
        for number in range(3):
            enqueue(durable, store, f"job-{number}", "a", partition=str(number), delay=600)
            pretend_running(store, f"job-{number}", "dead" if number else "alive")
        handles = DBOS._recover_pending_workflows(["dead"])
        assert sorted(one.get_workflow_id() for one in handles) == ["job-1", "job-2"]
        wait_for(lambda: not durable.alive("job-1") and not durable.alive("job-2"))
        assert DBOS._recover_pending_workflows(["dead"]) == []
        left = status_of(store, "job-0")
    assert (left.status, left.executor_id) == ("PENDING", "alive")


def test_a_recovered_job_keeps_its_queue_its_partition_and_counts_the_processes(
    store: Store,
) -> None:
    seen: list[Any] = []
    with running(store, work=lambda _: seen.append(status_of(store, "job-1"))) as durable:
        enqueue(durable, store, "job-1", "a", queue="delivery", partition="crm/a", delay=600)
        pretend_running(store, "job-1", "dead")
        before = status_of(store, "job-1").recovery_attempts
        DBOS._recover_pending_workflows(["dead"])
        wait_for(lambda: bool(seen))
    assert (seen[0].queue_name, seen[0].queue_partition_key) == ("delivery", "crm/a")
    assert seen[0].recovery_attempts == before + 1


def test_a_job_ended_by_no_exception_stays_with_its_process(store: Store) -> None:
    def leave(_: str) -> None:
        raise LeftPending

    with running(store, work=leave, grace=300) as durable:
        enqueue(durable, store, "job-1", "a")
        wait_for(lambda: status_of(store, "job-1").status == "PENDING")
        wait_for(lambda: len(durable._hand) == 0)
        (job,) = durable.unfinished()
    assert (job.state, job.executor_id) == (RUNNING, durable.executor_id)


def test_a_job_put_back_keeps_its_queue_and_partition(store: Store) -> None:
    with queueing(store, work=lambda _: None) as durable:
        enqueue(durable, store, "job-1", "a")
        pretend_running(store, "job-1", "me")
        (job,) = durable.unfinished()
        durable._put_back(job)
        (job,) = durable.unfinished()
    assert (job.state, job.queue, job.partition) == (WAITING, "flow", "p")


def test_lists_are_filtered_by_state_id_age_and_number(store: Store) -> None:
    with queueing(store, work=lambda _: None) as durable:
        for name in ("run:1:0", "run:10:0", "run_1:0", "drain:a%b:1", "drain:axb:2"):
            enqueue(durable, store, name, "a", partition=name)
        assert durable.alive("run:1:")
        assert not durable.alive("run:2:")
        assert not durable.alive("drain:a_b:")  # `_` is no wildcard
        assert not durable.alive("drain:%")
        assert [job.id for job in durable.unfinished(limit=2)] == ["run:1:0", "run:10:0"]
        assert durable.forget_finished(older_than_seconds=-60) == 0


def test_deleting_a_job_leaves_nothing_of_it(store: Store) -> None:
    done: list[str] = []
    with running(store, work=done.append) as durable:
        for number in range(3):
            enqueue(durable, store, f"job-{number}", str(number))
        wait_for(lambda: len(done) == 3 and not durable.alive("job-"))
        assert durable.forget_finished(older_than_seconds=-60) == 3
    for name in ("workflow_status", "workflow_input", "workflow_output", "operation_outputs"):
        table = engine_table(store, name)
        with store.reading() as connection:
            assert connection.execute(sa.select(table)).first() is None, name


def test_jobs_that_are_not_over_are_never_forgotten(store: Store) -> None:
    with queueing(store, work=lambda _: None) as durable:
        enqueue(durable, store, "waiting", "a")
        enqueue(durable, store, "delayed", "a", delay=600)
        enqueue(durable, store, "running", "a")
        pretend_running(store, "running", "someone")
        for name in ("waiting", "delayed", "running"):
            change(store, name, created_at=1)
        assert durable.forget_finished(older_than_seconds=0) == 0
        assert {job.id for job in durable.unfinished()} == {"waiting", "delayed", "running"}


def test_queues_are_known_before_the_launch_and_partitioned(store: Store) -> None:
    with running(store, work=lambda _: None, jobs_at_once=7) as durable:
        assert durable.missing_queues() == []
        for queue in durable._opened().list_queues():
            assert queue._partition_concurrency == QUEUES[queue.name]
            assert queue._worker_concurrency == 7


def test_a_queue_registered_again_takes_the_new_numbers(store: Store) -> None:
    for number in (7, 3):
        with running(store, work=lambda _: None, jobs_at_once=number) as durable:
            known = durable._opened().list_queues()
            assert {queue._worker_concurrency for queue in known} == {number}


def test_a_cancelled_job_is_over_and_never_runs(store: Store) -> None:
    done: list[str] = []
    with queueing(store, work=done.append) as durable:
        enqueue(durable, store, "job-1", "cancelled")
        durable._give_up(durable.unfinished()[0])
        assert durable.unfinished() == []
    with running(store, work=done.append) as durable:
        enqueue(durable, store, "job-2", "after it, in the same partition")
        wait_for(lambda: len(done) == 1)
        assert done == ["after it, in the same partition"]
        assert status_of(store, "job-1").status == "CANCELLED"


def test_a_job_tells_when_it_was_queued_when_it_is_due_and_who_took_it(store: Store) -> None:
    now = time.time() * 1000
    with queueing(store, work=lambda _: None) as durable:
        enqueue(durable, store, "delayed", "a", delay=600)
        enqueue(durable, store, "running", "a")
        pretend_running(store, "running", "someone")
        found = {job.id: job for job in durable.unfinished()}
    delayed, taken = found["delayed"], found["running"]
    assert abs(delayed.created_at - now) < 60_000
    assert delayed.due_at is not None
    assert abs(delayed.due_at - now - 600_000) < 60_000
    assert (delayed.state, delayed.executor_id, delayed.attempts) == (DELAYED, None, 0)
    assert (taken.state, taken.executor_id, taken.due_at) == (RUNNING, "someone", None)
    assert (taken.version, taken.workflow) == (VERSION, "hub_job")


def test_no_process_listens_and_no_trigger_notifies(store: Store) -> None:
    if store.embedded:
        pytest.skip("LISTEN and NOTIFY are PostgreSQL's")
    with running(store, work=lambda _: None):
        query = "SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        query += " JOIN pg_namespace n ON n.oid = c.relnamespace"
        query += " WHERE n.nspname = 'dbos' AND NOT t.tgisinternal"
        with store.reading() as connection:
            assert connection.execute(sa.text(query)).scalar_one() == 0


def test_a_newer_version_registered_by_another_program_strands_no_job(store: Store) -> None:
    done: list[str] = []
    with running(store, work=done.append) as durable:
        newer = {"version_id": "x", "version_name": "hub-jobs-99", "application_name": APPLICATION}
        newer |= {"version_timestamp": 99_999_999_999_999, "created_at": 99_999_999_999_999}
        with store.transaction() as connection:
            connection.execute(engine_table(store, "application_versions").insert().values(newer))
        enqueue(durable, store, "job-1", "a")
        wait_for(lambda: done == ["a"])


def test_a_question_to_a_database_that_is_away_fails_at_once(postgres_url: str) -> None:
    store = open_store(postgres_url)
    migrate(store)
    with queueing(store, work=lambda _: None) as durable:
        away = sa.create_engine("postgresql+psycopg://127.0.0.1:9/none")
        durable._opened()._sys_db.engine = away
        with pytest.raises(sa.exc.OperationalError):
            durable.alive("job-")
    store.close()


def test_jobs_cannot_be_queued_on_an_engine_that_is_not_open(store: Store) -> None:
    durable = Durable(store, {"work": lambda: None})
    with pytest.raises(RuntimeError, match="not open"):
        enqueue(durable, store, "job-1")
    assert not durable.is_open
