"""Bringing a database to the present schema: killed on the way, by two at once, beside old ones."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from hub.sdk.errors import ConfigError
from hub.store import migrate as migration
from hub.store.database import Store, open_store
from hub.store.migrate import HEAD, migrate, require_schema, schema_version
from hub.store.tables import metadata

ROOT = Path(__file__).resolve().parents[2]

# Both schemas, as every `hub` process brings them up; says when it begins and when it is done.
BRING_UP = """
import sys
from hub.engine.durable import Durable
from hub.store.database import open_store
from hub.store.migrate import migrate
store = open_store(sys.argv[1])
print("begins", flush=True)
migrate(store)
durable = Durable(store, {})
durable.connect()
print("done", flush=True)
durable.stop()
store.close()
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/hub.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


def bring_up(url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BRING_UP, url]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def is_complete(url: str) -> bool:
    store = open_store(url)
    try:
        require_schema(store)
        with store.reading() as connection:
            found = set(sa.inspect(connection).get_table_names())
        return set(metadata.tables) <= found
    finally:
        store.close()


def test_a_migration_that_is_killed_again_and_again_still_comes_to_its_end(url: str) -> None:
    for round_no in range(5):
        process = bring_up(url)
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        time.sleep(0.08 * round_no)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = bring_up(url)
    output, _ = process.communicate(timeout=60)
    assert output.splitlines() == ["begins", "done"]
    assert is_complete(url)


def test_a_migration_killed_before_its_commit_leaves_nothing(url: str) -> None:
    store = open_store(url)
    migration._upgrade(store, "0001")
    store.close()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_die_in_the_middle, args=(url,))
    process.start()
    process.join(60)
    assert process.exitcode == 137
    store = open_store(url)
    assert schema_version(store) == "0001"
    migrate(store)
    assert schema_version(store) == HEAD
    store.close()


def _die_in_the_middle(url: str) -> None:
    from alembic import op

    real = op.create_index
    seen: list[str] = []

    def counting(name: str, *args: object, **more: object) -> object:
        seen.append(name)
        if len(seen) == 3:
            os._exit(137)
        return real(name, *args, **more)  # type: ignore[arg-type]  # passed on as it came

    op.create_index = counting  # type: ignore[assignment]  # in this process only
    store = open_store(url)
    migrate(store)


@pytest.mark.postgres
def test_processes_that_start_at_once_on_an_empty_database_all_come_up(postgres_url: str) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(bring_up(postgres_url)) for _ in range(4)]
        for process in processes:
            stack.callback(process.kill)
        said = [process.communicate(timeout=90)[0].splitlines() for process in processes]
    assert said == [["begins", "done"]] * 4
    assert is_complete(postgres_url)


def test_a_database_of_a_newer_program_is_left_alone_and_named(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute(sa.text("UPDATE hub_schema SET version_num = '9999'"))
    migrate(store)
    assert schema_version(store) == "9999"
    with pytest.raises(ConfigError, match="newer than") as caught:
        require_schema(store)
    assert caught.value.code == "store.newer"


def test_a_process_of_the_old_version_can_go_on_writing(url: str) -> None:
    """What is added to a table of a released schema is optional, and nothing there goes."""
    store = open_store(url)
    migration._upgrade(store, "0001")
    with store.reading() as connection:
        before = sa.MetaData()
        before.reflect(connection)
    migrate(store)
    with store.reading() as connection:
        inspector = sa.inspect(connection)
        for table in before.sorted_tables:
            now = {one["name"]: one for one in inspector.get_columns(table.name)}
            old = {column.name for column in table.columns}
            assert old <= set(now), table.name
            for name in set(now) - old:
                assert now[name]["nullable"] or now[name]["default"] is not None, name
    store.close()


def test_the_head_is_the_newest_revision() -> None:
    files = sorted((ROOT / "hub/store/migrations/versions").glob("0*.py"))
    assert files[-1].name.startswith(HEAD)
    assert all(len(one.name.partition("_")[0]) == 4 for one in files)


# --- what the store promises to several processes ---------------------------------------------


@pytest.mark.postgres
def test_a_transaction_in_which_nothing_happens_gives_up_its_locks(postgres_url: str) -> None:
    frozen, other = open_store(postgres_url, standstill=0.5), open_store(postgres_url)
    migrate(other)
    row = {"account": "a", "free_at": 0.0}
    table = metadata.tables["hub_rate_gate"]
    with other.transaction() as connection:
        connection.execute(table.insert().values(row))

    def stand_still() -> None:
        with frozen.transaction() as connection:
            connection.execute(table.update().values(free_at=1.0))
            began = time.monotonic()
            with other.transaction() as waiting:
                waiting.execute(table.update().values(free_at=2.0))
            assert time.monotonic() - began < 5
            connection.execute(table.update().values(free_at=3.0))

    with pytest.raises(sa.exc.OperationalError):
        stand_still()
    with other.reading() as connection:
        assert connection.execute(sa.select(table.c.free_at)).scalar_one() == 2.0
    frozen.close()
    other.close()


@pytest.mark.postgres
def test_side_transactions_do_not_wait_for_busy_connections(postgres_url: str) -> None:
    store = open_store(postgres_url)
    taken = [store.engine.connect() for _ in range(20)]
    began = time.monotonic()
    with store.side_transaction() as connection:
        connection.execute(sa.select(sa.literal(1)))
    assert time.monotonic() - began < 5
    for connection in taken:
        connection.close()
    store.close()
