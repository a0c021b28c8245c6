"""The projector dies alone, or the hub is asked to stop, while every protocol sends."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.telemetry.kills.mqtt_senders import MqttSender
from tests.telemetry.kills.plant import Plant, plant
from tests.telemetry.kills.senders import HttpSender
from tests.telemetry.kills.served import KillableHub

_SHUTTING_DOWN = 0x8B


def _next_projector(made: Plant, seconds: float = 10.0) -> int:
    until = time.monotonic() + seconds
    while (pid := made.hub.projector()) is None:
        assert time.monotonic() < until, "no projector"
        time.sleep(0.02)
    return pid


@pytest.mark.slow
def test_senders_do_not_notice_that_the_projector_is_killed(tmp_path: Path) -> None:
    chance = random.Random()
    with plant(tmp_path) as made:
        made.begin()
        for _ in range(4):
            made.progress()
            time.sleep(chance.uniform(0.0, 0.3))
            os.kill(_next_projector(made), signal.SIGKILL)
        found = made.finish()
        assert {name: one for name, one in found.items() if not one.is_right} == {}
        for one in made.senders:
            assert not isinstance(one, HttpSender) or set(one.answers) <= {"200", "204"}
            assert not isinstance(one, MqttSender) or set(one.answers) == {"puback"}
        assert made.hub.stop() == 0


def test_a_hub_that_is_asked_to_stop_under_load_tells_its_clients(tmp_path: Path) -> None:
    with plant(tmp_path) as made:
        made.begin()
        made.progress()
        began = time.monotonic()
        assert made.hub.stop() == 0
        assert time.monotonic() - began < 10
        for node in made.edges():
            node.forget_demands()
        made.hub.start()
        for node in made.edges():
            node.await_rebirth(20)
        found = made.finish()
        assert {name: one for name, one in found.items() if not one.is_right} == {}
        for one in made.senders:
            if isinstance(one, MqttSender):
                assert one.reasons == ([_SHUTTING_DOWN] if one.version == 5 else []), one.name
        assert "Traceback" not in made.hub.log.read_text(encoding="utf-8")


def test_a_stop_while_everything_comes_up_is_a_clean_one(tmp_path: Path) -> None:
    hub = KillableHub(tmp_path / "hub")
    try:
        hub.start()  # it answers before all of it is there
        assert hub.stop() == 0
        assert "Traceback" not in hub.last_words()
    finally:
        hub.close()
