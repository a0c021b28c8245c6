"""Traps beside the queues: event loops, tables of others, batches that take others down."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import hub.store
from hub.engine.durable import VERSION, Durable
from hub.engine.heart import MOST_RETURNS, Duties, Heart
from hub.engine.hub import Hub, open_hub
from hub.engine.intake import Intake, Settled
from hub.engine.jobs import RUNNING, Hand, Job
from hub.sdk.errors import HubError
from hub.store.database import Store
from hub.store.executors import Identity
from hub.store.inbox import NewEvent, append_new, events_between
from hub.store.rows import bulk_insert
from tests.engine.conftest import Rig
from tests.engine.durables import enqueue, running, wait_for

# --- 10: the engine's own event loop ----------------------------------------------------------


def test_a_job_runs_on_a_plain_thread_without_an_event_loop(store: Store) -> None:
    found: list[bool] = []

    def work(_: str) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            found.append(False)
        else:
            found.append(True)

    with running(store, work=work) as durable:
        enqueue(durable, store, "job-1", "a")
        wait_for(lambda: bool(found))
    assert found == [False]


def test_a_coroutine_is_refused_as_a_handler(store: Store) -> None:
    async def work(_: str) -> None:
        pass

    with pytest.raises(TypeError, match="plain functions: work"):
        Durable(store, {"work": work})  # type: ignore[dict-item]  # what is tried


# --- 17: the engine's tables beside ours ------------------------------------------------------


def test_autogenerate_leaves_the_tables_of_the_engine_alone(store: Store) -> None:
    with running(store, work=lambda: None):
        found = differences(store)
    assert found == []


def test_autogenerate_sees_a_table_of_ours_that_nobody_knows(store: Store) -> None:
    with store.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE hub_left_over (id INTEGER PRIMARY KEY)")
    assert [one[0] for one in differences(store)] == ["remove_table"]


def differences(store: Store) -> list[tuple[str, str]]:
    """What a new revision would change, through the very `env.py` that a developer's runs use."""
    seen: list[tuple[str, str]] = []

    def keep(_context: Any, _revision: Any, directives: list[Any]) -> None:
        for operation in directives[0].upgrade_ops.as_diffs():
            seen.append((operation[0], str(operation[1:])))
        directives[:] = []  # no file is written

    config = Config()
    folder = Path(hub.store.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    with store.transaction() as connection:
        config.attributes["connection"] = connection
        command.revision(config, autogenerate=True, process_revision_directives=keep)
    return seen


# --- 18: one bad batch of a group commit ------------------------------------------------------


class Senders:
    """Who waits for an answer: what each event was told."""

    def __init__(self) -> None:
        self.told: dict[str, HubError | None] = {}
        self._lock = threading.Lock()

    def settle(self, settled: Settled) -> None:
        with self._lock:
            self.told.update(settled)


@pytest.fixture
def opened(rig: Rig) -> Iterator[Hub]:
    with open_hub(rig.folder) as found:
        yield found


def event(name: str) -> NewEvent:
    return NewEvent(name, 1_800_000_000_000, "application/json", b"{}")


def kept(hub_: Hub, connection_id: str) -> set[str]:
    with hub_.store.reading() as connection:
        return {one.event_id for one in events_between(connection, connection_id, 0, 1000)}


def all_at_once(intake: Intake, senders: Senders, events: Sequence[tuple[str, str]]) -> None:
    """Put the events so that the writer finds them together."""
    with intake.queue.changed:
        for connection_id, name in events:
            intake.put(connection_id, event(name), name, senders.settle)


def test_one_bad_event_of_a_batch_is_told_and_the_others_are_kept(
    opened: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append(connection: Any, connection_id: str, events: Sequence[NewEvent]) -> int:
        if any(one.event_id == "bad" for one in events):
            raise ValueError("cannot be written")
        return append_new(connection, connection_id, events)

    monkeypatch.setattr("hub.engine.intake.append_new", append)
    senders = Senders()
    names = ["a", "bad", "b", "c"]
    all_at_once(opened.intake, senders, [("crm", name) for name in names] + [("u8", "d")])
    wait_for(lambda: len(senders.told) == 5)
    refused = {name: error.code for name, error in senders.told.items() if error is not None}
    assert refused == {"bad": "intake.failed"}
    assert (kept(opened, "crm"), kept(opened, "u8")) == ({"a", "b", "c"}, {"d"})


def test_the_writer_goes_on_after_a_batch_that_could_not_be_settled(
    opened: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Settled) -> None:
        raise ZeroDivisionError

    senders = Senders()
    opened.intake.put("crm", event("a"), "a", broken)
    wait_for(lambda: any("could not be settled" in one.getMessage() for one in caplog.records))
    opened.intake.put("crm", event("b"), "b", senders.settle)
    wait_for(lambda: senders.told == {"b": None})
    assert kept(opened, "crm") == {"a", "b"}
    assert [one.levelno for one in caplog.records if one.exc_info] == [logging.ERROR]


def test_a_store_that_is_away_for_a_batch_is_back_for_the_next(
    opened: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = sa.exc.OperationalError("INSERT", {}, Exception("away"))
    tries: list[int] = []

    def append(connection: Any, connection_id: str, events: Sequence[NewEvent]) -> int:
        tries.append(len(events))
        if len(tries) == 1:
            raise away
        return append_new(connection, connection_id, events)

    monkeypatch.setattr("hub.engine.intake.append_new", append)
    senders = Senders()
    all_at_once(opened.intake, senders, [("crm", "a"), ("crm", "b")])
    wait_for(lambda: len(senders.told) == 2)
    told = {name: error.code for name, error in senders.told.items() if error is not None}
    assert (told, tries) == ({"a": "intake.store", "b": "intake.store"}, [2])
    all_at_once(opened.intake, senders, [("crm", "a"), ("crm", "b")])
    wait_for(lambda: senders.told == {"a": None, "b": None})
    assert kept(opened, "crm") == {"a", "b"}


# --- 19: slow text for times ------------------------------------------------------------------


def test_rows_reach_the_database_as_arrays_without_text_for_times(store: Store) -> None:
    statements: list[str] = []
    sa.event.listen(
        store.engine, "before_cursor_execute", lambda _c, _k, text, *_: statements.append(text)
    )
    table = sa.Table(
        "hub_times", sa.MetaData(), sa.Column("a", sa.BigInteger), sa.Column("b", sa.String(9))
    )
    with store.transaction() as connection:
        table.create(connection)
        statements.clear()
        bulk_insert(connection, table, [(1_800_000_000_000, "x"), (2, None)])
        found = connection.execute(sa.select(table).order_by(table.c.a)).all()
    assert [tuple(row) for row in found] == [(2, None), (1_800_000_000_000, "x")]
    assert not any("COPY" in text.upper() for text in statements)
    if not store.embedded:
        assert "unnest(%(a)s::bigint[]" in statements[0]


# --- 1 and 4: claims and ids ------------------------------------------------------------------


def test_a_job_always_claimed_and_never_started_is_ended(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    job = Job("job-1", RUNNING, "flow", "p", VERSION, "hub_job", "me", 1, 0, 0, None)
    put_back: list[str] = []
    ended: list[str] = []
    duties = Duties(
        lambda: [job],
        lambda _: None,
        lambda one: put_back.append(one.id),
        lambda _: ended.append("x"),
    )
    who = Identity("me", "worker", "host", 1, "0")
    heart = Heart(store, who, 0.0, Hand(store.commits), duties)
    for _ in range(MOST_RETURNS + 1):
        heart._round()
    assert (put_back, ended) == (["job-1"] * MOST_RETURNS, ["x"])
    assert "is ended" in caplog.text


def test_every_engine_has_an_id_of_its_own(store: Store) -> None:
    assert len({Durable(store, {}).executor_id for _ in range(3)}) == 3
