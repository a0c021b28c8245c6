"""kill -9 at each named point: nothing lost, nothing doubled, no page read twice without need.

At random moments, and under load: `test_campaign`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.crm.fake import FakeCrm
from connectors.u8.fake import FakeU8, Sizes
from hub.engine.hub import open_hub
from hub.store.crash import EXIT_CODE
from hub.store.runs import last_run
from tests.engine.conftest import Rig

ROOT = Path(__file__).resolve().parents[2]
FLOW = "u8_customers_to_crm"
LIST = "/api/customer/batch_get"
CUSTOMERS = 1_600
PAGES = 8
POINTS = (
    "page.read:3",
    "page.mapped:3",
    "page.before_commit:3",
    "page.after_commit:3",
    "delivery.claimed",
    "delivery.sent",
    "delivery.settled",
)


@pytest.fixture
def u8() -> Iterator[FakeU8]:
    with FakeU8(sizes=Sizes(materials=40, stock=50, customers=CUSTOMERS, orders=5)) as fake:
        yield fake


def _start(rig: Rig, flow: str = FLOW, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.engine.worker", str(rig.folder), flow]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def _ended(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    """The worker's report; None when it died before."""
    output, _ = process.communicate(timeout=90)
    last = output.strip().splitlines()[-1:] or [""]
    found: dict[str, Any] | None = json.loads(last[0]) if last[0].startswith("{") else None
    return found


def _pages_done(rig: Rig) -> int:
    with open_hub(rig.folder) as hub, hub.store.reading() as connection:
        run = last_run(connection, FLOW)
    return run.page_no if run is not None else 0


def _assert_exactly_once(crm: FakeCrm, u8: FakeU8, report: dict[str, Any]) -> None:
    assert report["state"] == "done", report
    effects = crm.effects_of("customer")
    assert set(effects) == set(u8.ledgers["1"].customers)
    assert set(effects.values()) == {1}
    assert crm.duplicates("customer") == []
    # The last kill may have come after the first run was done: then a second one found it so.
    assert report["written"] + report["unchanged"] == report["mapped"] == CUSTOMERS


@pytest.mark.parametrize("point", POINTS)
def test_a_hub_that_dies_at_a_named_point_goes_on_where_it_was(rig: Rig, point: str) -> None:
    first = _start(rig, HUB_CRASH_AT=point)
    assert _ended(first) is None
    assert first.returncode == EXIT_CODE
    left = PAGES - _pages_done(rig)
    rig.u8.forget()
    report = _ended(_start(rig))
    assert report is not None
    _assert_exactly_once(rig.crm, rig.u8, report)
    assert rig.u8.count(LIST) <= left + 1


@pytest.mark.parametrize("sink", ["sale_order", "ticket"])
@pytest.mark.parametrize("point", ["delivery.claimed", "delivery.sent"])
def test_writes_cut_off_by_a_crash_are_not_repeated(embedded: Rig, sink: str, point: str) -> None:
    embedded.write_flow(
        "send",
        "flow: send\nfrom: {connection: u8, stream: material}\n"
        "mapping: {key: [code], fields: {code: code, name: name, subject: name}}\n"
        f"to: {{connection: crm, sink: {sink}}}\n",
    )
    process = _start(embedded, "send", HUB_CRASH_AT=point)
    assert _ended(process) is None
    assert process.returncode == EXIT_CODE
    report = _ended(_start(embedded, "send"))
    assert report is not None
    assert report["written"] == 40
    assert sorted(embedded.crm.effects_of(sink).values()) == [1] * 40
