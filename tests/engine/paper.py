"""A hub on paper: a real store and the real engine, its jobs called by hand, no sockets.

Sources and targets are scripted, the clock stands still, and a process "dies" at a crash point by
raising `Died`: what was committed stays, everything else is gone, as after kill -9.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa

from hub.engine import delivery, replay, sync
from hub.engine.delivery import drain_sink
from hub.engine.deployment import create_deployment, open_deployment
from hub.engine.durable import Durable
from hub.engine.hub import Hub
from hub.engine.planning import start_run
from hub.engine.sync import run_flow
from hub.engine.two_way import delivering
from hub.sdk.manifest import Sink
from hub.sdk.records import Op, Outcome, Page, Receipt, Row, Safety, Write
from hub.sdk.testing import FakeClock
from hub.store.database import open_store
from hub.store.deliveries import sinks_to_visit
from hub.store.migrate import migrate
from hub.store.runs import Run, load_run


class Died(BaseException):
    """The process is gone at this point."""


@dataclass
class ScriptedStream:
    """Gives the pages it was told to give; a cursor is the number of the next one."""

    pages: Sequence[Sequence[Row]] = ((),)
    total: int | None = None
    key: list[str] = field(default_factory=lambda: ["id"])
    pages_are_counted: bool = False
    incremental: object | None = None

    def read(
        self, cursor: Mapping[str, Any] | None, since: datetime | None = None
    ) -> Iterator[Page]:
        del since
        start = int(cursor["page"]) if cursor else 0
        for number in range(start, len(self.pages)):
            last = number == len(self.pages) - 1
            rows = [dict(row) for row in self.pages[number]]
            yield Page(rows, None if last else {"page": number + 1}, self.total)

    def is_deleted(self, row: Row) -> bool:
        return row.get("gone") is True


@dataclass
class ScriptedSink:
    """Keeps objects by key and counts what was done; `answers` says how the next writes end."""

    name: str = "thing"
    safety: Safety = Safety.UPSERT
    batch: int = 1
    visibility_lag: float = 0.0
    can_find: bool = True
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    active: dict[str, bool] = field(default_factory=dict)
    effects: Counter[str] = field(default_factory=Counter)
    ids: dict[str, str] = field(default_factory=dict)
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    answers: list[Outcome] = field(default_factory=list)

    @property
    def sink(self) -> Sink:
        request = {"post": "/things"}
        return Sink.model_validate(
            {
                "safety": self.safety.value,
                "key": "id",
                "request": request,
                "delete": request,
                "deactivate": request,
            }
        )

    def repeatable(self, op: str, target_id: str | None) -> bool:
        del target_id
        return self.safety is not Safety.LOOK_UP or op != Op.UPSERT

    def write(self, writes: Sequence[Write]) -> list[Receipt]:
        return [self._one(write) for write in writes]

    def checked(self, confirm: Callable[[], None]) -> ScriptedSink:
        confirm()
        return self

    def find(self, key: str) -> str | None:
        return self.ids.get(key) if key in self.objects else None

    def _one(self, write: Write) -> Receipt:
        outcome = self.answers.pop(0) if self.answers else Outcome.WRITTEN
        if outcome is Outcome.WRITTEN:
            self._do(write)
        return Receipt(write.key, outcome, self.ids.get(write.key), reason=outcome.value)

    def _do(self, write: Write) -> None:
        self.log.append((write.op.value, write.key, write.target_id))
        if write.op is Op.UPSERT:
            self.ids.setdefault(write.key, f"T{len(self.ids) + 1}")
            if self.objects.get(write.key) != write.data or not self.active.get(write.key):
                self.effects[write.key] += 1
            self.objects[write.key] = dict(write.data)
            self.active[write.key] = True
        elif write.op is Op.DEACTIVATE and write.key in self.objects:
            self.active[write.key] = False
        elif write.op is Op.DELETE:
            self.objects.pop(write.key, None)
            self.active.pop(write.key, None)
            self.ids.pop(write.key, None)


class _NoJobs(Durable):
    """Queues nothing: the test calls the jobs itself."""

    def enqueue(self, *_: Any, **__: Any) -> None:
        return

    def alive(self, prefix: str) -> bool:
        return bool(prefix)


class QuietHub(Hub):
    """A hub with real connections whose jobs are called by hand, while the clock stands still."""

    def __init__(
        self, folder: Path, url: str | None = None, clock: FakeClock | None = None
    ) -> None:
        store = open_store(url or f"sqlite:///{folder}/hub.db")
        if store.embedded:
            sa.event.listen(store.engine, "connect", _do_not_sync)
        self.time = clock or FakeClock()
        super().__init__(open_deployment(folder), store, self.time)
        self.durable = _NoJobs(store, {})

    def run(self, flow: str, *, deliver: bool = True, **options: Any) -> Run:
        """One run, by hand, to where it can come."""
        run = start_run(self, flow, **options)
        run_flow(self, run.id)
        if deliver:
            self.deliver(flow)
        return self.look(run.id)

    def deliver(self, flow: str, rounds: int = 30) -> None:
        """Drain the flow's sink, time passing between the rounds."""
        target = self.catalogue.flow(flow).target
        if target.sink is None:
            return
        for _ in range(rounds):
            drain_sink(self, target.ref)
            with self.store.reading() as connection:
                if target.ref not in sinks_to_visit(connection):
                    return
            self.time.advance(400)

    def look(self, run_id: int) -> Run:
        with self.store.reading() as connection:
            found = load_run(connection, run_id)
        assert found is not None
        return found

    def rows(self, statement: sa.Select[Any]) -> list[Any]:
        with self.store.reading() as connection:
            return list(connection.execute(statement))


class PaperHub(QuietHub):
    """A hub whose connections are scripts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.stream = ScriptedStream()
        self.sink = ScriptedSink()

    def session(self, name: str) -> Any:
        """The same script whatever the name."""
        limits = SimpleNamespace(concurrent=1, rate=None, deadline=1.0, connect=1.0)
        manifest = SimpleNamespace(limits=limits, streams={"row": self.stream})
        connection = SimpleNamespace(name=name, account=name, manifest=manifest)
        return SimpleNamespace(
            connection=connection, stream=lambda _: self.stream, sink=lambda _: self.sink
        )

    def connection(self, name: str) -> Any:
        """What planning asks of a connection."""
        streams = {"row": SimpleNamespace(incremental=self.stream.incremental)}
        return SimpleNamespace(name=name, manifest=SimpleNamespace(streams=streams))


def write_flow(folder: Path, name: str, text: str) -> None:
    (folder / "mappings" / "flows" / f"{name}.yaml").write_text(text, encoding="utf-8")


def template(folder: Path) -> Path:
    """An empty deployment with a migrated store, to be copied by `paper`."""
    create_deployment(folder)
    store = open_store(f"sqlite:///{folder}/hub.db")
    migrate(store)
    store.close()
    return folder


@contextmanager
def paper(origin: Path, folder: Path) -> Iterator[PaperHub]:
    """A fresh hub on paper, copied from a template."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(origin, folder)
    hub = PaperHub(folder)
    try:
        yield hub
    finally:
        hub.store.close()


@contextmanager
def dying(after: Callable[[str], bool]) -> Iterator[None]:
    """Within, the process dies at the crash points for which `after` says so."""

    def point(name: str) -> None:
        if after(name):
            raise Died(name)

    places = (sync, delivery, replay, delivering)
    before = [place.crash_point for place in places]
    for place in places:
        place.crash_point = point
    try:
        yield
    finally:
        for place, old in zip(places, before, strict=True):
            place.crash_point = old


def _do_not_sync(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")
