"""What jobs promise, on either database."""

from __future__ import annotations

import threading
import time

import pytest

from hub.store.database import Store, open_store
from hub.store.migrate import migrate
from tests.engine.durables import enqueue, running, wait_for


def test_a_job_runs_once_however_often_its_id_is_queued(store: Store) -> None:
    done: list[str] = []
    with running(store, work=done.append) as durable:
        for _ in range(3):
            enqueue(durable, store, "job-1", "a")
        enqueue(durable, store, "job-2", "b")
        wait_for(lambda: "b" in done)
    assert done == ["a", "b"]


def test_a_job_queued_in_a_transaction_that_fails_never_runs(store: Store) -> None:
    done: list[str] = []
    with running(store, work=done.append) as durable:
        with store.engine.connect() as connection:
            durable.enqueue(connection, "work", "job-1", queue="flow", partition="p", args=["lost"])
            connection.rollback()
        enqueue(durable, store, "job-2", "kept")
        wait_for(lambda: bool(done))
    assert done == ["kept"]


@pytest.mark.parametrize(
    ("handler", "queue", "partition"),
    [("nobody", "flow", "p"), ("work", "nowhere", "p"), ("work", "flow", "")],
)
def test_a_job_that_could_never_start_is_refused_at_once(
    store: Store, handler: str, queue: str, partition: str
) -> None:
    with (
        running(store, work=lambda: None) as durable,
        store.transaction() as connection,
        pytest.raises(ValueError, match="job-1"),
    ):
        durable.enqueue(connection, handler, "job-1", queue=queue, partition=partition, args=[])


def test_jobs_of_one_partition_run_one_after_the_other(store: Store) -> None:
    busy, most = [0], [0]

    def work(_: str) -> None:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        time.sleep(0.1)
        busy[0] -= 1
        done.append(1)

    done: list[int] = []
    with running(store, work=work) as durable:
        for number in range(4):
            enqueue(durable, store, f"job-{number}", str(number))
        wait_for(lambda: len(done) == 4)
    assert most == [1]


def test_a_delayed_job_waits(store: Store) -> None:
    started: list[float] = []
    with running(store, work=lambda _: started.append(time.monotonic())) as durable:
        queued = time.monotonic()
        enqueue(durable, store, "job-1", "a", delay=1.5)
        assert durable.alive("job-")
        wait_for(lambda: bool(started))
        wait_for(lambda: not durable.alive("job-"))
    assert started[0] - queued >= 1.0


def test_the_job_of_a_process_that_ended_is_done_by_the_next_one(url: str) -> None:
    first = open_store(url)
    migrate(first)
    held, let_go = threading.Event(), threading.Event()

    def hang(_: str) -> None:
        held.set()
        let_go.wait(20)

    with running(first, work=hang) as durable:
        enqueue(durable, first, "job-1", "a")
        assert held.wait(10)
    first.close()
    second = open_store(url)
    done: list[str] = []
    with running(second, work=done.append):
        wait_for(lambda: done == ["a"], seconds=15)
    let_go.set()
    second.close()


def test_finished_jobs_can_be_forgotten(store: Store) -> None:
    done: list[str] = []
    with running(store, work=done.append) as durable:
        enqueue(durable, store, "job-1", "a")
        wait_for(lambda: bool(done) and not durable.alive("job-"))
        assert durable.forget_finished(older_than_seconds=-60) == 1
        assert durable.forget_finished(older_than_seconds=-60) == 0
