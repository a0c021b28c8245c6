"""What `dev.py bench kill` keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import machine
from bench.kill import keep


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    return tmp_path


def kept(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["result"]["stores"]
    return found


def test_a_full_run_of_one_store_stands_beside_that_of_the_other(results: Path) -> None:
    keep({"sqlite": {"run": 1}}, {"cpu": "one"}, full=True)
    keep({"postgres": {"run": 2}}, {"cpu": "one"}, full=True)
    keep({"sqlite": {"run": 3}}, {"cpu": "one"}, full=True)
    assert kept(results / "kill.json") == {"sqlite": {"run": 3}, "postgres": {"run": 2}}


def test_a_short_run_does_not_touch_the_full_ones(results: Path) -> None:
    keep({"sqlite": {"run": 1}}, {"cpu": "one"}, full=True)
    keep({"sqlite": {"run": 2}}, {"cpu": "one"}, full=False)
    assert kept(results / "kill.json") == {"sqlite": {"run": 1}}
    assert kept(results / "kill.local.json") == {"sqlite": {"run": 2}}
