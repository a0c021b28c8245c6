"""Jobs that would never start, never end or never get on: made impossible, mended, or told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from dbos import DBOSClient

from hub.engine import jobs
from hub.engine.durable import Durable
from hub.engine.hub import Hub
from hub.engine.jobs import DELAYED, KEEPS_FAILING, RUNNING, WAITING, Job
from hub.engine.operations import LocalOperations
from hub.engine.planning import start_run
from hub.engine.statistics import prometheus_text
from hub.engine.sweep import sweep
from hub.engine.watchdog import (
    DYING_ATTEMPTS,
    NO_PROGRESS_SECONDS,
    Look,
    Watchdog,
    backlog,
    look,
    troubles,
)
from hub.store.database import Store
from hub.store.executors import Executor, Identity, InHand, beat
from tests.engine.conftest import Rig, finish
from tests.engine.durables import engine_table, enqueue, queueing, running, wait_for

FLOW = "u8_customers_to_crm"
NOW = 1_800_000_000_000

JOB = Job(
    id="run:1:0",
    state=WAITING,
    queue="flow",
    partition="a",
    version="hub-jobs-1",
    workflow="hub_job",
    executor_id=None,
    attempts=0,
    created_at=NOW - 3_600_000,
    started_at=None,
    due_at=None,
)


def worker(*held: InHand, alive: bool = True) -> Executor:
    who = Identity("w1", "worker", "host", 7, "1.0")
    return Executor(who, NOW, NOW, 0.0 if alive else 99.0, alive, held)


def told(*found: Job, workers: tuple[Executor, ...] = (worker(),)) -> list[str]:
    return [error.code for error in troubles(Look(NOW, found, workers, jobs_at_once=2))]


# --- what is told -----------------------------------------------------------------------------


def test_a_job_that_waits_long_although_nothing_is_in_its_way_is_told() -> None:
    assert told(JOB) == ["job.not_started"]
    assert told(replace(JOB, created_at=NOW - 1000)) == []


def test_a_job_that_waits_behind_another_of_its_partition_is_no_trouble() -> None:
    before = replace(JOB, id="run:0:0", state=RUNNING)
    assert told(JOB, before) == []
    assert told(JOB, replace(before, partition="b")) == ["job.not_started"]


def test_a_job_that_waits_because_every_process_is_full_is_no_trouble() -> None:
    full = [replace(JOB, id=f"x{n}", state=RUNNING, partition=str(n)) for n in range(2)]
    assert told(JOB, *full) == []
    assert told(JOB, *full, workers=(worker(), worker())) == ["job.not_started"]


def test_only_the_first_job_of_a_partition_is_told() -> None:
    assert told(JOB, replace(JOB, id="run:2:0")) == ["job.not_started"]


def test_work_without_any_living_process_is_one_trouble_not_many() -> None:
    assert told(JOB, replace(JOB, partition="b"), workers=()) == ["worker.none"]
    assert told(JOB, workers=(worker(alive=False),)) == ["worker.none"]


def test_a_delay_counts_from_when_it_is_over() -> None:
    assert told(replace(JOB, due_at=NOW - 1000)) == []
    assert told(replace(JOB, state=DELAYED, due_at=NOW + 9_000_000)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"queue": "nowhere"},
        {"queue": None},
        {"partition": None},
        {"partition": ""},
        {"version": "hub-jobs-0"},
        {"workflow": "something_else"},
    ],
)
def test_a_job_that_nobody_can_ever_take_is_told(wrong: dict[str, Any]) -> None:
    assert told(replace(JOB, **wrong)) == ["job.unreadable"]


def test_a_job_that_fails_again_and_again_or_kills_its_processes_is_told() -> None:
    assert told(replace(JOB, state=DELAYED, id=f"run:1:0!{KEEPS_FAILING}")) == ["job.failing"]
    assert told(replace(JOB, state=DELAYED, id=f"run:1:0!{KEEPS_FAILING - 1}")) == []
    assert told(replace(JOB, state=RUNNING, attempts=DYING_ATTEMPTS + 1)) == ["job.dying"]
    assert told(replace(JOB, state=RUNNING, attempts=DYING_ATTEMPTS)) == []


def test_a_job_in_hand_that_commits_nothing_is_told() -> None:
    still = InHand("run:1:0", NO_PROGRESS_SECONDS + 100, NO_PROGRESS_SECONDS + 1)
    moving = InHand("run:1:0", NO_PROGRESS_SECONDS * 100, 3.0)
    assert told(workers=(worker(still),)) == ["job.no_progress"]
    assert told(workers=(worker(moving), worker(still, alive=False))) == []


def test_the_backlog_is_counted_by_queue() -> None:
    found = [JOB, replace(JOB, id="b", state=RUNNING), replace(JOB, id="c", queue="delivery")]
    rows = {row.queue: row for row in backlog(Look(NOW, found, [], jobs_at_once=2))}
    assert rows["flow"] == ("flow", 1, 0, 1, 3600)
    assert rows["delivery"] == ("delivery", 1, 0, 0, 3600)
    assert rows["system"] == ("system", 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("job_id", "base", "tries"),
    [("run:1:0", "run:1:0", 0), ("run:1:0!3", "run:1:0", 3), ("drain:a!b/c:1", "drain:a!b/c:1", 0)],
)
def test_the_id_of_a_job_tells_how_often_it_failed(job_id: str, base: str, tries: int) -> None:
    assert jobs.split_id(job_id) == (base, tries)
    assert jobs.split_id(jobs.next_id(job_id)) == (base, tries + 1)


def test_the_wait_grows_to_minutes_and_never_beyond() -> None:
    waits = [jobs.wait_before(tries, ValueError()) for tries in range(12)]
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[-1] == 300
    assert jobs.wait_before(10_000, jobs.UnknownHandler()) == 60


def test_progress_is_what_the_thread_of_the_job_commits(embedded: Rig) -> None:
    with embedded.open() as hub:
        hand = jobs.Hand(hub.store.commits)
        with hand.holding("j"):
            hand._held["j"].moved -= 50
            assert hand.show()[0].still >= 50
            other = threading.Thread(target=_commit, args=(hub.store,))
            other.start()
            other.join()
            assert hand.show()[0].still >= 50
            _commit(hub.store)
            assert hand.show()[0].still < 5
        assert hand.show() == []


def _commit(store: Store) -> None:
    with store.transaction():
        pass


# --- failing jobs -----------------------------------------------------------------------------


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(jobs, "LONGEST_WAIT", 0.4)
    monkeypatch.setattr(jobs, "LONGEST_WAIT_UNKNOWN", 0.2)


@pytest.mark.usefixtures("fast")
def test_a_job_that_raises_is_tried_again_until_it_works(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def work(name: str) -> None:
        calls.append(name)
        if len(calls) < 3:
            raise ZeroDivisionError

    with running(store, work=work) as durable:
        enqueue(durable, store, "job-1", "a")
        wait_for(lambda: len(calls) == 3 and not durable.alive("job-1"), seconds=20)
    assert calls == ["a", "a", "a"]
    failures = [one for one in caplog.records if one.name == "hub.engine.durable"]
    assert [one.exc_info is not None for one in failures] == [True, False]


def test_a_job_that_always_raises_waits_longer_each_time_and_is_never_lost(store: Store) -> None:
    calls: list[int] = []

    def work(_: str) -> None:
        calls.append(1)
        raise ZeroDivisionError

    with running(store, work=work) as durable:
        enqueue(durable, store, "job-1", "a")
        wait_for(lambda: bool(calls) and durable.unfinished()[0].id == "job-1!1")
        (job,) = durable.unfinished()
        assert (job.state, job.queue, job.partition, job.tries) == (DELAYED, "flow", "p", 1)
        assert durable.alive("job-1")  # so the sweep does not queue it at once
    assert len(calls) == 1


@pytest.mark.usefixtures("fast")
def test_a_job_that_raises_keeps_no_other_partition_waiting(store: Store) -> None:
    done: list[str] = []

    def work(name: str) -> None:
        if name == "bad":
            raise ZeroDivisionError
        done.append(name)

    with running(store, work=work) as durable:
        enqueue(durable, store, "bad", "bad", partition="bad")
        for number in range(3):
            enqueue(durable, store, f"good-{number}", str(number))
        wait_for(lambda: len(done) == 3)


# --- other versions of the hub on the same database -------------------------------------------


@pytest.mark.usefixtures("fast")
def test_a_job_of_a_newer_hub_is_put_back_until_a_newer_hub_takes_it(store: Store) -> None:
    done: list[str] = []
    with queueing(store, work=done.append) as newer:
        enqueue(newer, store, "job-1", "a")
    with running(store, other=lambda: None) as older:
        wait_for(lambda: any(job.tries >= 2 for job in older.unfinished()), seconds=20)
    with running(store, work=done.append) as newer:
        wait_for(lambda: done == ["a"], seconds=20)
        wait_for(lambda: not newer.alive("job-1"))


@pytest.mark.usefixtures("fast")
def test_a_job_with_arguments_of_another_version_is_put_back_too(store: Store) -> None:
    done: list[tuple[str, str]] = []
    with queueing(store, work=lambda _a, _b: None) as newer:
        enqueue(newer, store, "job-1", "a", "b")
    with running(store, work=lambda _a: done.append(("wrong", ""))) as older:
        wait_for(lambda: any(job.tries >= 1 for job in older.unfinished()), seconds=20)
    with running(store, work=lambda a, b: done.append((a, b))):
        wait_for(lambda: done == [("a", "b")], seconds=20)


def test_a_type_error_of_the_handler_itself_is_a_failure_not_an_unknown_handler() -> None:
    def work(_: str) -> None:
        raise TypeError("my own")

    with pytest.raises(TypeError, match="my own"):
        jobs.call({"work": work}, "work", ["a"])
    with pytest.raises(jobs.UnknownHandler, match="nobody"):
        jobs.call({"work": work}, "nobody", [])
    with pytest.raises(jobs.UnknownHandler, match="work"):
        jobs.call({"work": work}, "work", [])


# --- what the engine would leave lying --------------------------------------------------------


def behind_our_back(hub: Hub, job_id: str, **options: Any) -> None:
    """A job as some other program with the engine's client would queue it."""
    client: DBOSClient = hub.durable._opened()
    plain = {"workflow_name": "hub_job", "queue_name": "flow", "workflow_id": job_id}
    plain |= {"queue_partition_key": "p", **options}
    client.enqueue(plain, "run_flow", [999_999])  # type: ignore[arg-type]  # test shorthand


WRONG = {
    "queue": {"queue_name": "nowhere"},
    "partition": {"queue_partition_key": None},
    "workflow": {"workflow_name": "nobody"},
}


@pytest.mark.parametrize("wrong", sorted(WRONG))
def test_the_work_of_a_job_that_can_never_start_gets_another_job(rig: Rig, wrong: str) -> None:
    with rig.open() as hub:
        hub.durable._stop.set()  # nothing is worked on, so that we see what is queued
        run = start_run(hub, FLOW)
        (first,) = [job for job in hub.durable.unfinished() if job.id.startswith("run:")]
        hub.durable._give_up(first)
        behind_our_back(hub, f"run:{run.id}:wrong", **WRONG[wrong])
        assert not hub.durable.alive(f"run:{run.id}:")
        sweep(hub)
        assert hub.durable.alive(f"run:{run.id}:")


def test_a_job_of_another_version_is_queued_anew(store: Store) -> None:
    done: list[str] = []
    with running(store, work=done.append) as durable:
        with store.transaction() as connection:
            options = {"workflow_name": "hub_job", "queue_name": "flow", "workflow_id": "job-1"}
            options |= {"queue_partition_key": "p", "app_version": "hub-jobs-0"}
            durable._opened().enqueue_in_transaction(connection, options, "work", ["a"])  # type: ignore[arg-type]  # test shorthand
        (job,) = durable.unfinished()
        assert durable.queue_anew(job)
        wait_for(lambda: done == ["a"])
        wait_for(lambda: durable.unfinished() == [])


def test_a_queue_that_the_engine_forgot_is_registered_again(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    with rig.open() as hub:
        with hub.store.transaction() as connection:
            queues = engine_table(hub.store, "queues")
            connection.execute(queues.delete().where(queues.c.name == "flow"))
        assert hub.durable.missing_queues() == ["flow"]
        Watchdog(hub).round()
        assert hub.durable.missing_queues() == []
        assert finish(hub, start_run(hub, FLOW)).counts["written"] == 450
    assert any("flow" in one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR)


def test_a_job_claimed_but_never_started_goes_back_to_its_queue(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.engine.heart.BEAT_SECONDS_ALONE", 0.2)
    done: list[str] = []
    with running(store, work=done.append, grace=1.0) as durable:
        _claimed(store, durable)
        assert done == []
        wait_for(lambda: done == ["a"], seconds=15)


def _claimed(store: Store, durable: Durable) -> None:
    """As if the answer to the engine's claim had been lost: ours by the store, in nobody's hand."""
    enqueue(durable, store, "job-1", "a", delay=600)
    table = engine_table(store, "workflow_status")
    with store.transaction() as connection:
        claimed = {"status": "PENDING", "executor_id": durable.executor_id}
        connection.execute(table.update().values(claimed))


def test_a_trouble_is_logged_once_and_shown_by_doctor_and_metrics(
    embedded: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    with embedded.open() as hub:
        hub.durable._stop.set()
        behind_our_back(hub, "run:77:0", queue_name="nowhere")
        watchdog = Watchdog(hub)
        for _ in range(3):
            watchdog.round()
        report = LocalOperations(hub).doctor()
        metrics = prometheus_text(hub)
        seen = look(hub)
    told = [one for one in caplog.records if "run:77:0" in one.getMessage()]
    assert len(told) == 1
    assert told[0].levelno == logging.ERROR
    assert not report["ok"]
    (check,) = [one for one in report["checks"] if one["check"] == "jobs"]
    assert (check["name"], check["error"]["code"]) == ("run:77:0", "job.unreadable")
    assert 'hub_job_troubles_count{trouble="job.unreadable"} 1' in metrics
    assert 'hub_workers_count{state="alive"} 1' in metrics
    assert [job.id for job in seen.jobs] == ["run:77:0"]


# --- bringing work back -----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["hub.engine.hub.run_flow", "hub.engine.hub.drain_sink"])
@pytest.mark.usefixtures("fast")
def test_work_comes_back_when_its_job_ends_in_an_unexpected_error(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    import hub.engine.hub as module

    name = place.rpartition(".")[2]
    real: Callable[..., None] = getattr(module, name)
    calls: list[int] = []

    def failing(*args: Any) -> None:
        calls.append(1)
        if len(calls) < 3:
            raise ZeroDivisionError
        real(*args)

    monkeypatch.setattr(place, failing)
    run = rig.run(FLOW)
    assert run.counts["written"] == 450
    assert set(rig.crm.effects_of("customer").values()) == {1}


def test_jobs_of_a_process_that_ends_in_order_are_free_at_once(store: Store) -> None:
    held, let_go = threading.Event(), threading.Event()

    def hang(_: str) -> None:
        held.set()
        let_go.wait(20)

    with running(store, work=hang, grace=300) as durable:
        enqueue(durable, store, "job-1", "a")
        assert held.wait(10)
    with store.reading() as connection:
        from hub.store.executors import list_executors

        assert list_executors(connection, 300) == []
    done: list[str] = []
    with running(store, work=done.append, grace=300):
        wait_for(lambda: done == ["a"], seconds=10)
    let_go.set()


def test_a_process_that_died_is_shown_as_dead_for_a_day(store: Store) -> None:
    from hub.store.executors import FORGET_MS, list_executors
    from hub.store.tables import executor

    for name in ("old", "dead", "new"):
        with store.transaction() as connection:
            beat(connection, Identity(name, "worker", "h" * 300, 1, "1.0"), [])
            ago = {"old": FORGET_MS + 1000, "dead": 60_000, "new": 0}[name]
            seen = {"seen_at": executor.c.seen_at - ago}
            connection.execute(executor.update().where(executor.c.id == name).values(seen))
    with store.reading() as connection:
        found = {one.identity.id: one.alive for one in list_executors(connection, grace=6)}
    assert found == {"new": True, "dead": False}
