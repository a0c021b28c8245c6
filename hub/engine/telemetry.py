"""The projectors: processes of their own that this one starts, watches and starts again."""

from __future__ import annotations

import logging
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from hub.engine.changes import fingerprint
from hub.engine.deployment import Deployment
from hub.engine.telemetry_sources import telemetry_sources
from hub.sdk.errors import HubError
from hub.sdk.registry import discover
from hub.sdk.telemetry_source import as_settings
from hub.store.telemetry.peek import has_messages

WATCH_SECONDS = 0.1
_FIRST_SECONDS = 0.5
_FILES_SECONDS = 2.0
_RESTART_SECONDS = (0.1, 30.0)
_STEADY_SECONDS = 60.0
_END_SECONDS = 15.0

log = logging.getLogger("hub.engine.telemetry")


class Projectors:
    """Keeps `number` projectors running until stopped (default: as many as hub.toml says).

    On SQLite there is never more than one. They begin with the first message: a hub without
    telemetry does not pay for them. When a source or connector is edited they start anew; while a
    file is broken the old ones go on.
    """

    def __init__(self, deployment: Deployment, number: int | None = None) -> None:
        wanted = deployment.settings.telemetry.projectors if number is None else number
        if deployment.telemetry_url.startswith("sqlite:"):
            wanted = min(wanted, 1)
        self._deployment = deployment
        self._files = fingerprint(deployment)
        self._children = [_Child() for _ in range(wanted)]
        self._told: dict[str, object] | None = None
        self._trouble = ""
        self._looked = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hub-projectors", daemon=True)

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [child.process.pid for child in self._children if child.runs and child.process]

    def start(self) -> None:
        """Start them; one that cannot work says why in the log and is tried again."""
        if self._children:
            self._thread.start()

    def stop(self) -> None:
        """Let each end its transaction, and wait for that."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_END_SECONDS)
        self._end_all()

    def _watch(self) -> None:
        # A bus is there for fleets: nobody has to look whether messages come.
        bus = self._deployment.telemetry_bus is not None
        while not bus and not has_messages(self._deployment.telemetry_inbox_url):
            if self._stop.wait(_FIRST_SECONDS):
                return
        while not self._stop.is_set():
            try:
                self._look_after()
            except Exception as error:  # no process more can be had, …: the next round tries again
                log.exception("projectors cannot be looked after: %s", type(error).__name__)
            self._stop.wait(WATCH_SECONDS if self._told else _FILES_SECONDS)

    def _look_after(self) -> None:
        if self._told is None:
            self._told = self._settings()
        for child in self._children:
            if self._told is not None:
                child.look_after(self._told)
        if time.monotonic() - self._looked >= _FILES_SECONDS:
            self._looked = time.monotonic()
            self._look_at_files()

    def _look_at_files(self) -> None:
        found = fingerprint(self._deployment)
        if found == self._files:
            return
        self._files = found
        told = self._settings()
        if told is None or told == self._told:
            return
        self._told = told
        log.info("the sources of telemetry were edited; projectors start anew")
        self._end_all()

    def _settings(self) -> dict[str, object] | None:
        """What every projector is told; None while a file is broken."""
        folder = self._deployment.folder / "connectors"
        try:
            sources = telemetry_sources(self._deployment)
            connectors = discover(folder).connectors.values()
        except HubError as error:
            if str(error) != self._trouble:
                log.error("telemetry: %s", error)
            self._trouble = str(error)
            return None
        self._trouble = ""
        chosen = self._deployment.settings.telemetry
        return {
            "url": self._deployment.telemetry_url,
            "inbox_url": self._deployment.telemetry_inbox_url,
            "sources": {name: as_settings(one) for name, one in sources.items()},
            "decoders": [
                (one.name, one.manifest.telemetry.decoders)
                for one in connectors
                if one.manifest.telemetry is not None
            ],
            "connectors": str(folder.resolve()),
            "parts": chosen.parts,
            "zone": self._deployment.settings.zone,
            "keep_days": chosen.keep_days,
            "quarantine_days": chosen.quarantine_days,
            "archive": chosen.archive,
            "archive_endpoint": chosen.archive_endpoint,
            "folder": str(self._deployment.folder.resolve()),
            "bus": self._deployment.telemetry_bus,
            "inbox_hours": chosen.inbox_hours,
        }

    def _end_all(self) -> None:
        for child in self._children:
            child.ask_to_end()
        for child in self._children:
            child.wait()


@contextmanager
def projecting(deployment: Deployment, number: int | None = None) -> Iterator[Projectors]:
    """Projectors (see there) for as long as this lasts."""
    projectors = Projectors(deployment, number)
    projectors.start()
    try:
        yield projectors
    finally:
        projectors.stop()


class _Child:
    """One projector after another, each with a name of its own."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._owner = ""
        self._careful = False
        self._born = 0.0
        self._due = 0.0
        self._pause = _RESTART_SECONDS[0]

    @property
    def runs(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def look_after(self, told: dict[str, object]) -> None:
        """Start it, or another one when it has died."""
        if self.runs:
            return
        if self.process is not None:
            self._bury(self.process)
        if time.monotonic() >= self._due:
            self._start(told)

    def _start(self, told: dict[str, object]) -> None:
        after, self._owner = self._owner, secrets.token_hex(16)
        own = {"owner": self._owner, "after": after, "careful": self._careful}
        command = [sys.executable, "-m", "hub.telemetry"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 (our own program)
        self._born = time.monotonic()
        # It reads on to the end of the pipe: when this process dies, so does that one.
        with suppress(OSError):
            assert self.process.stdin is not None  # noqa: S101 (for mypy: it was asked for)
            self.process.stdin.write(msgspec.json.encode({**told, **own}) + b"\n")
            self.process.stdin.flush()

    def _bury(self, process: subprocess.Popen[bytes]) -> None:
        age = time.monotonic() - self._born
        self._pause = _RESTART_SECONDS[0] if age > _STEADY_SECONDS else self._pause
        self._due = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _RESTART_SECONDS[1])
        self._careful = True
        log.warning("projector %d ended with code %d; another one", process.pid, process.returncode)
        self._let_go(process)
        self.process = None

    def ask_to_end(self) -> None:
        """It ends after its transaction."""
        if self.process is not None and self.runs:
            self.process.terminate()

    def wait(self) -> None:
        """Until it has ended; one that hangs is ended by force."""
        if self.process is None:
            return
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._let_go(self.process)
        self.process = None
        self._careful = False
        self._due = 0.0

    @staticmethod
    def _let_go(process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
