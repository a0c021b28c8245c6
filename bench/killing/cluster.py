"""A PostgreSQL of our own on loopback that may be stopped, frozen and copied at any moment."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from bench.killing.processes import wait_frozen

_USER = "postgres"
_NEEDED = ("initdb", "pg_ctl", "postgres")
_SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
fsync = on
synchronous_commit = on
full_page_writes = on
max_connections = 200
checkpoint_timeout = 30s
"""


class NoServer(Exception):
    """There is no PostgreSQL server to run here; the text says what is missing."""


def server_binaries() -> Path:
    """The folder with the server's programs. Raises NoServer where none are installed."""
    folders = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version)
    for folder in [*folders, *reversed(versions)]:
        if all((folder / name).exists() for name in _NEEDED):
            return folder
    raise NoServer(f"no PostgreSQL server is installed ({', '.join(_NEEDED)})")


def _version(folder: Path) -> int:
    name = folder.parent.name
    return int(name) if name.isdecimal() else 0


def _owner() -> str | None:
    """Whom the server runs as: it refuses root. None: as whoever we are."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_USER).pw_name
    except KeyError:
        raise NoServer(f"root cannot run PostgreSQL and there is no user {_USER}") from None


class Cluster:
    """One data folder and its server. `fsync` is on: what it says is committed is on the disk."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = port or free_port()
        self._binaries = server_binaries()
        self._owner = _owner()

    @property
    def url(self) -> str:
        """Where the hub finds its database."""
        return f"postgresql+psycopg://hub@127.0.0.1:{self.port}/hub"

    def create(self) -> None:
        """Make the data folder, checksums on, and start the server with an empty database."""
        self._own(self.folder)
        options = ["--auth=trust", "--username=hub", "--data-checksums", "--encoding=UTF8"]
        self._run("initdb", "--pgdata", str(self.data), "--locale=C", *options)
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(_SETTINGS.format(port=self.port, folder=self.folder))
        self.start()
        with self.connect("postgres") as connection:
            connection.execute("CREATE DATABASE hub")

    def start(self) -> None:
        """Start the server and wait until it has recovered."""
        log = str(self.folder / "server.log")
        self._run("pg_ctl", "start", "-D", str(self.data), "-w", "-t", "60", "-l", log)

    def stop(self, how: str = "immediate") -> None:
        """Stop the server; `immediate` is a crash: no checkpoint, no goodbye."""
        self._run("pg_ctl", "stop", "-D", str(self.data), "-w", "-t", "60", "-m", how)

    def connect(self, database: str = "hub") -> psycopg.Connection[Any]:
        """A connection that commits each statement."""
        url = f"postgresql://hub@127.0.0.1:{self.port}/{database}"
        return psycopg.connect(url, autocommit=True, connect_timeout=5)

    def copy(self, target: Path, pauses: Iterator[float]) -> Cluster:
        """A cluster on another port, made of the files as they are at one instant.

        The server's processes are frozen while its files are copied: what stands in the files then
        is what a machine finds that lost its power at that instant.
        """
        twin = Cluster(target)
        with self._frozen():
            shutil.copytree(self.data, twin.data, copy_function=_copier(pauses))
        (twin.data / "postmaster.pid").unlink(missing_ok=True)
        for name in ("postgresql.auto.conf", "postgresql.conf"):
            path = twin.data / name
            text = path.read_text(encoding="utf-8")
            text = text.replace(f"port = {self.port}", f"port = {twin.port}")
            path.write_text(text.replace(str(self.folder), str(target)), encoding="utf-8")
        self._own(target)
        return twin

    def check(self) -> list[str]:
        """What is damaged: every page, index and heap is read and compared."""
        found = []
        if not (self._binaries / "pg_amcheck").exists():
            raise NoServer("pg_amcheck is not installed")
        command = [str(self._binaries / "pg_amcheck"), "--install-missing", "--heapallindexed"]
        command += ["-h", "127.0.0.1", "-p", str(self.port), "-U", "hub", "hub"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            found.append((done.stdout + done.stderr).strip()[-500:] or "pg_amcheck failed")
        return found

    def end(self) -> None:
        """Stop the server if it runs; its files stay."""
        if (self.data / "postmaster.pid").exists():
            self.stop()

    # --- processes ----------------------------------------------------------------------------

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """No process of the server moves inside this block."""
        first = int((self.data / "postmaster.pid").read_text(encoding="ascii").split()[0])
        os.kill(first, signal.SIGSTOP)  # the first: it would start others
        wait_frozen(first)
        family = [first, *_children(first)]
        try:
            for process in family[1:]:
                os.kill(process, signal.SIGSTOP)
                wait_frozen(process)
            yield
        finally:
            for process in reversed(family):
                os.kill(process, signal.SIGCONT)

    def _run(self, program: str, *arguments: str) -> None:
        # Into a file: a server that inherits a pipe would keep it open.
        with (self.folder / f"{program}.log").open("w+", encoding="utf-8") as output:
            done = subprocess.run(
                [str(self._binaries / program), *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                start_new_session=True,  # Ctrl-C is for us
                **self._identity(),
            )
            if done.returncode:
                output.seek(0)
                said = output.read().strip()[-1000:]
                raise RuntimeError(f"{program} {arguments[0]} ended with {done.returncode}: {said}")

    def _identity(self) -> dict[str, Any]:
        if self._owner is None:
            return {}
        return {"user": self._owner, "group": self._owner, "extra_groups": []}

    def _own(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self._owner is None:
            return
        account = pwd.getpwnam(self._owner)
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, account.pw_uid, account.pw_gid)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _copier(pauses: Iterator[float]) -> Any:
    def copy(source: str, target: str) -> str:
        time.sleep(next(pauses))
        return str(shutil.copy2(source, target))

    return copy


def _children(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
    return [int(number) for number in found.split()]
