"""A NATS server of one's own, deployments that use it, and devices that send to them."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from hub.engine.deployment import create_deployment
from hub.sdk.telemetry import Sender
from hub.store.database import Store
from hub.store.tables.telemetry import device, position, series
from hub.store.telemetry.chunks import read_points
from hub.store.telemetry.credentials import add_token
from hub.store.telemetry.database import open_telemetry
from hub.store.telemetry.positions import part_name
from hub.telemetry.bus import BUS_PART
from tests.telemetry.ingest.rig import ROOT, Served, _port
from tests.telemetry.projector.test_process import until

DEVICES = 12
START = int(time.time() * 1000) - 600_000


class Server:
    """A NATS server that can be killed and started again with what it has on disk."""

    def __init__(self, folder: Path) -> None:
        self._program = shutil.which("nats-server") or "/usr/sbin/nats-server"
        if not Path(self._program).exists():
            pytest.skip("nats-server is not installed")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [self._program, "-a", "127.0.0.1", "-p", str(self.port)]
        command += ["-js", "-sd", str(self._folder), "-l", str(self._folder / "log")]
        self._folder.mkdir(exist_ok=True)
        self._process = subprocess.Popen(command)
        until(self._greets)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)

    def _greets(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as link:
            return link.recv(5) == b"INFO "
        return False


class Site:
    """A deployment, with a bus or without, and `DEVICES` devices with a token each."""

    def __init__(
        self, folder: Path, bus: str | None, name: str, store_url: str | None = None
    ) -> None:
        self.folder = folder
        self.first_part = 0 if bus is None else BUS_PART
        create_deployment(folder)
        settings = 'language = "en"\n[telemetry]\nparts = 4\n'
        if bus is not None:
            settings += f'bus = "{bus}"\nbus_name = "{name}"\n'
        if store_url is not None:
            settings += f'[store]\nurl = "{store_url}"\n'
        (folder / "hub.toml").write_text(settings, encoding="utf-8")
        self.store: Store = open_telemetry(store_url or f"sqlite:///{folder}/telemetry.db")
        with self.store.transaction() as connection:
            for number in range(DEVICES):
                add_token(connection, f"token-{number}", Sender("iot", f"D{number}"), 1)

    @contextmanager
    def serving(self, *options: str) -> Iterator[Served]:
        """A `hub serve` process; killed at the end of the block, its projectors with it."""
        command = [sys.executable, "-m", "hub.cli", "--dir", str(self.folder)]
        command += ["serve", "--port", "0", *options]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stderr is not None
        reader: threading.Thread | None = None
        try:
            port = _port(process)
            reader = threading.Thread(target=process.stderr.read)
            reader.start()
            yield Served(process, port)
        finally:
            process.kill()
            process.wait(20)
            if reader is not None:
                reader.join(20)
            process.stderr.close()

    def points(self) -> dict[str, set[int]]:
        """The times of the readings of each device."""
        found: dict[str, set[int]] = {}
        with self.store.reading() as connection:
            columns = (device.c.name, series.c.series_id)
            joined = sa.select(*columns).join(series, series.c.device_id == device.c.device_id)
            for name, number in connection.execute(joined).all():
                ts, _ = read_points(connection, number, 0, 2 * START)
                found[name] = set(ts.tolist())
        return found

    def counted(self) -> tuple[int, int]:
        """Readings and restated readings, as they were counted."""
        sums = sa.select(sa.func.sum(device.c.readings), sa.func.sum(device.c.restated))
        with self.store.reading() as connection:
            row = connection.execute(sums).one()
        return int(row[0] or 0), int(row[1] or 0)

    def owners(self) -> dict[str, int]:
        """How many parts each living projector works on."""
        names = [part_name(self.first_part + part) for part in range(4)]
        with self.store.reading() as connection:
            mine = sa.select(position.c.owner).where(position.c.name.in_(names))
            owners = connection.execute(mine).scalars().all()
        return {owner: owners.count(owner) for owner in owners if owner}


@dataclass
class Fleet:
    """All devices, each sending one reading after the other; one not thanked for is sent again.

    `ports` may be changed at any time; device N sends to the one that its number chooses.
    """

    ports: list[int]
    thanked: dict[str, set[int]] = field(default_factory=dict)
    errors: list[int] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def sending(self) -> Iterator[Fleet]:
        threads = [threading.Thread(target=self._send, args=(at,)) for at in range(DEVICES)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._end.set()
            for thread in threads:
                thread.join(40)

    def number(self) -> int:
        return sum(len(found) for found in self.thanked.values())

    def more(self, number: int = 200) -> None:
        """Wait until so many further messages were thanked for."""
        before = self.number()
        until(lambda: self.number() >= before + number, 60)

    def _send(self, number: int) -> None:
        mine = self.thanked.setdefault(f"D{number}", set())
        numbers = itertools.count(START + number)
        while not self._end.is_set():
            link = http.client.HTTPConnection("127.0.0.1", self.ports[number % len(self.ports)])
            with suppress(OSError, http.client.HTTPException):
                self._run(link, number, mine, numbers)
            link.close()
            self._end.wait(0.1)

    def _run(
        self,
        link: http.client.HTTPConnection,
        number: int,
        mine: set[int],
        numbers: Iterator[int],
    ) -> None:
        link.timeout = 15
        while not self._end.is_set():
            ts = next(numbers)
            body = json.dumps({"ts": ts, "values": {"a": ts % 1000}}).encode()
            while not self._end.is_set():
                link.request("POST", f"/api/v1/token-{number}/telemetry", body)
                answer = link.getresponse()
                answer.read()
                if answer.status == 200:
                    mine.add(ts)
                    break
                self.errors.append(answer.status)
                self._end.wait(0.1)


def children(process: subprocess.Popen[str]) -> list[int]:
    """The projectors of a server."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = place.read_text().rpartition(")")[2].split()[1]
            command = (place.parent / "cmdline").read_bytes()
            if int(parent) == process.pid and b"hub.telemetry" in command:
                found.append(int(place.parent.name))
    return found


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, 9)


def assert_all_is_there_once(site: Site, fleet: Fleet) -> None:
    """Everything that was thanked for, and nothing counted twice."""

    def there() -> bool:
        points = site.points()
        return all(wanted <= points.get(name, set()) for name, wanted in fleet.thanked.items())

    until(there, 40)
    readings, restated = site.counted()
    assert restated == 0
    assert readings == sum(len(found) for found in site.points().values())
