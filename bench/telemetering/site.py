"""The hub that `bench telemetry` measures: its deployment, its processes, what is in its stores."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from bench.telemetering.bodies import EPOCH_MS, RUN_MS, device
from hub.engine.deployment import create_deployment, open_deployment
from hub.sdk.telemetry import Sender
from hub.store.database import Store
from hub.store.tables.telemetry import chunk, telemetry_part
from hub.store.telemetry.credentials import add_token
from hub.store.telemetry.database import open_telemetry, open_telemetry_inbox
from hub.store.telemetry.positions import part_name, positions

ROOT = Path(__file__).resolve().parent.parent.parent

_URL = re.compile(r"http://127\.0\.0\.1:\d+")
_START_SECONDS = 40
_STALLED_SECONDS = 60.0


class Broken(Exception):
    """Something could not be measured, or is not as it must be; the text says what."""


class Site:
    """A deployment with `machines` machines that may send."""

    def __init__(self, folder: Path, store_url: str, machines: int) -> None:
        self.folder = folder
        self.mqtt_port = _free_port()
        create_deployment(folder)
        settings = f'[store]\nurl = "{store_url}"\n[mqtt]\nport = {self.mqtt_port}\n'
        (folder / "hub.toml").write_text(settings, encoding="utf-8")
        deployment = open_deployment(folder)
        self.readings: Store = open_telemetry(deployment.telemetry_url)
        self.inbox: Store = open_telemetry_inbox(deployment.telemetry_inbox_url)
        with self.readings.transaction() as connection:
            for number in range(machines):
                name = device(number)
                add_token(connection, name, Sender("iot", name), 0)

    def close(self) -> None:
        self.readings.close()
        self.inbox.close()

    @contextmanager
    def serving(self) -> Iterator[Served]:
        """`hub serve` with its projector."""
        command = [sys.executable, "-m", "hub.cli", "--dir", str(self.folder), "serve", "--port"]
        log = self.folder / "serve.log"
        with log.open("w+", encoding="utf-8") as said:
            process = subprocess.Popen(
                [*command, "0"], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
            try:
                yield Served(
                    process.pid, _address(process, log), f"mqtt://127.0.0.1:{self.mqtt_port}"
                )
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)

    # --- looking ------------------------------------------------------------------------------

    def waiting(self) -> int:
        """Messages that the projector has not got to."""
        with self.readings.reading() as connection:
            reached = positions(connection)
        with self.inbox.reading() as connection:
            parts = connection.execute(sa.select(telemetry_part)).all()
        return sum(last - reached.get(part_name(part), 0) for part, last in parts)

    def wait_projected(self) -> float:
        """Seconds until nothing waits any more. Raises Broken when nothing moves for a minute."""
        began = moved = time.perf_counter()
        before = self.waiting()
        while before:
            time.sleep(0.05)
            left = self.waiting()
            if left != before:
                moved = time.perf_counter()
            if time.perf_counter() - moved > _STALLED_SECONDS:
                raise Broken(f"the projector stands still with {left} messages before it")
            before = left
        return time.perf_counter() - began

    def count(self, run: int) -> int:
        """Readings stored of one measurement."""
        begin = EPOCH_MS + run * RUN_MS
        hours = (chunk.c.start >= begin - 3_600_000, chunk.c.start < begin + RUN_MS - 3_600_000)
        total = sa.select(sa.func.coalesce(sa.func.sum(chunk.c.count), 0)).where(*hours)
        with self.readings.reading() as connection:
            return int(connection.execute(total).scalar_one())

    def bytes_stored(self) -> int:
        """What the readings' tables take on disk, everything included."""
        if self.readings.embedded:
            with self.readings.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            return Path(str(self.readings.engine.url.database)).stat().st_size
        sizes = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE c.relkind = 'r'"
        with self.readings.reading() as connection:
            found = connection.exec_driver_sql(sizes + " AND c.relname LIKE 'hub_chunk%%'")
            return int(found.scalar_one())


@dataclass(frozen=True, slots=True)
class Served:
    """A running hub: the process's id and its addresses."""

    pid: int
    http: str
    mqtt: str

    def memory_mb(self) -> dict[str, float]:
        """Resident memory of the server and of its children, in MB (10⁶ bytes)."""
        found = {"serve": _resident(self.pid)}
        for number, child in enumerate(_children(self.pid)):
            found[f"child {number}"] = _resident(child)
        return found


def _resident(pid: int) -> float:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return float("nan")
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, task.read_text(encoding="ascii").split())
    return sorted(found)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        if found := _URL.search(log.read_text(encoding="utf-8")):
            return found[0]
        time.sleep(0.02)
    raise Broken(f"the hub did not start: {log.read_text(encoding='utf-8')[-1000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
