"""Several real processes on one PostgreSQL: what one leaves behind, another takes over."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from connectors.crm.fake import FakeCrm
from connectors.u8.fake import FakeU8, Sizes
from hub.engine.hub import Hub
from hub.engine.jobs import DELAYED
from hub.engine.operations import LocalOperations
from hub.engine.planning import start_run
from hub.engine.watchdog import look
from hub.sdk.testing import Fault
from hub.store.database import open_store
from hub.store.runs import Run
from tests.engine.conftest import Rig
from tests.engine.durables import wait_for
from tests.engine.fleet import (
    ROOT,
    Fleet,
    alive,
    assert_one_effect_each,
    found,
    holder,
    limit,
    seconds_until,
    send_signal,
    set_grace,
    the_one_at,
)

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]

FLOW = "u8_customers_to_crm"
CUSTOMERS = 1_600
PROMISED_SECONDS = 10.0


@pytest.fixture
def u8() -> Iterator[FakeU8]:
    with FakeU8(sizes=Sizes(materials=40, stock=50, customers=CUSTOMERS, orders=5)) as fake:
        yield fake


@pytest.fixture
def rig(tmp_path: Path, u8: FakeU8, crm: FakeCrm, postgres_url: str) -> Rig:
    return Rig(tmp_path / "hub", u8, crm, postgres_url)


@pytest.fixture
def fleet(rig: Rig) -> Iterator[Fleet]:
    started = Fleet(rig)
    yield started
    started.end()


def assert_exactly_once(rig: Rig, hub: Hub, run: Run) -> None:
    wait_for(lambda: found(hub, run).finished, seconds=90)
    ended = found(hub, run)
    assert ended.state == "done", ended.error_text
    assert ended.counts["rows_read"] == CUSTOMERS
    assert_one_effect_each(rig.crm, "customer", set(rig.u8.ledgers["1"].customers))


# --- a killed worker --------------------------------------------------------------------------


def test_run_and_deliveries_of_killed_workers_go_on_within_ten_seconds(
    rig: Rig, fleet: Fleet, record_property: Callable[[str, object], None]
) -> None:
    limit(rig, "u8", rate="3/s")
    limit(rig, "crm", rate="2/s")
    with fleet.manned(3) as hub:
        run = start_run(hub, FLOW)
        wait_for(lambda: found(hub, run).page_no >= 1, seconds=30)
        reader = the_one_at(hub, f"run:{run.id}:")
        page = found(hub, run).page_no
        send_signal(reader, signal.SIGKILL)
        took = seconds_until(lambda: found(hub, run).page_no > page + 1)
        record_property("takeover_of_run", round(took, 2))
        assert took < PROMISED_SECONDS

        writer = the_one_at(hub, "drain:crm/customer:")
        send_signal(writer, signal.SIGKILL)
        written = len(rig.crm.effects_of("customer"))
        took = seconds_until(lambda: len(rig.crm.effects_of("customer")) > written + 1)
        record_property("takeover_of_deliveries", round(took, 2))
        assert took < PROMISED_SECONDS
        dead = {one["pid"] for one in LocalOperations(hub).workers() if not one["alive"]}
        assert dead == {reader["pid"], writer["pid"]}
        assert_exactly_once(rig, hub, run)


@pytest.mark.slow
def test_a_delayed_wake_of_a_killed_worker_happens_on_another(rig: Rig, fleet: Fleet) -> None:
    # More failures than a wait in the job bridges: five open the breaker, each probe doubles it.
    rig.crm.misbehave(Fault.STATUS, method="POST", times=8, status=503)
    limit(rig, "crm", tries="1")
    with fleet.manned(2) as hub:
        run = start_run(hub, FLOW)

        def delayed() -> bool:
            jobs = look(hub).jobs
            return any(job.state == DELAYED and job.id.startswith("drain:") for job in jobs)

        wait_for(delayed, seconds=60)
        send_signal(alive(hub)[0], signal.SIGKILL)
        assert_exactly_once(rig, hub, run)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_workers_killed_one_after_the_other_each_hand_over_in_time(
    rig: Rig, fleet: Fleet, record_property: Callable[[str, object], None]
) -> None:
    limit(rig, "u8", rate="1/s")
    limit(rig, "crm", rate="0.2/s")
    times: list[float] = []
    with fleet.manned(2) as hub:
        run = start_run(hub, FLOW)
        for _ in range(10):
            wait_for(lambda: {one["pid"] for one in alive(hub)} == fleet.running(), seconds=60)
            victim = the_one_at(hub, "")
            send_signal(victim, signal.SIGKILL)
            fleet.start()
            times.append(seconds_until(lambda gone=victim["id"]: _held_by_another(hub, gone)))
        record_property("takeover_p50", round(median(times), 2))
        record_property("takeover_max", round(max(times), 2))
        assert max(times) < PROMISED_SECONDS, times
        limit(rig, "u8", rate="9999/s")
        limit(rig, "crm", rate="9999/s")
        assert_exactly_once(rig, hub, run)


def _held_by_another(hub: Hub, gone: str) -> bool:
    now = holder(hub, "")
    return now is not None and now["id"] != gone


@pytest.mark.slow
def test_a_worker_that_ends_in_order_leaves_its_run_to_another_at_once(
    rig: Rig, fleet: Fleet, record_property: Callable[[str, object], None]
) -> None:
    set_grace(rig, "60s")
    limit(rig, "u8", rate="3/s")
    with fleet.manned(2) as hub:
        run = start_run(hub, FLOW)
        wait_for(lambda: found(hub, run).page_no >= 1, seconds=30)
        victim = the_one_at(hub, f"run:{run.id}:")
        send_signal(victim, signal.SIGTERM)
        took = seconds_until(lambda: _held_by_another(hub, victim["id"]))
        record_property("handover", round(took, 2))
        assert took < PROMISED_SECONDS  # far less than the grace
        assert [one["alive"] for one in LocalOperations(hub).workers()] == [True]
        assert_exactly_once(rig, hub, run)


# --- the database away ------------------------------------------------------------------------


@contextmanager
def database_away(url: str) -> Iterator[None]:
    """Every connection to the database is cut and none is let in, as when its server stops."""
    name = make_url(url).database
    server = make_url(url).set(drivername="postgresql", database="postgres")
    plain = server.render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        try:
            admin.execute(cut, [name])
            yield
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


@pytest.mark.slow
def test_a_stop_of_the_database_ends_in_no_struggle_over_the_jobs(
    rig: Rig, fleet: Fleet, postgres_url: str
) -> None:
    """Measured before: 381 recoveries after one restart, and a quarter of the work done."""
    limit(rig, "u8", rate="4/s")
    with fleet.manned(3) as hub:
        run = start_run(hub, FLOW)
        wait_for(lambda: found(hub, run).page_no >= 1, seconds=30)
        for away in (1.0, 8.0):  # shorter and longer than the grace
            with database_away(postgres_url):
                time.sleep(away)
        page = found(hub, run).page_no
        if not found(hub, run).finished:
            took = seconds_until(lambda: found(hub, run).page_no > page or found(hub, run).finished)
            assert took < 2 * PROMISED_SECONDS
        assert_exactly_once(rig, hub, run)
        # Each outage may cost the run one start or two, and not hundreds.
        assert found(hub, run).attempt < 12
        wait_for(lambda: len(alive(hub)) == 3, seconds=20)


# --- starting ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_that_start_before_the_schema_and_before_the_database_wait_for_them(
    rig: Rig, fleet: Fleet, postgres_url: str
) -> None:
    with database_away(postgres_url):
        fleet.start(2)
        said = [one.stderr.readline() for one in fleet.processes if one.stderr is not None]
        assert len(said) == 2
        assert all("database" in line for line in said), said
    with closing(open_store(postgres_url)) as store:
        wait_for(lambda: _workers_of(store) == 2, seconds=60)


def _workers_of(store: Any) -> int:
    with store.reading() as connection:
        if not sa.inspect(connection).has_table("hub_executor"):
            return 0
        return int(connection.execute(sa.text("SELECT count(*) FROM hub_executor")).scalar_one())


def test_a_worker_gives_up_on_a_database_that_stays_away_with_one_line(embedded: Rig) -> None:
    (embedded.folder / "hub.toml").write_text(
        '[store]\nurl = "postgresql+psycopg://nobody@127.0.0.1:9/none"\n', encoding="utf-8"
    )
    command = [sys.executable, "-m", "hub.cli", "--dir", str(embedded.folder), "--lang", "en"]
    done = subprocess.run(
        [*command, "worker", "--wait", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    waiting, error = done.stderr.splitlines()
    assert waiting.startswith("waiting up to 1 s: store ")
    assert error.startswith("error: store ")
