"""A connection that is down is left alone by all, and tried by one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from hub.engine import breaker
from hub.engine.breaker import MOST_FAILURES, StoreBreaker
from hub.sdk.clock import SystemClock
from hub.sdk.errors import TransientError
from hub.store.database import Store, open_store

NAME = "crm"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "FIRST_WAIT", 0.4)
    monkeypatch.setattr(breaker, "_FRESH", 0.0)
    monkeypatch.setattr(breaker, "_PROBE_SLACK", 0.3)


@pytest.fixture
def two(store: Store, url: str) -> Iterator[tuple[StoreBreaker, StoreBreaker]]:
    """The breakers of two processes; on SQLite, where there is one process, the same twice."""
    clock = SystemClock()
    one = StoreBreaker(store, clock)
    if store.embedded:
        yield one, one
        return
    with closing(open_store(url)) as other_store:
        yield one, StoreBreaker(other_store, clock)


def fail(one: StoreBreaker, longest: float = 1.0) -> None:
    with one.attempt(NAME, longest) as attempt:
        attempt.trouble = "503"


def answer(one: StoreBreaker) -> None:
    with one.attempt(NAME, 1.0) as attempt:
        attempt.answered = True


def refusal(one: StoreBreaker) -> float:
    """The call is not let through; in how many seconds one may be."""
    with pytest.raises(TransientError) as caught, one.attempt(NAME, 1.0):
        pass
    assert caught.value.code == "http.breaker_open"
    assert caught.value.retry_after is not None
    return caught.value.retry_after


def wait_open(one: StoreBreaker) -> None:
    while (left := one.outlook(NAME).wait) > 0:
        time.sleep(left)


def test_failures_of_several_processes_add_up_and_shut_all_of_them(
    two: tuple[StoreBreaker, StoreBreaker],
) -> None:
    here, there = two
    for number in range(MOST_FAILURES):
        assert here.outlook(NAME).opened_at is None
        fail(here if number % 2 else there)
    assert 0 < refusal(here) <= 0.4
    assert 0 < refusal(there) <= 0.4


def test_one_answer_in_between_starts_the_count_anew(
    two: tuple[StoreBreaker, StoreBreaker],
) -> None:
    here, there = two
    for _ in range(3):
        for _ in range(MOST_FAILURES - 1):
            fail(here)
        answer(there)
    assert here.outlook(NAME).opened_at is None


def test_one_probe_at_a_time_and_its_answer_opens_the_way_for_all(
    two: tuple[StoreBreaker, StoreBreaker],
) -> None:
    here, there = two
    for _ in range(MOST_FAILURES):
        fail(here)
    wait_open(here)
    with here.attempt(NAME, 5.0) as probe:
        assert refusal(there) > 0
        assert refusal(here) > 0
        probe.answered = True
    answer(there)
    assert here.outlook(NAME).opened_at is None


def test_each_failed_probe_doubles_the_wait(two: tuple[StoreBreaker, StoreBreaker]) -> None:
    here, there = two
    for _ in range(MOST_FAILURES):
        fail(here)
    waits = []
    for _ in range(2):
        wait_open(there)
        fail(there)
        waits.append(refusal(here))
    assert 0.5 < waits[0] <= 0.8 < 1.1 < waits[1] <= 1.6


def test_a_probe_that_its_process_died_at_is_made_by_another(
    two: tuple[StoreBreaker, StoreBreaker],
) -> None:
    here, there = two
    for _ in range(MOST_FAILURES):
        fail(here)
    wait_open(here)
    assert here._take_probe(NAME, 0.3) is not None  # and never ends it
    assert refusal(there) > 0
    time.sleep(0.7)
    answer(there)
    assert there.outlook(NAME).opened_at is None


def test_a_probe_that_outlived_its_lease_changes_nothing_any_more(
    two: tuple[StoreBreaker, StoreBreaker],
) -> None:
    here, there = two
    for _ in range(MOST_FAILURES):
        fail(here)
    wait_open(here)
    late = here.attempt(NAME, 0.3)
    slept = late.__enter__()
    time.sleep(0.7)
    with there.attempt(NAME, 5.0) as probe:
        slept.trouble = "too late"
        late.__exit__(None, None, None)
        assert refusal(here) > 0, "the other probe is still the one"
        probe.answered = True
    assert here.outlook(NAME).opened_at is None


def test_refused_credentials_shut_at_once_and_renewal_opens_at_once(
    two: tuple[StoreBreaker, StoreBreaker],
) -> None:
    here, there = two
    here.refused(NAME, "401")
    assert refusal(there) > 60
    there.forgive(NAME)
    answer(here)
    answer(there)


def test_a_call_that_proves_nothing_leaves_the_next_probe_to_anybody(
    two: tuple[StoreBreaker, StoreBreaker],
) -> None:
    here, there = two
    for _ in range(MOST_FAILURES):
        fail(here)
    wait_open(here)
    with here.attempt(NAME, 60.0):
        pass  # the rate gate gave up before the first byte, say
    answer(there)
    assert here.outlook(NAME).opened_at is None
