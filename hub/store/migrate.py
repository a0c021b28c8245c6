"""Bringing a database to the schema of this program; Alembic is loaded only when there is work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from hub.sdk.errors import ConfigError
from hub.store.database import Store
from hub.store.tables import metadata
from hub.store.tables.telemetry import inbox_metadata, telemetry_metadata

HEAD = "0002"
"""The newest revision under `migrations/versions`; revisions are numbers of four digits."""

VERSION_TABLE = "hub_schema"
_MIGRATION_LOCK = 7_165_002
_HERE = Path(__file__).parent
_PARTITIONS = "hub_chunk_"


@dataclass(frozen=True, slots=True)
class Schema:
    """A set of tables with a history of its own; several may share one database."""

    head: str
    version_table: str
    tables: sa.MetaData
    folder: Path

    def is_ours(self, name: str) -> bool:
        """Whether a table may belong to this schema: autogenerate must not drop the others'."""
        others = {
            table
            for schema in (HUB, TELEMETRY, TELEMETRY_INBOX)
            if schema is not self
            for table in (*schema.tables.tables, schema.version_table)
        }
        return name.startswith("hub_") and name not in others and not name.startswith(_PARTITIONS)


HUB = Schema(HEAD, VERSION_TABLE, metadata, _HERE / "migrations")
TELEMETRY = Schema(
    "0001", "hub_telemetry_schema", telemetry_metadata, _HERE / "telemetry" / "migrations"
)
TELEMETRY_INBOX = Schema(
    "0001", "hub_telemetry_inbox_schema", inbox_metadata, _HERE / "telemetry" / "inbox_migrations"
)


def schema_version(store: Store, schema: Schema = HUB) -> str | None:
    """The revision the database is at; None for an empty one."""
    with store.reading() as connection:
        if not sa.inspect(connection).has_table(schema.version_table):
            return None
        found = connection.execute(sa.text(f"SELECT version_num FROM {schema.version_table}"))  # noqa: S608 (a constant)
        version: str | None = found.scalar()
        return version


def require_schema(store: Store, schema: Schema = HUB) -> None:
    """Raises ConfigError unless the database is at this program's revision."""
    found = schema_version(store, schema)
    if found != schema.head:
        url = store.engine.url.render_as_string(hide_password=True)
        code = "store.schema" if found is None or found < schema.head else "store.newer"
        raise ConfigError(code, url=url, found=found or "none", needed=schema.head)


def migrate(store: Store, schema: Schema = HUB) -> None:
    """Upgrade the database to the newest revision; running it again changes nothing.

    All steps are one transaction: a process that dies on the way leaves the database as it was.
    A database of a newer program is left alone.
    """
    if _is_done(store, schema):
        return
    with store.alone(_MIGRATION_LOCK):
        if not _is_done(store, schema):  # another process may have been first
            _upgrade(store, "head", schema)


def _is_done(store: Store, schema: Schema) -> bool:
    found = schema_version(store, schema)
    return found is not None and found >= schema.head


def run_in_context(schema: Schema) -> None:
    """The body of each history's `env.py`: always online, on the connection of `_upgrade`."""
    from alembic import context

    def ours(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or schema.is_ours(name or "")

    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=schema.tables,
        version_table=schema.version_table,
        include_name=ours,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _upgrade(store: Store, revision: str, schema: Schema = HUB) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(schema.folder))
    with store.transaction() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
