"""The hub's processes as a service manager keeps them: started, killed, frozen, started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.killing.processes import wait_frozen

HUB = Path(sys.executable).with_name("hub")
PATIENCE = 60.0
"""Seconds after which a process that is not back counts as gone for good."""

_POLL = 0.02
_RESTART_PAUSE = 0.1  # the default of systemd's RestartSec
_EXECUTOR = re.compile(r"\b([0-9a-f]{32})\b")


class GoneForGood(Exception):
    """A process of the hub does not come back; the text says what it said last."""


@dataclass(slots=True)
class Program:
    """One process of the hub in a session of its own, restarted as soon as it ends by itself."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    down_since: float = 0.0
    starts: int = 0
    ended_by_itself: int = 0
    frozen: bool = False
    _said_before: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def start(self) -> None:
        with self._lock, self.log.open("ab") as log:
            self._said_before = log.tell()
            self.starts += 1
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_environment(),
            )

    def kill(self) -> None:
        """SIGKILL to the process and all it started; nothing of it is left when this returns."""
        with self._lock:
            self.down_since = time.monotonic()
            self._signal(signal.SIGKILL)
            if self.process is not None:
                self.process.wait()
            self.process, self.frozen = None, False

    def freeze(self) -> None:
        """SIGSTOP; nothing of it moves any more when this returns."""
        with self._lock:
            self._signal(signal.SIGSTOP)
            self.frozen = True
            if self.process is not None:
                wait_frozen(self.process.pid)

    def thaw(self) -> None:
        with self._lock:
            self._signal(signal.SIGCONT)
            self.frozen = False

    def end(self) -> int:
        """SIGTERM, as an operator stops it; the exit code."""
        with self._lock:
            if self.process is None:
                return 0
            self.process.terminate()
            try:
                code = self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
                return -signal.SIGKILL
            self.process = None
            return code

    def keep(self) -> None:
        """Start it again when it has ended by itself."""
        with self._lock:
            if self.process is not None and self.process.poll() is not None:
                self.down_since = time.monotonic()
                self.ended_by_itself += 1
                self.process = None
                time.sleep(_RESTART_PAUSE)
                self.start()

    def said(self) -> str:
        """What it has said since it was last started."""
        with self.log.open("rb") as log:
            log.seek(self._said_before)
            return log.read().decode(errors="replace")

    @property
    def executor(self) -> str | None:
        """The name under which it runs jobs, once it has said it."""
        found = _EXECUTOR.search(self.said())
        return found[1] if found else None

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


def _environment() -> dict[str, str]:
    """Ours, but a program that was installed has its bytecode."""
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    # A slow machine shows where it was when a test gives up on it.
    return {**inherited, "PYTHONFAULTHANDLER": "1"}


class Fleet:
    """`hub serve` and, on PostgreSQL, further `hub worker`s of one deployment."""

    def __init__(self, deployment: Path, port: int, workers: int) -> None:
        self.deployment = deployment
        self.port = port
        logs = deployment / "logs"
        logs.mkdir()
        base = [str(HUB), "--dir", str(deployment)]
        self.server = Program("serve", [*base, "serve"], logs / "serve.log")
        self.workers = [
            Program(f"worker-{number}", [*base, "worker"], logs / f"worker-{number}.log")
            for number in range(1, workers)
        ]
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5, trust_env=False)
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    @property
    def programs(self) -> list[Program]:
        return [self.server, *self.workers]

    @contextmanager
    def running(self) -> Iterator[None]:
        """All programs run, whatever they do, until the end of the block."""
        for program in self.programs:
            program.start()
        self._keeper.start()
        try:
            yield
        finally:
            self._stop.set()
            self._keeper.join()
            for program in self.programs:
                program.kill()
            self._http.close()

    def end(self) -> list[int]:
        """Stop everything as an operator does; the exit codes."""
        self._stop.set()
        self._keeper.join()
        return [program.end() for program in self.programs]

    def is_ready(self) -> bool:
        """Whether `/readyz` says so."""
        with suppress(httpx.HTTPError):
            return self._http.get("/readyz").status_code == 200
        return False

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Return when the condition holds. Raises GoneForGood when it does not in time."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                last = "\n".join(program.said()[-1500:] for program in self.programs)
                raise GoneForGood(f"{what}: not within {seconds:g} s; the log ends with\n{last}")
            time.sleep(_POLL)

    def _keep(self) -> None:
        while not self._stop.wait(0.05):
            for program in self.programs:
                program.keep()
