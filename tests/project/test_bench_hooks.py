"""`bench hooks` sends signed events, measures three sides and judges by the promised ratio."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from bench import hooks
from bench.hooks_load import Load, event
from tests.project.files import ROOT


def figures(hub_rate: float, p99: float) -> dict[str, Any]:
    noop = Load(accepted=1000, thanked=1000, seconds=1.0, p99=0.01)
    hub = Load(accepted=int(hub_rate), thanked=int(hub_rate), seconds=1.0, p99=p99)
    return hooks.summary([hooks.Round(noop, hub, 5000.0, 100.0, 200.0)])


@pytest.mark.parametrize(
    ("rate", "p99", "wrong"), [(400, 0.199, 0), (399, 0.199, 1), (400, 0.2, 1), (100, 1.0, 2)]
)
def test_a_missed_promise_is_named(rate: float, p99: float, wrong: int) -> None:
    assert len(hooks.missed(figures(rate, p99))) == wrong


def test_ratios_are_those_of_each_round() -> None:
    assert figures(500, 0.1)["of_noop"] == 0.5
    assert figures(500, 0.1)["of_ceiling"] == 0.1


def test_events_have_the_size_they_are_said_to_have() -> None:
    assert {len(event(number, "run")[0]) for number in (1, 99_999)} == {hooks.BODY_BYTES}


def test_a_short_measurement_on_sqlite_loses_nothing_it_was_thanked_for() -> None:
    command = [sys.executable, "-m", "bench", "hooks", "--store", "sqlite", "--json"]
    command += ["--seconds", "0.5", "--rounds", "1", "--senders", "8"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["stores"]["sqlite"]
    assert found["hub"]["per_second"] > 0
    assert found["noop"]["per_second"] > 0
    assert found["ceiling_per_second"] > 0
