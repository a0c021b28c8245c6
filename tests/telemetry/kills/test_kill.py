"""`kill -9` of server and projector in mid-stream: every protocol keeps what it acknowledged."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest

from tests.telemetry.kills.journal import Found
from tests.telemetry.kills.plant import plant

QUICK, LONG = 2, 10

log = logging.getLogger(__name__)


def _killed(folder: Path, store_url: str, times: int) -> dict[str, Found]:
    chance = random.Random()
    with plant(folder, store_url) as made:
        made.begin()
        for _ in range(times):
            made.kill(chance)
        found = made.finish()
        assert made.hub.stop() == 0
    for name, one in found.items():
        log.info("%s: %d kills, %s", name, times, one)
    return found


def test_what_was_acknowledged_is_there_once_after_the_hub_was_killed(tmp_path: Path) -> None:
    found = _killed(tmp_path, "", QUICK)
    assert {name: one for name, one in found.items() if not one.is_right} == {}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    found = _killed(tmp_path, "", LONG)
    assert {name: one for name, one in found.items() if not one.is_right} == {}


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_ten_kills_lose_and_double_nothing_on_postgres(tmp_path: Path, postgres_url: str) -> None:
    found = _killed(tmp_path, postgres_url, LONG)
    assert {name: one for name, one in found.items() if not one.is_right} == {}
