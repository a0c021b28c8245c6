"""A temporary deployment with short waits, and a hub that runs its flows to their end."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import make_url

from hub.engine import settlement
from hub.engine.deployment import create_deployment
from hub.engine.hub import Hub, open_hub
from hub.engine.planning import start_run
from hub.store.dead_letters import LetterState
from hub.store.letter_queries import LetterFilter, list_letters
from hub.store.runs import Run, load_run, watermark
from hub.store.tables import link

LIMITS = {"rate": "10000/s", "concurrent": 4, "tries": 3, "deadline": "0.6s", "connect": "0.6s"}
PATIENCE = 40.0
"""Seconds a run may take; the slowest one waits for three silent calls and their pauses."""

_FIRST_WAIT = 0.2
_SERVERS = (
    "postgresql+psycopg://root@127.0.0.1:5432/test",
    "postgresql+psycopg://postgres@127.0.0.1:5432/postgres",
)


class Stage:
    """A deployment in a folder of its own."""

    def __init__(self, folder: Path, store_url: str | None = None) -> None:
        self.folder = folder / "hub"
        create_deployment(self.folder)
        if store_url is not None:
            settings = f'[store]\nurl = "{store_url}"\n'
            (self.folder / "hub.toml").write_text(settings, encoding="utf-8")
        self._connections: dict[str, Any] = {}

    def connect(self, name: str, connector: str, config: Mapping[str, Any], **parts: Any) -> None:
        """Add or replace a connection; settings named in `secrets` are kept in files."""
        settings = dict(config)
        for secret in parts.pop("secrets", ()):
            path = self.folder / f"{name}.{secret}"
            path.write_text(str(settings[secret]), encoding="utf-8")
            settings[secret] = f"file:{path}"
        limits = {**LIMITS, **parts.pop("limits", {})}
        entry = {"connector": connector, "config": settings, "limits": limits, **parts}
        self._connections[name] = entry
        self._write_connections()

    def limit(self, **limits: Any) -> None:
        """Change limits of every connection."""
        for entry in self._connections.values():
            entry["limits"] |= limits
        self._write_connections()

    def _write_connections(self) -> None:
        text = json.dumps(self._connections, ensure_ascii=False)  # YAML, too
        (self.folder / "connections.yaml").write_text(text, encoding="utf-8")

    def flow(self, name: str, source: str, target: str, **mapping: Any) -> None:
        """Add a flow from `connection.stream` to `connection.sink`."""
        connection, stream = source.split(".")
        to, sink = target.split(".")
        text = {
            "flow": name,
            "from": {"connection": connection, "stream": stream},
            "mapping": mapping,
            "to": {"connection": to, "sink": sink},
        }
        path = self.folder / "mappings" / "flows" / f"{name}.yaml"
        path.write_text(json.dumps(text, ensure_ascii=False), encoding="utf-8")

    @contextmanager
    def hub(self) -> Iterator[Hub]:
        """A hub that works, with pauses short enough for a measurement."""
        before, settlement.FIRST_WAIT = settlement.FIRST_WAIT, _FIRST_WAIT
        try:
            with open_hub(self.folder, jobs=True) as hub:
                yield hub
        finally:
            settlement.FIRST_WAIT = before


@contextmanager
def stage(store: str) -> Iterator[Stage]:
    """A fresh deployment on `sqlite` or `postgres`, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        if store == "sqlite":
            yield Stage(Path(folder))
        else:
            with _database() as url:
                yield Stage(Path(folder), url)


@contextmanager
def _database() -> Iterator[str]:
    """The URL of a new, empty PostgreSQL database."""
    server = make_url(_server())
    name = f"hub_bench_{os.getpid()}_{secrets.token_hex(4)}"
    plain = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def _server() -> str:
    """The server that HUB_TEST_POSTGRES names, else one on this machine. Raises psycopg.Error."""
    given = os.environ.get("HUB_TEST_POSTGRES")
    *others, last = [given] if given else _SERVERS
    for text in others:
        plain = make_url(text).set(drivername="postgresql").render_as_string(hide_password=False)
        try:
            psycopg.connect(plain, connect_timeout=3).close()
        except psycopg.Error:
            continue
        return text
    return last


def run_all(hub: Hub, *flows: str, full: bool = False) -> list[Run]:
    """Start the flows and wait until all have ended, or for `PATIENCE` seconds."""
    runs = [start_run(hub, flow, full=full) for flow in flows]
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and not all(run.finished for run in runs):
        time.sleep(0.05)
        with hub.store.reading() as connection:
            runs = [load_run(connection, run.id) or run for run in runs]
    return runs


def open_letters(hub: Hub, flow: str) -> list[dict[str, Any]]:
    """The open dead letters of a flow."""
    with hub.store.reading() as connection:
        wanted = LetterFilter(flow=flow, state=LetterState.OPEN)
        return list_letters(connection, wanted, 10_000).letters


def is_marked_read(hub: Hub, flow: str) -> bool:
    """Whether the flow counts as read to the end at some time."""
    with hub.store.reading() as connection:
        return watermark(connection, flow, hub.catalogue.flow(flow).version) is not None


def target_ids(hub: Hub, flow: str) -> dict[str, str]:
    """Which object of the target the hub takes each source key for."""
    chosen = sa.select(link.c.source_key, link.c.target_id).where(
        link.c.flow_id == flow, link.c.target_id.is_not(None)
    )
    with hub.store.reading() as connection:
        return {row.source_key: row.target_id for row in connection.execute(chosen)}
