"""`hub serve` with its projector, in a process group of its own, that can be killed and started."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from hub.engine.deployment import Deployment, create_deployment, open_deployment
from hub.sdk.telemetry import Sender
from hub.store.database import Store
from hub.store.telemetry.credentials import add_token
from hub.store.telemetry.database import open_telemetry, open_telemetry_inbox
from tests.connectors.iot.brokers import free_port

ROOT = Path(__file__).resolve().parents[3]
_START_SECONDS = 40.0
_STOP_SECONDS = 30.0


class KillableHub:
    """A deployment in `folder`; `http_port` and `mqtt_port` stay the same at every start.

    `store_url` "" is SQLite in the folder, `more` are further lines of hub.toml, `module` is what
    runs.
    """

    def __init__(
        self,
        folder: Path,
        store_url: str = "",
        *,
        more: Sequence[str] = (),
        module: str = "hub.cli",
    ) -> None:
        self.folder = folder
        self.http_port, self.mqtt_port = free_port(), free_port()
        self._module = module
        self._sessions: list[str] = []
        self.log = folder / "serve.log"
        create_deployment(folder)
        url = store_url or "sqlite:///hub.db"
        settings = [f'[store]\nurl = "{url}"', f"[mqtt]\nport = {self.mqtt_port}", *more]
        (folder / "hub.toml").write_text("\n".join(settings) + "\n", encoding="utf-8")
        lines = {"source": "iot", "line_protocol": {"measurement": "plant"}}
        self._write("mappings/telemetry/iot.yaml", lines)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def deployment(self) -> Deployment:
        return open_deployment(self.folder)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def connect_broker(self, url: str) -> None:
        """Declare a broker: plain topics `tb/{device}/telemetry`, and Sparkplug."""
        connections = {"site": {"connector": "iot", "config": {"url": url}}}
        self._write("connections.yaml", connections)
        topics = [{"filter": "tb/{device}/telemetry", "format": "thingsboard"}]
        broker = {"connection": "site", "client_id": "hub-plant"}
        self._write("mappings/telemetry/plant.yaml", _source("plant", {**broker, "topics": topics}))
        broker = {"connection": "site", "client_id": "hub-edge"}
        sparkplug = {"commands": True, "reorder": "1s"}
        self._write(
            "mappings/telemetry/edge.yaml", _source("edge", {**broker, "sparkplug": sparkplug})
        )
        self._sessions = ["hub-plant-0", "hub-edge-sparkplug"]

    def _write(self, name: str, content: object) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content), encoding="utf-8")

    def admit(self, *names: str, gateway: bool = False) -> None:
        """Let a device or gateway send; its token is its name."""
        with self.readings() as store, store.transaction() as connection:
            for name in names:
                add_token(connection, name, Sender("iot", name, gateway=gateway), 0)

    @contextlib.contextmanager
    def readings(self) -> Iterator[Store]:
        """The store of readings; the hub may run meanwhile."""
        with contextlib.closing(open_telemetry(self.deployment.telemetry_url)) as store:
            yield store

    @contextlib.contextmanager
    def inbox(self) -> Iterator[Store]:
        """The store of raw messages."""
        with contextlib.closing(open_telemetry_inbox(self.deployment.telemetry_inbox_url)) as store:
            yield store

    # --- living and dying ---------------------------------------------------------------------

    def start(self) -> None:
        """Until it answers, and a broker would keep what it misses."""
        command = [sys.executable, "-m", self._module, "--dir", str(self.folder)]
        command += ["serve"] if self._module == "hub.cli" else []
        with self.log.open("a", encoding="utf-8") as said:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.http_port)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        until = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert time.monotonic() < until, self.last_words()
            assert self._process.poll() is None, self.last_words()
            time.sleep(0.02)
        while any(f"as {one}: connected" not in self._said() for one in self._sessions):
            assert time.monotonic() < until, self.last_words()
            time.sleep(0.02)

    def _answers(self) -> bool:
        link = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=5)
        try:
            link.request("GET", "/ping")
            return link.getresponse().status == 204
        except OSError:
            return False
        finally:
            link.close()

    def kill(self) -> None:
        """SIGKILL for the server and its projector at once."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> int:
        """SIGTERM for the server; its exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(_STOP_SECONDS)
        self._process = None
        return code

    def close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def projector(self) -> int | None:
        """The process id of the projector that runs now."""
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            for child in task.read_text(encoding="ascii").split():
                if b"hub.telemetry" in _command(int(child)):
                    return int(child)
        return None

    def resident_mb(self) -> float:
        """Resident memory of the server, in MB."""
        pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def last_words(self) -> str:
        return self._said()[-4000:]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _source(name: str, broker: dict[str, object]) -> dict[str, object]:
    return {"source": name, "broker": broker}
