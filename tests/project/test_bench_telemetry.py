"""The measurements of telemetry run from end to end and lose nothing, on a small scale."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from bench.__main__ import benches
from tests.project.files import ROOT


def run(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench", *words, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_they_are_listed() -> None:
    assert {"telemetry", "telemetry_broker", "telemetry_queries"} <= set(benches())
    assert not [name for name, text in benches().items() if not text]


def test_a_small_history_is_asked_about() -> None:
    found = run("telemetry_queries", "--devices", "2", "--days", "2", "--rounds", "1")
    assert found["stored"]["readings"] == 2 * 2 * 1440
    assert 2 < found["stored"]["bytes_per_reading"] < 200
    assert min(row["p50_ms"] for row in found["questions"].values()) > 0


def test_a_broker_is_read() -> None:
    found = run("telemetry_broker", "--messages", "200")
    assert found["sparkplug_metrics_per_second"] > 1000
    if found["at_once_per_second"] is None:
        pytest.skip("no Mosquitto here")
    assert found["after_5_ms_per_second"] > 0


@pytest.mark.slow
def test_the_hub_keeps_each_reading_once_while_it_is_measured() -> None:
    found = run("telemetry", "--store", "sqlite", "--case", "mqtt-10", "--seconds", "1")
    assert found["stores"]["sqlite"]["cases"]["mqtt-10"]["readings_per_second"] > 0
