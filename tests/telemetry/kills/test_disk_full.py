"""A disk that is really full, under every protocol, and what happens when there is room again."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.telemetry.kills.journal import waiting
from tests.telemetry.kills.mqtt_senders import MqttSender
from tests.telemetry.kills.plant import Plant, plant
from tests.telemetry.kills.senders import HttpSender

_BUSY = 0x89
_FULL = {"thingsboard": "507", "readings": "507", "events": "507", "influx1": "503"}
_FULL["influx2"] = "503"
_PATIENCE = 30.0


class SmallDisk:
    """A file system of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Until not a byte more fits."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while file.write(b"\0" * size):
                        pass
                except OSError:
                    continue

    def make_room(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=24m", "none", str(folder)]
    done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_an_inbox_without_room_acknowledges_nothing(tmp_path: Path, small_disk: SmallDisk) -> None:
    more = [f'[telemetry]\ninbox_url = "sqlite:///{small_disk.folder}/inbox.db"']
    with plant(tmp_path, more=more) as made:
        made.begin()
        made.progress()
        small_disk.fill()
        _until_told(made)
        before = _kept(made)
        time.sleep(1.0)
        assert _kept(made) - before < 2000, "a full disk keeps what fits into freed pages only"
        pid = made.hub.pid
        small_disk.make_room()
        found = made.finish()
        assert {name: one for name, one in found.items() if not one.is_right} == {}
        assert made.hub.pid == pid
        assert [one.name for one in _over_http(made) if one.impatient] == []
        assert made.hub.stop() == 0


def test_a_projector_without_room_lets_messages_wait(tmp_path: Path, small_disk: SmallDisk) -> None:
    file = f"sqlite:///{small_disk.folder}/readings.db"
    more = [f'[telemetry]\nurl = "{file}"\ninbox_url = "sqlite:///{tmp_path}/inbox.db"']
    with plant(tmp_path, more=more) as made:
        made.begin()
        made.progress()
        small_disk.fill()
        with made.hub.readings() as readings, made.hub.inbox() as inbox:
            until = time.monotonic() + _PATIENCE
            while waiting(readings, inbox) < 100:
                assert time.monotonic() < until, "the projector goes on without room"
                time.sleep(0.1)
        made.progress()
        small_disk.make_room()
        found = made.finish()
        assert {name: one for name, one in found.items() if not one.is_right} == {}
        for one in _over_http(made):
            assert set(one.answers) <= {"200", "204"}, (one.name, one.answers)
        assert made.hub.stop() == 0


def _until_told(made: Plant) -> None:
    """Every face has said that there is no room, in its words."""
    until = time.monotonic() + _PATIENCE
    while not _all_told(made):
        said = {one.name: dict(one.answers) for one in made.senders}
        reasons = {one.name: one.reasons for one in made.senders if isinstance(one, MqttSender)}
        assert time.monotonic() < until, (said, reasons, made.hub.last_words())
        time.sleep(0.1)


def _all_told(made: Plant) -> bool:
    told = [one.answers[_FULL[one.name]] for one in _over_http(made)]
    for one in made.senders:
        if isinstance(one, MqttSender):
            told.append(_BUSY in one.reasons if one.version == 5 else _was_closed(one.answers))
    return all(told)


def _was_closed(answers: Counter[str]) -> bool:
    return any(name.endswith("Error") for name in answers)


def _over_http(made: Plant) -> list[HttpSender]:
    return [one for one in made.senders if isinstance(one, HttpSender)]


def _kept(made: Plant) -> int:
    """Acknowledged by the hub itself."""
    own = (HttpSender, MqttSender)
    return sum(one.kept for one in made.senders if isinstance(one, own))
