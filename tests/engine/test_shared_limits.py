"""What is agreed with an account holds over all processes on one PostgreSQL.

Three real processes call a fake CRM through the hub's own sessions; the fake says what came when.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from connectors.crm.fake import FakeCrm
from connectors.u8.fake import FakeU8
from hub.engine import places
from hub.engine.gate import StoreGate
from hub.engine.hub import open_hub
from hub.engine.places import Places
from hub.sdk.clock import SystemClock
from hub.sdk.errors import AuthError, TransientError
from hub.sdk.testing import Fault, Request, Response
from hub.store.database import Store, open_store
from hub.store.migrate import migrate
from tests.engine.conftest import Rig
from tests.engine.fleet import ROOT, limit

pytestmark = pytest.mark.postgres


class SlowCrm(FakeCrm):
    """Takes a while for each call, and knows how many it had at once."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.at_once = 0
        self.most = 0
        self.woken = threading.Event()
        self._counting = threading.Lock()

    def _handled(self, handler: Callable[[Request], Response], request: Request) -> Response:
        self._change(+1)
        self.woken.wait(self.seconds)
        try:
            return super()._handled(handler, request)
        finally:
            self._change(-1)

    def _change(self, by: int) -> None:
        with self._counting:
            self.at_once += by
            self.most = max(self.most, self.at_once)

    def times(self) -> list[float]:
        """When each call came."""
        return sorted(request.time for request in self.requests)


@pytest.fixture
def crm() -> Iterator[SlowCrm]:
    with SlowCrm() as fake:
        yield fake


@pytest.fixture
def rig(tmp_path: Path, u8: FakeU8, crm: SlowCrm, postgres_url: str) -> Rig:
    made = Rig(tmp_path / "hub", u8, crm, postgres_url)
    made.connections["crm"]["limits"] = {"rate": "10000/s", "tries": 1, "deadline": "2s"}
    made.write_connections()
    with open_hub(made.folder):
        return made  # its tables are made


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    opened = open_store(postgres_url)
    migrate(opened)
    yield opened
    opened.close()


class Callers(list["subprocess.Popen[str]"]):
    """Processes of `caller.py`."""

    def end(self) -> list[int]:
        """Stop all; how many answers each got."""
        return [int(one.communicate("", timeout=30)[0]) for one in self]


@contextmanager
def callers(rig: Rig, number: int, threads: int = 3) -> Iterator[Callers]:
    command = [sys.executable, "-m", "tests.engine.caller", str(rig.folder), str(threads)]
    pipe = subprocess.PIPE
    started = Callers(
        subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        for _ in range(number)
    )
    try:
        for one in started:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        yield started
    finally:
        for one in started:
            if one.poll() is None:
                one.send_signal(signal.SIGCONT)
                one.kill()
            one.communicate()


def wait_for_calls(crm: SlowCrm, number: int, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while crm.count() < number:
        assert time.monotonic() < until, crm.count()
        time.sleep(0.02)


# --- rate, concurrency, pauses ----------------------------------------------------------------


def test_three_processes_never_exceed_the_rate_in_any_window(rig: Rig, crm: SlowCrm) -> None:
    limit(rig, "crm", rate="8/s")
    with callers(rig, 3):
        crm.forget()
        began = time.monotonic()
        wait_for_calls(crm, 40)
        took = time.monotonic() - began
    for seconds in (1, 2, 4):
        # One more than agreed: a call may be held up on its way here, and the next one is not.
        assert crm.busiest(seconds) <= 8 * seconds + 1
    assert took < 8, "the rate is used, not only kept"


def test_three_processes_share_the_places_of_an_account(rig: Rig, crm: SlowCrm) -> None:
    limit(rig, "crm", concurrent="2")
    crm.seconds = 0.03
    with callers(rig, 3) as started:
        until = time.monotonic() + 4
        wait_for_calls(crm, 60)
        time.sleep(max(0.0, until - time.monotonic()))
        answers = started.end()
    assert crm.most == 2
    assert sum(answers) == crm.count()
    assert min(answers) > 0, "every process gets its turn"


def test_a_retry_after_stops_all_processes_and_no_longer_than_it_says(
    rig: Rig, crm: SlowCrm
) -> None:
    limit(rig, "crm", rate="40/s")
    with callers(rig, 3, threads=1):
        wait_for_calls(crm, 20)
        before = crm.count()
        crm.misbehave(Fault.TOO_MANY_REQUESTS, times=1, retry_after=3)
        wait_for_calls(crm, before + 60)
    times = crm.times()
    longest = max(late - early for early, late in pairwise(times))
    assert 2.0 < longest < 4.0, "3 s, of which up to one until all have heard of it"


# --- the breaker ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_system_that_is_down_is_left_alone_and_probed_by_one_process_at_a_time(
    rig: Rig, crm: SlowCrm
) -> None:
    crm.misbehave(Fault.STATUS, times=None, status=503)
    with callers(rig, 3, threads=2) as started:
        wait_for_calls(crm, 5)
        time.sleep(1.0)  # calls under way end, and all hear of it
        opened = crm.count()
        assert opened <= 5 + 3 * 2 + 3 * 2, "five in a row, what was under way, one look each"
        crm.forget()
        wait_for_calls(crm, 2, seconds=15)
        first, second = crm.times()
        assert second - first > 2.5, "each failed probe doubles the wait"
        crm.behave()
        wait_for_calls(crm, 60, seconds=20)
        assert min(started.end()) > 0, "it closes by itself, for all"


@pytest.mark.slow
def test_a_probe_whose_process_is_killed_is_made_by_another(rig: Rig, crm: SlowCrm) -> None:
    crm.misbehave(Fault.STATUS, times=5, status=503)
    with callers(rig, 1, threads=1) as doomed:
        wait_for_calls(crm, 5)
        crm.seconds = 30.0
        crm.forget()
        wait_for_calls(crm, 1, seconds=10)
        doomed[0].kill()
        crm.seconds = 0.0
        crm.woken.set()
    with open_hub(rig.folder) as hub:
        sink = hub.session("crm").sink("sale_order")
        with pytest.raises(TransientError) as caught:
            sink.find("X")
        assert caught.value.code == "http.breaker_open"
        assert crm.count() == 1
        until = time.monotonic() + 20
        while hub.breaker.outlook("crm").opened_at is not None:
            assert time.monotonic() < until
            try:
                sink.find("X")
            except TransientError:
                time.sleep(0.1)
    assert crm.count() == 2, "one more probe, and it closed"


def test_refused_credentials_stop_every_process_until_they_are_renewed(
    rig: Rig, crm: SlowCrm
) -> None:
    with open_hub(rig.folder) as one, open_hub(rig.folder) as other:
        here, there = (hub.session("crm").sink("sale_order") for hub in (one, other))
        here.find("X")
        crm.expire_token()
        with pytest.raises(AuthError):
            here.find("X")
        asked = crm.count()
        time.sleep(0.6)  # the other hears of it
        for sink in (here, there):
            with pytest.raises(TransientError) as caught:
                sink.find("X")
            assert caught.value.code == "http.breaker_open"
        assert crm.count() == asked
        crm.accept("new")
        (rig.folder / "crm.secret").write_text("new", encoding="utf-8")
        one.renew_session("crm")
        other.renew_if_changed("crm")
        for hub in (one, other):
            assert hub.session("crm").sink("sale_order").find("X") is None


# --- places and pauses by themselves ----------------------------------------------------------


@pytest.mark.slow
def test_the_places_of_a_killed_process_are_free_within_seconds(rig: Rig, crm: SlowCrm) -> None:
    limit(rig, "crm", concurrent="1")
    with callers(rig, 1) as started, open_hub(rig.folder) as hub:
        wait_for_calls(crm, 3)
        started[0].kill()
        began = time.monotonic()
        hub.session("crm").sink("sale_order").find("X")
        waited = time.monotonic() - began
    assert waited < places.LEASE + 1


@pytest.mark.slow
def test_a_process_that_wakes_up_after_losing_its_place_makes_no_call_beyond_its_own(
    rig: Rig, crm: SlowCrm, store: Store
) -> None:
    limit(rig, "crm", concurrent="1")
    with open_hub(rig.folder) as hub, callers(rig, 1) as started:
        account = hub.session("crm").connection.account
        wait_for_calls(crm, 3)
        started[0].send_signal(signal.SIGSTOP)
        with hub.gate.slot(account, 1):
            before = crm.count()
            started[0].send_signal(signal.SIGCONT)
            time.sleep(1.5)
            assert crm.count() - before <= 1
        wait_for_calls(crm, before + 5)


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
