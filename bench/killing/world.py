"""Everything one campaign needs: the outside, the store, the hub, the writers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.killing.cluster import Cluster, free_port
from bench.killing.deployment import Target, make_deployment
from bench.killing.fleet import Fleet
from bench.killing.journal import Journal
from bench.killing.writers import Post, Probe
from demo.world import ROOT, Fake

SQLITE, POSTGRES = "sqlite", "postgres"
STORES = (SQLITE, POSTGRES)
WORKERS = 3
"""Processes that run jobs on PostgreSQL, the server among them."""


class Failed(Exception):
    """The campaign itself could not go on; the text says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much happens while the faults come."""

    events: float = 24.0
    edits: float = 5.0
    customers: int = 450
    materials: int = 120
    seed: int = 1


@dataclass(slots=True)
class World:
    """What a campaign works with."""

    store: str
    journal: Path
    u8: Fake
    crm: Fake
    fleet: Fleet
    cluster: Cluster | None
    writers: subprocess.Popen[str]
    secret: str

    def probe(self, key: str) -> Probe:
        """One more sender, for one thread, with a key of its own."""
        return Probe(Journal(self.journal), Post(self.fleet.port, self.secret), key)

    def end_writers(self) -> None:
        """Let the senders finish what they have begun. Raises Failed when one gave up."""
        self.writers.communicate(timeout=120)
        if self.writers.returncode:
            raise Failed("a sender gave up; see the line above")


@contextmanager
def world(store: str, load: Load, folder: Path) -> Iterator[World]:
    """The whole world in an empty folder, running; no process of it is left behind."""
    folder.chmod(0o711)  # the database server may be another user
    with ExitStack() as stack:
        cluster = _cluster(stack, folder) if store == POSTGRES else None
        journal = folder / "journal.jsonl"
        outside = _started(
            stack,
            "outside",
            "--journal",
            str(journal),
            *("--customers", str(load.customers), "--materials", str(load.materials)),
            *("--edits", str(load.edits), "--seed", str(load.seed)),
        )
        crm, u8 = (_fake(stack, outside) for _ in range(2))
        port = free_port()
        url = None if cluster is None else cluster.url
        secret = make_deployment(folder / "hub", Target(u8.url, crm.url, url, port))
        fleet = Fleet(folder / "hub", port, 1 if cluster is None else WORKERS)
        stack.enter_context(fleet.running())
        writers = _started(
            stack,
            "writers",
            *("--journal", str(journal), "--port", str(port)),
            *("--secret-file", str(folder / "hub" / "hook.secret")),
            *("--rate", str(load.events), "--seed", str(load.seed)),
        )
        _first_line(writers)
        yield World(store, journal, u8, crm, fleet, cluster, writers, secret)


def _cluster(stack: ExitStack, folder: Path) -> Cluster:
    cluster = Cluster(folder / "cluster")
    stack.callback(cluster.end)
    cluster.create()
    return cluster


def _started(stack: ExitStack, module: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of our own that ends with its stdin."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"bench.killing.{module}", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(_ended, process)
    return process


def _ended(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate()


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None  # noqa: S101 (asked for above)
    line = process.stdout.readline().strip()
    if not line:
        raise Failed("a helper did not start; see the lines above")
    return line


def _fake(stack: ExitStack, process: subprocess.Popen[str]) -> Fake:
    fake = Fake(_first_line(process))
    stack.callback(fake.close)
    return fake
