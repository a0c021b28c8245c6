"""The rate is never exceeded, whatever window one looks at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sdk.clock import SystemClock
from hub.sdk.errors import TransientError
from hub.sdk.limits import LocalGate
from hub.sdk.manifest import Request
from hub.sdk.session import Session
from hub.sdk.testing import FakeClock, FakeServer, Response


def most_in_any_window(times: list[float], window: float) -> int:
    return max(sum(start <= t < start + window for t in times) for start in times)


@given(
    rate=st.floats(0.1, 50),
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60),
    window=st.integers(1, 20),
)
def test_no_window_holds_more_calls_than_the_rate_allows(
    rate: float, gaps: list[float], window: int
) -> None:
    clock = FakeClock()
    gate = LocalGate(clock)
    times = []
    for gap in gaps:
        clock.advance(gap)
        gate.wait("a", rate)
        times.append(clock.monotonic())
    length = window / rate
    assert most_in_any_window(times, length) <= window


def test_threads_share_the_rate_of_an_account() -> None:
    gate = LocalGate(SystemClock())
    times: list[float] = []

    def work() -> None:
        for _ in range(5):
            gate.wait("a", 100.0)
            times.append(time.monotonic())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 20
    assert max(times) - min(times) >= 0.19 * 0.95


def test_accounts_do_not_wait_for_each_other() -> None:
    clock = FakeClock()
    gate = LocalGate(clock)
    gate.wait("a", 0.1)
    gate.wait("b", 0.1)
    assert clock.slept == []


def test_a_pause_holds_the_whole_account_and_is_never_shortened() -> None:
    clock = FakeClock()
    gate = LocalGate(clock)
    gate.pause("a", 30)
    gate.pause("a", 5)
    gate.wait("a", None)
    assert clock.slept == [30]


def test_a_pause_too_long_to_wait_for_is_raised() -> None:
    gate = LocalGate(FakeClock())
    gate.pause("a", 301)
    with pytest.raises(TransientError) as caught:
        gate.wait("a", 1.0)
    assert caught.value.retry_after == 301


def test_no_more_calls_run_at_once_than_declared() -> None:
    gate = LocalGate(SystemClock())
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with gate.slot("a", 2):
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.02)
            with lock:
                running -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


def test_a_vendor_never_sees_more_than_the_declared_rate(
    fake: FakeServer, connect: Callable[..., object]
) -> None:
    from hub.sdk.auth import TokenCache

    fake.route("GET", "/items", lambda _: Response(json={"code": 0}))
    clock = SystemClock()
    connection = connect(limits={"rate": 20.0, "concurrent": 4})
    session = Session(
        connection,  # type: ignore[arg-type]  # the fixture's own type is not importable
        gate=LocalGate(clock, margin=0.1),
        clock=clock,
        tokens=TokenCache(clock),
    )

    def work() -> None:
        for _ in range(5):
            session.client.call(Request(get="/items"), read=True)

    with session:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert fake.count("/items") == 20
    assert fake.busiest(0.5) <= 10
