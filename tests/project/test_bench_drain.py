"""`bench drain` measures what it says and notices what is lost or doubled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bench import drain, machine
from bench.draining.figures import Drained, memory_of, rate_between, seconds_at
from tests.project.files import ROOT

SAMPLES = [(1.0, 100, 50.0), (2.0, 300, 60.0), (3.0, 600, 61.0), (4.0, 800, 62.0), (5.0, 1000, 63)]


def test_a_small_backlog_is_drained_by_both_sides_with_every_key_once() -> None:
    command = [sys.executable, "-m", "bench", "drain", "--store", "sqlite", "--pending", "3000"]
    done = subprocess.run(
        [*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)["stores"]
    assert (one["store"], one["deliveries"], one["problems"]) == ("sqlite", 3000, [])
    assert min(one["commits_per_second"], one["bare_per_second"], one["per_second"]) > 0


def test_a_moment_between_two_samples_is_found_on_the_line_between_them() -> None:
    assert seconds_at(SAMPLES, 50) == 0.5
    assert seconds_at(SAMPLES, 450) == 2.5
    assert rate_between(SAMPLES, 300, 600) == 300
    assert rate_between(SAMPLES, 0, 100) == 100


def test_the_slope_is_that_of_the_second_half() -> None:
    found = memory_of(SAMPLES, 1000)
    assert (found.at_10, found.at_50, found.at_100) == (50.0, 61.0, 63)
    assert found.slope_mb_per_100k == pytest.approx(500)  # 1 MB for each 200


@pytest.mark.parametrize(
    ("rate", "grown", "missed"), [(3000.0, 0.0, 0), (2999.0, 0.0, 1), (2999.0, 11.0, 2)]
)
def test_what_is_promised_is_judged(rate: float, grown: float, missed: int) -> None:
    samples = ((1.0, 500_000, 60.0), (2.0, 1_000_000, 60.0 + grown))
    memory = memory_of(samples, 1_000_000)
    one = Drained("sqlite", "batch", 1, 1.0, 10.0, rate, 1.0, 1.0, 1.0, memory, (), samples)
    assert len(one.missed) == missed


def test_a_key_that_came_twice_or_never_is_named(tmp_path: Path) -> None:
    from rich.console import Console

    measurement = drain.Measurement("sqlite", "batch", 3, tmp_path, Console(quiet=True))
    with drain.target(3) as url:
        for keys in (["K0000000", "K0000001"], ["K0000001"]):
            httpx.post(f"{url}/batch", json={"items": [{"key": key} for key in keys]})
        assert measurement._wrong("hub", url) == [
            "hub: 1 keys never came",
            "hub: 1 keys came twice",
        ]


def test_the_kept_result_holds_what_is_promised() -> None:
    kept = json.loads((machine.RESULTS / "drain.json").read_text(encoding="utf-8"))["result"]
    assert {one["store"] for one in kept["stores"]} == {"sqlite", "postgres"}
    for one in kept["stores"]:
        assert (one["deliveries"], one["problems"], one["missed"]) == (drain.PENDING, [], [])
