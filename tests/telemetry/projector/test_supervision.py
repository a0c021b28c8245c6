"""The hub keeps its projectors running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.engine.deployment import create_deployment, open_deployment
from hub.engine.telemetry import Projectors
from tests.telemetry.projector.plant import Plant
from tests.telemetry.projector.test_process import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_deployment(tmp_path / "hub")
    return tmp_path / "hub"


@pytest.fixture
def projectors(folder: Path) -> Iterator[Projectors]:
    made = Projectors(open_deployment(folder))
    made.start()
    yield made
    made.stop()


def plant_of(folder: Path) -> Plant:
    deployment = open_deployment(folder)
    plant = Plant(deployment.telemetry_url, deployment.telemetry_inbox_url, migrated=True)
    plant.now = int(time.time() * 1000)
    return plant


def send(plant: Plant, metric: str) -> None:
    body = json.dumps({"ts": plant.now, "values": {metric: 1}}).encode()
    plant.send(body, format="iot.thingsboard")


def test_a_hub_without_telemetry_has_no_projector(projectors: Projectors) -> None:
    time.sleep(0.7)
    assert projectors.pids == []


def test_a_projector_that_dies_is_replaced(folder: Path, projectors: Projectors) -> None:
    plant = plant_of(folder)
    send(plant, "a")
    until(lambda: plant.device("D1") is not None)
    (first,) = projectors.pids
    os.kill(first, signal.SIGKILL)
    send(plant, "b")
    until(lambda: plant.device("D1").readings == 2)
    assert projectors.pids not in ([], [first])
    plant.close()


def test_a_projector_that_cannot_be_started_is_tried_again(
    folder: Path, projectors: Projectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = subprocess.Popen, [OSError("no process can be had")]

    def start(*arguments: Any, **options: Any) -> Any:
        if refused:
            raise refused.pop()
        return real(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    plant = plant_of(folder)
    send(plant, "a")
    until(lambda: plant.device("D1") is not None)
    assert not refused
    plant.close()


def test_edited_sources_hold_from_the_next_message_and_broken_ones_change_nothing(
    folder: Path, projectors: Projectors
) -> None:
    plant = plant_of(folder)
    send(plant, "a")
    until(lambda: plant.device("D1") is not None)
    (first,) = projectors.pids
    place = folder / "mappings" / "telemetry"
    place.mkdir(parents=True)
    (place / "iot.yaml").write_text("source: iot\ntenant: [broken\n")
    time.sleep(2.5)
    assert projectors.pids == [first]
    (place / "iot.yaml").write_text("source: iot\ntenant: other\n")
    until(lambda: projectors.pids not in ([], [first]))
    send(plant, "b")
    until(lambda: plant.device("D1", tenant="other") is not None)
    plant.close()


def test_nothing_is_left_when_the_hub_stops(folder: Path) -> None:
    plant = plant_of(folder)
    send(plant, "a")
    projectors = Projectors(open_deployment(folder))
    projectors.start()
    until(lambda: plant.device("D1") is not None)
    (pid,) = projectors.pids
    projectors.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert set(plant.owners()) == {""}
    plant.close()
