"""Ten times what the hub can take: it says so, stays small, and keeps what it acknowledged."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.telemetry.kills.mqtt_senders import MqttSender
from tests.telemetry.kills.plant import Crowd, Plant, plant
from tests.telemetry.kills.senders import HttpSender
from tests.telemetry.kills.small_hub import MESSAGES

_CROWD = Crowd(http=8, mqtt=2, window=120, broker=150, pause=0.0)
_BURST_SECONDS = 2.5
_MOST_MB = 80.0


@contextmanager
def _slow_disk(path: Path) -> Iterator[None]:
    """Each transaction in the file waits for most of half a second."""
    over = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
            while not over.is_set():
                connection.execute("BEGIN IMMEDIATE")
                over.wait(0.4)
                connection.execute("ROLLBACK")
                time.sleep(0.1)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _most_memory(made: Plant, seconds: float) -> float:
    until, most = time.monotonic() + seconds, 0.0
    while time.monotonic() < until:
        most = max(most, made.hub.resident_mb())
        time.sleep(0.05)
    return most


@pytest.mark.slow
def test_a_burst_is_held_back_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    in_flight = 5 * _CROWD.http + 2 * _CROWD.mqtt * _CROWD.window + _CROWD.broker
    assert in_flight > 10 * MESSAGES
    module = "tests.telemetry.kills.small_hub"
    with plant(tmp_path, module=module, crowd=_CROWD) as made:
        before = made.hub.resident_mb()
        made.begin()
        made.progress(1)
        with _slow_disk(made.hub.folder / "telemetry-inbox.db"):
            memory = _most_memory(made, _BURST_SECONDS)
        found = made.finish()

        _check_http(made)
        devices = [one for one in made.senders if isinstance(one, MqttSender)]
        assert {one.name: one.reasons for one in devices if one.reasons} == {}
        assert max(one.slowest for one in devices) > 0.3, "PUBACKs are late while it is slow"
        assert memory < before + _MOST_MB
        assert {name: one for name, one in found.items() if not one.is_right} == {}
        assert made.hub.stop() == 0


def _check_http(made: Plant) -> None:
    """Every face refuses some with 503, never without saying when to come again."""
    senders = [one for one in made.senders if isinstance(one, HttpSender)]
    told: dict[str, Counter[str]] = {}
    for one in senders:
        told.setdefault(one.name, Counter()).update(one.answers)
        assert not one.impatient, one.name
    for name, answers in told.items():
        assert answers["503"], (name, answers)
        assert set(answers) <= {"200", "204", "503"}, (name, answers)
