"""A hub as operators run it: `hub init`, `hub devices add`, `hub serve`, for real clients to use.

with served_hub(tmp_path) as hub:
    token = hub.add("plant", "--gateway")
    …a client sends to hub.url, or to hub.mqtt_port, with the token…
    assert hub.settled("P-7", "vib_rms", 10) == expected
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_HUB = [sys.executable, "-c", "from hub.cli.main import main; main()"]

Point = tuple[int, float | str]


class ServedHub:
    """A new deployment in `folder`; `files` are written into it (relative path → text)."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder = folder
        self.port, self.mqtt_port = free_port(), free_port()
        subprocess.run([*_HUB, "init", str(folder)], check=True, capture_output=True, cwd=ROOT)
        settings = folder / "hub.toml"
        plain = settings.read_text(encoding="utf-8")
        listening = plain.replace("[mqtt]\n", f"[mqtt]\nport = {self.mqtt_port}\n")
        settings.write_text(listening, encoding="utf-8")
        for name, text in files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        self._log = folder / "serve.log"
        self._process: subprocess.Popen[bytes] | None = None

    # --- running ----------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it said so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Serve, on the same ports each time."""
        with self._log.open("a", encoding="utf-8") as said:
            said.write("--- start\n")
            said.flush()
            command = [*_HUB, "--dir", str(self.folder), "serve", "--port", str(self.port)]
            self._process = subprocess.Popen(command, stderr=said, stdout=said, cwd=ROOT)
        process = self._process
        until = time.monotonic() + _START_SECONDS
        while self.url not in self.log.rpartition("--- start")[2]:
            alive = process.poll() is None and time.monotonic() < until
            assert alive, f"hub serve did not start:\n{self.log[-3000:]}"
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    # --- asking -----------------------------------------------------------------------------------

    def run(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        done = subprocess.run(
            [*_HUB, "--dir", str(self.folder), *arguments, "--json"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def add(self, name: str, *options: str) -> str:
        """The token of a new device or gateway."""
        return str(self.run("devices", "add", name, *options)["token"])

    def get(self, path: str, **query: Any) -> Any:
        """What `GET /v1/…` of the running hub answers."""
        token = (self.folder / ".hub" / "api.token").read_text(encoding="utf-8").strip()
        address = f"{self.url}/v1/{path}?{urlencode(query)}"
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    def points(self, device: str, metric: str) -> list[Point]:
        """Time (ms) and value of all readings of the last days, oldest first."""
        return self._series(device, metric, lambda one: zip(one["ts"], one["value"], strict=True))

    def texts(self, device: str, metric: str) -> list[Point]:
        """Time (ms) and text."""
        return self._series(device, metric, lambda one: map(tuple, one["texts"]))

    def _series(self, device: str, metric: str, pairs: Callable[[Any], Any]) -> list[Point]:
        wanted = {"device": device, "metric": metric, "from": "30d", "to": _soon()}
        try:
            found = self.get("telemetry/readings", **wanted, limit=10_000)["series"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return []  # the device is not known yet
        return [pair for one in found for pair in pairs(one)]

    def settled(self, device: str, metric: str, count: int, seconds: float = 30.0) -> list[Point]:
        """The readings, once there are `count` of them."""
        found: list[Point] = []

        def all_there() -> bool:
            found[:] = self.points(device, metric)
            return len(found) >= count

        self.wait(
            all_there, lambda: f"{len(found)} of {count} readings of {device} {metric}", seconds
        )
        return found

    def devices(self) -> dict[str, Any]:
        return {one["name"]: one for one in self.get("devices")["items"]}

    def wait(self, true: Callable[[], object], what: Callable[[], str], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < until, f"{what()}\n{self.log[-2000:]}"
            time.sleep(0.2)


@contextmanager
def served_hub(folder: Path, files: Mapping[str, str] | None = None) -> Iterator[ServedHub]:
    """A new deployment in `folder`, served until the end of the block."""
    hub = ServedHub(folder, files or {})
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def now_ms() -> int:
    return int(time.time() * 1000)


def _soon() -> str:
    return datetime.fromtimestamp(time.time() + 600, UTC).isoformat()
