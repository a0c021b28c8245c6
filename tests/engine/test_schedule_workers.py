"""Every planned start happens once, however many processes tick."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from connectors.crm.fake import FakeCrm
from connectors.u8.fake import FakeU8
from hub.engine.hub import Hub, open_hub
from hub.store.runs import RunState
from hub.store.tables import run as run_table
from tests.engine.conftest import Rig
from tests.engine.fleet import ROOT

pytestmark = pytest.mark.postgres

START = datetime(2026, 3, 2, 7, 59, 58, tzinfo=UTC)
ASLEEP = START + timedelta(days=3, minutes=7)
MOMENTS = [
    START,  # met for the first time: nothing is due
    *(START + timedelta(minutes=n, seconds=5) for n in range(6)),
    ASLEEP,
    ASLEEP + timedelta(seconds=1),
]
FLOWS = {
    "each_minute": ("* * * * *", "last"),
    "hourly": ("0 * * * *", "last"),
    "hourly_no_catch_up": ("0 * * * *", "none"),
}
STARTS = {
    # one after each of the six minutes, and one for all that was slept through
    "each_minute": 7,
    "hourly": 2,
    "hourly_no_catch_up": 1,
}


@pytest.fixture
def rig(tmp_path: Path, u8: FakeU8, crm: FakeCrm, postgres_url: str) -> Rig:
    return Rig(tmp_path / "hub", u8, crm, postgres_url)


def test_three_processes_start_each_planned_run_once_also_after_days_of_sleep(rig: Rig) -> None:
    for name, (cron, catch_up) in FLOWS.items():
        rig.write_flow(
            name,
            f"flow: {name}\nfrom: {{connection: u8, stream: material}}\n"
            f"schedule: {{cron: '{cron}', zone: Asia/Shanghai, catch_up: {catch_up}}}\n"
            "mapping: {key: [code], fields: {code: code}}\nto: {entity: material}\n",
        )
    with open_hub(rig.folder) as hub:
        hub.durable.connect()
        _tick_together(hub, rig.folder, 3)
        with hub.store.reading() as connection:
            names = connection.execute(sa.select(run_table.c.flow_id)).scalars().all()
    assert {name: names.count(name) for name in FLOWS} == STARTS


def _tick_together(hub: Hub, folder: Path, number: int) -> None:
    command = [sys.executable, "-m", "tests.engine.ticker", str(folder)]
    command += [moment.isoformat() for moment in MOMENTS]
    pipe = subprocess.PIPE
    tickers = [
        subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        for _ in range(number)
    ]
    try:
        for _ in MOMENTS:
            for ticker in tickers:
                assert ticker.stdout is not None
                assert ticker.stdout.readline() == "ready\n"
            _end_runs(hub)
            for ticker in tickers:
                assert ticker.stdin is not None
                ticker.stdin.write("\n")
                ticker.stdin.flush()
        assert [one.communicate(timeout=30)[0] for one in tickers] == ["done\n"] * number
    finally:
        for ticker in tickers:
            ticker.kill()
            ticker.communicate()


def _end_runs(hub: Hub) -> None:
    """What was started is over: a run that still reads would take in the next start."""
    with hub.store.transaction() as connection:
        connection.execute(run_table.update().values(state=RunState.DONE.value))
