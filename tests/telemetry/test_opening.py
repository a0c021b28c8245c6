"""Opening the stores of telemetry: alone, several at once, beside the hub's own tables."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from hub.sdk.errors import ConfigError
from hub.store.database import Store, open_store
from hub.store.migrate import HUB, TELEMETRY, TELEMETRY_INBOX, Schema, migrate, schema_version
from hub.store.telemetry.database import open_telemetry, open_telemetry_inbox

ROOT = Path(__file__).resolve().parents[2]
OPEN = {TELEMETRY: open_telemetry, TELEMETRY_INBOX: open_telemetry_inbox}
Opened = Callable[[str], Store]

BRING_UP = """
import sys
from hub.store.telemetry.database import open_telemetry, open_telemetry_inbox
for _ in range(3):
    open_telemetry(sys.argv[1]).close()
    open_telemetry_inbox(sys.argv[2]).close()
print("done")
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/telemetry.db", f"sqlite:///{tmp_path}/telemetry-inbox.db"
    found: str = request.getfixturevalue("postgres_url")
    return found, found


def tables_of(store: Store) -> set[str]:
    with store.reading() as connection:
        return set(sa.inspect(connection).get_table_names())


def test_opening_makes_exactly_the_tables_the_program_knows(urls: tuple[str, str]) -> None:
    for url, (schema, opened) in zip(urls, OPEN.items(), strict=True):
        store = opened(url)
        assert {*schema.tables.tables, schema.version_table} <= tables_of(store)
        assert schema_version(store, schema) == schema.head
        assert differences(store, schema) == []
        store.close()
        opened(url).close()


def test_a_connection_is_opened_while_another_one_writes(sqlite_store: Store) -> None:
    began = time.monotonic()
    with sqlite_store.transaction(), sqlite_store.reading() as other:
        assert other.exec_driver_sql("PRAGMA auto_vacuum").scalar_one() == 2
    assert time.monotonic() - began < 5


def test_a_new_file_that_somebody_else_has_locked_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(
        tmp_path / "telemetry.db", isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, other.execute, ["ROLLBACK"]).start()
    open_telemetry(f"sqlite:///{tmp_path}/telemetry.db").close()
    other.close()


def test_processes_that_open_at_once_all_come_up(urls: tuple[str, str]) -> None:
    made = [
        subprocess.Popen(
            [sys.executable, "-c", BRING_UP, *urls], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in made] == ["done\n"] * 3


@pytest.mark.postgres
def test_on_postgresql_all_tables_live_in_one_database(postgres_url: str) -> None:
    store = open_store(postgres_url)
    migrate(store)
    open_telemetry(postgres_url).close()
    open_telemetry_inbox(postgres_url).close()
    for schema in (HUB, TELEMETRY, TELEMETRY_INBOX):
        assert differences(store, schema) == []
    with store.transaction() as connection:
        kind = connection.execute(
            sa.text("SELECT relkind FROM pg_class WHERE relname = 'hub_chunk'")
        )
        assert kind.scalar_one() in {"p", b"p"}
    store.close()


def test_two_openers_wait_for_each_others_transactions(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/telemetry.db"
    first, second = open_telemetry(url), open_telemetry(url)
    with first.reading() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "busy_timeout", "auto_vacuum")
        ]
    assert pragmas == ["wal", 2, 30_000, 2]
    for store in (first, second, first):
        with store.transaction() as connection:
            connection.exec_driver_sql("UPDATE hub_telemetry_position SET seq = 1")
    first.close()
    second.close()


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/telemetry.db"
    store = open_telemetry(url)
    with store.transaction() as connection:
        connection.exec_driver_sql("UPDATE hub_telemetry_schema SET version_num = '9999'")
    store.close()
    with pytest.raises(ConfigError, match="newer than"):
        open_telemetry(url)


@pytest.mark.parametrize("what", ["no database", "a folder"])
def test_a_file_that_cannot_be_a_store_is_named(tmp_path: Path, what: str) -> None:
    path = tmp_path / "telemetry.db"
    if what == "a folder":
        path.mkdir()
    else:
        path.write_bytes(b"something else" * 1000)
    with pytest.raises(ConfigError, match=r"telemetry\.db"):
        open_telemetry(f"sqlite:///{path}")


@pytest.mark.parametrize("schema", OPEN)
def test_the_head_is_the_newest_revision(schema: Schema) -> None:
    files = sorted((schema.folder / "versions").glob("0*.py"))
    assert files[-1].name.startswith(schema.head)


def differences(store: Store, schema: Schema) -> list[tuple[str, str]]:
    """What a new revision of this history would change."""
    seen: list[tuple[str, str]] = []

    def keep(_context: Any, _revision: Any, directives: list[Any]) -> None:
        for operation in directives[0].upgrade_ops.as_diffs():
            seen.append((operation[0], str(operation[1:])))
        directives[:] = []  # no file is written

    config = Config()
    config.set_main_option("script_location", str(schema.folder))
    with store.transaction() as connection:
        config.attributes["connection"] = connection
        command.revision(config, autogenerate=True, process_revision_directives=keep)
    return seen
