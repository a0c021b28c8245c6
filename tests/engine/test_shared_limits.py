"""An account's limits hold over all processes on one PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.engine import places
from hub.engine.gate import StoreGate
from hub.engine.places import Places
from hub.sdk.clock import SystemClock
from hub.sdk.errors import TransientError
from hub.sdk.testing import FakeServer, Request, Response
from hub.store.database import Store, open_store
from hub.store.migrate import migrate

pytestmark = pytest.mark.postgres

ROOT = Path(__file__).resolve().parents[2]


class Shop(FakeServer):
    """Counts how many of its calls overlap."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.most = 0
        self._seconds = seconds
        self._now = 0
        self._counting = threading.Lock()
        self.route("GET", "/items", self._items)

    def _handled(self, handler: object, request: Request) -> Response:
        return self._items(request)  # without the lock that makes handlers take turns

    def _items(self, request: Request) -> Response:
        with self._counting:
            self._now_at(+1)
        time.sleep(self._seconds)
        with self._counting:
            self._now_at(-1)
        return Response(json={"code": 0})

    def _now_at(self, change: int) -> None:
        self._now += change
        self.most = max(self.most, self._now)


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    opened = open_store(postgres_url)
    migrate(opened)
    yield opened
    opened.close()


@contextmanager
def callers(url: str, shop: Shop, number: int, *options: str) -> Iterator[list[subprocess.Popen]]:
    command = [sys.executable, "-m", "tests.engine.caller", url, shop.url, *options]
    pipe = subprocess.PIPE
    found = [
        subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        for _ in range(number)
    ]
    try:
        for one in found:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        yield found
    finally:
        for one in found:
            one.send_signal(signal.SIGCONT)
        for one in found:
            try:
                one.communicate("", timeout=15)
            except subprocess.TimeoutExpired:
                one.kill()
                one.communicate()


def wait_for_calls(shop: Shop, number: int, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while shop.count() < number:
        assert time.monotonic() < until, shop.count()
        time.sleep(0.02)


def test_three_processes_never_exceed_the_rate_in_any_window(
    store: Store, postgres_url: str
) -> None:
    with Shop() as shop, callers(postgres_url, shop, 3, "--rate", "20"):
        shop.forget()
        began = time.monotonic()
        wait_for_calls(shop, 60)
        took = time.monotonic() - began
        assert shop.busiest(1.0) <= 20
        assert shop.busiest(2.0) <= 40
        assert took < 8, "the rate is used, not only kept"


def test_three_processes_never_make_more_calls_at_once_than_declared(
    store: Store, postgres_url: str
) -> None:
    with Shop(0.05) as shop, callers(postgres_url, shop, 3, "--concurrent", "2") as found:
        wait_for_calls(shop, 80)
        assert shop.most == 2
        calls = [one.communicate("", timeout=15)[0].strip() for one in found]
    assert sum(map(int, calls)) == shop.count()


def test_every_process_gets_its_turn_at_a_single_place(store: Store, postgres_url: str) -> None:
    with Shop(0.02) as shop, callers(postgres_url, shop, 3, "--concurrent", "1") as found:
        time.sleep(7)
        calls = [int(one.communicate("", timeout=15)[0]) for one in found]
    assert shop.most == 1
    assert min(calls) > 0.1 * sum(calls), calls


def test_the_places_of_a_killed_process_are_free_within_seconds(
    store: Store, postgres_url: str
) -> None:
    gate = StoreGate(store, SystemClock())
    with Shop(0.05) as shop, callers(postgres_url, shop, 1, "--concurrent", "1") as found:
        wait_for_calls(shop, 3)
        found[0].kill()
        began = time.monotonic()
        with gate.slot("shop", 1):
            waited = time.monotonic() - began
    gate.close()
    assert waited < places.LEASE + 1


def test_a_process_that_wakes_up_after_losing_its_place_makes_no_call_beyond_its_own(
    store: Store, postgres_url: str
) -> None:
    gate = StoreGate(store, SystemClock())
    with Shop(0.02) as shop, callers(postgres_url, shop, 1, "--concurrent", "1") as found:
        wait_for_calls(shop, 3)
        os.kill(found[0].pid, signal.SIGSTOP)
        with gate.slot("shop", 1):
            before = shop.count()
            os.kill(found[0].pid, signal.SIGCONT)
            time.sleep(1.5)
            assert shop.count() - before <= 1
        wait_for_calls(shop, before + 5)
    gate.close()


def test_a_pause_holds_other_processes_within_a_second(store: Store, postgres_url: str) -> None:
    gate = StoreGate(store, SystemClock())
    with Shop() as shop, callers(postgres_url, shop, 2, "--threads", "1"):
        wait_for_calls(shop, 5)
        gate.pause("shop", 3.0)
        began = time.monotonic()
        time.sleep(1.0)
        during = shop.count()
        time.sleep(1.5)
        assert shop.count() == during
        wait_for_calls(shop, during + 1)
        assert time.monotonic() - began + 0.05 >= 3.0
        assert time.monotonic() - began < 4.0
    gate.close()


def test_a_pause_too_long_for_a_thread_is_raised_and_told(store: Store) -> None:
    gate = StoreGate(store, SystemClock())
    gate.pause("shop", 100)
    with pytest.raises(TransientError) as caught:
        gate.wait("shop", None)
    assert caught.value.code == "http.paused"
    with pytest.raises(TransientError):
        gate.wait("shop", 10.0)
    assert 95 < gate.pause_left("shop") <= 100
    gate.pause("shop", 1)
    assert gate.pause_left("shop") > 95, "a shorter pause never ends a longer one"
    gate.close()


def test_a_rate_slower_than_our_patience_is_no_pause(store: Store) -> None:
    gate = StoreGate(store, SystemClock(), patience=0.1)
    began = time.monotonic()
    for _ in range(3):
        gate.wait("shop", 4.0)
    assert 0.5 <= time.monotonic() - began < 2
    gate.close()


def test_a_process_keeps_its_place_between_calls_and_gives_it_back_when_idle(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = places.lease_place

    def counted(*args: object) -> int | None:
        asked.append(1)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(places, "lease_place", counted)
    mine, other = Places(store, SystemClock()), Places(store, SystemClock())
    for _ in range(50):
        with mine.hold("shop", 1):
            pass
    assert len(asked) == 1
    began = time.monotonic()
    with other.hold("shop", 1):
        assert time.monotonic() - began < 3.5, "idle places are given back before they run out"
    mine.close()
    other.close()
