"""The projector as a process: it may be killed at any moment, and every reading is there once."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hub.sdk.errors import ConfigError
from hub.store.crash import EXIT_CODE
from hub.store.tables.telemetry import device
from hub.store.telemetry.chunks import read_points
from hub.telemetry.settings import Formats
from tests.telemetry.projector.plant import NOW, Plant, plain

ROOT = Path(__file__).parents[3]


class Shift:
    """Projectors as processes on one plant."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(
        self, crash_at: str = "", after: str = "", **changed: object
    ) -> subprocess.Popen[bytes]:
        told = {
            "url": self.plant.url,
            "inbox_url": self.plant.inbox_url,
            "sources": {},
            "decoders": [],
            "parts": self.plant.parts,
            "owner": secrets.token_hex(8),
            "after": after,
        }
        environment = {**os.environ, "HUB_CRASH_AT": crash_at} if crash_at else dict(os.environ)
        command = [sys.executable, "-m", "tests.telemetry.projector.child"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT, env=environment)
        self.processes.append(process)
        assert process.stdin is not None
        process.stdin.write(json.dumps({**told, **changed}).encode() + b"\n")
        process.stdin.flush()
        return process

    def end(self) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.close()

    def readings(self) -> list[int]:
        """Per device: the points that are there, and the readings that were counted."""
        with self.plant.store.reading() as connection:
            rows = connection.execute(device.select()).all()
            return [row.readings for row in rows if row.duplicates == row.restated == 0]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def shift(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shift]:
    if request.param == "sqlite":
        urls = f"sqlite:///{tmp_path}/telemetry.db", f"sqlite:///{tmp_path}/telemetry-inbox.db"
    else:
        url = str(request.getfixturevalue("postgres_url"))
        urls = url, url
    made = Shift(Plant(*urls, migrated=True))
    yield made
    made.end()
    made.plant.close()


def until(fulfilled: Callable[[], bool], seconds: float = 20) -> float:
    """How long it took."""
    begun = time.monotonic()
    while not fulfilled():
        assert time.monotonic() - begun < seconds, "it did not come about in time"
        time.sleep(0.05)
    return time.monotonic() - begun


def send_some(plant: Plant, first: int, number: int) -> None:
    for at in range(first, first + number):
        plant.send(
            sender=f"D{at % 7}", samples=[["", "a", NOW - at, at / 2], ["", "b", NOW - at, 1.0]]
        )


def is_projected(plant: Plant) -> bool:
    return sum(Shift(plant).readings()) >= 1 and plant.waiting() == 0


def assert_each_once(plant: Plant, messages: int) -> None:
    points = [point for number in range(7) for point in stored(plant, f"D{number}")]
    assert sorted(points) == sorted((NOW - at, at / 2) for at in range(messages))
    assert sum(Shift(plant).readings()) == 2 * messages


def stored(plant: Plant, name: str) -> list[tuple[int, float]]:
    number = plant.series(name, "a").series_id
    with plant.store.reading() as connection:
        ts, values = read_points(connection, number, 0, 2 * NOW)
    return list(zip(ts.tolist(), values.tolist(), strict=True))


@pytest.mark.parametrize("point", ["projector.before_commit", "projector.after_commit"])
def test_a_kill_around_the_commit_loses_and_doubles_nothing(shift: Shift, point: str) -> None:
    plant = shift.plant
    send_some(plant, 0, 30)
    assert shift.start(crash_at=point).wait(20) == EXIT_CODE
    send_some(plant, 30, 10)
    shift.start(after=plant.owners()[0])
    until(lambda: is_projected(plant))
    assert_each_once(plant, 40)


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_kills_at_random_under_load_lose_and_double_nothing(shift: Shift, kills: int) -> None:
    plant, chance, sent = shift.plant, random.Random(7), 0
    for _ in range(kills):
        process = shift.start(after=next(iter(plant.owners()), ""))
        until(lambda: plant.owners()[:1] not in ([], [""]))
        end = time.monotonic() + chance.uniform(0.3, 0.9)
        while time.monotonic() < end:
            send_some(plant, sent, 5)
            sent += 5
        process.kill()
        process.wait()
    shift.start(after=plant.owners()[0])
    until(lambda: is_projected(plant))
    assert_each_once(plant, sent)


@pytest.mark.parametrize(
    "how", [signal.SIGSTOP, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
@pytest.mark.postgres
def test_another_process_takes_over_and_a_zombie_writes_nothing(
    postgres_url: str, how: signal.Signals
) -> None:
    plant = Plant(postgres_url, postgres_url, migrated=True)
    shift = Shift(plant)
    try:
        first, _second = shift.start(lease="2s"), shift.start(lease="2s")
        until(lambda: len(set(plant.owners()) - {""}) == 2)
        send_some(plant, 0, 50)
        until(lambda: is_projected(plant))
        first.send_signal(how)
        send_some(plant, 50, 50)
        taken = until(lambda: is_projected(plant) and len(set(plant.owners())) == 1)
        assert taken < 5
        if how == signal.SIGSTOP:
            first.send_signal(signal.SIGCONT)
            until(lambda: len(set(plant.owners()) - {""}) == 2)
        send_some(plant, 100, 20)
        until(lambda: is_projected(plant))
        assert_each_once(plant, 120)
    finally:
        shift.end()
        plant.close()


def test_it_ends_with_its_parent(shift: Shift) -> None:
    process = shift.start()
    until(lambda: plant_is_held(shift.plant))
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 0
    assert set(shift.plant.owners()) == {""}


def plant_is_held(plant: Plant) -> bool:
    return bool(set(plant.owners()) - {""})


def test_it_waits_for_a_database_that_is_away(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    urls = [f"sqlite:///{folder}/{name}.db" for name in ("telemetry", "inbox")]
    aside = Plant(f"sqlite:///{tmp_path}/t.db", f"sqlite:///{tmp_path}/i.db", migrated=True)
    shift = Shift(aside)
    try:
        process = shift.start(url=urls[0], inbox_url=urls[1])
        time.sleep(1.0)
        assert process.poll() is None
        folder.mkdir()
        later = Plant(*urls, migrated=True)
        send_some(later, 0, 7)
        until(lambda: is_projected(later))
        later.close()
    finally:
        shift.end()
        aside.close()


@pytest.mark.postgres
def test_messages_of_parts_that_are_declared_no_more_are_projected(postgres_url: str) -> None:
    plant = Plant(postgres_url, postgres_url, migrated=True)
    shift = Shift(plant)
    try:
        send_some(plant, 0, 14)
        shift.start(parts=1)
        until(lambda: is_projected(plant))
        assert_each_once(plant, 14)
    finally:
        shift.end()
        plant.close()


def test_messages_of_a_broken_connector_wait() -> None:
    formats = Formats({"vendor": ConfigError("connector.unknown", connector="vendor", hint="")})
    formats["iot.readings"] = plain
    assert formats["iot.readings"] is plain
    with pytest.raises(ConfigError):
        formats["vendor.binary"]
    with pytest.raises(KeyError):
        formats["nobody.knows"]
