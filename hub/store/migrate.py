"""Bringing a database to the schema of this program; Alembic is loaded only when there is work."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from hub.sdk.errors import ConfigError
from hub.store.database import Store

HEAD = "0002"
"""The newest revision under `migrations/versions`; revisions are numbers of four digits."""

VERSION_TABLE = "hub_schema"
_MIGRATION_LOCK = 7_165_002


def schema_version(store: Store) -> str | None:
    """The revision the database is at; None for an empty one."""
    with store.reading() as connection:
        if not sa.inspect(connection).has_table(VERSION_TABLE):
            return None
        found = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 (a constant)
        version: str | None = found.scalar()
        return version


def require_schema(store: Store) -> None:
    """Raises ConfigError unless the database is at this program's revision."""
    found = schema_version(store)
    if found != HEAD:
        url = store.engine.url.render_as_string(hide_password=True)
        code = "store.schema" if found is None or found < HEAD else "store.newer"
        raise ConfigError(code, url=url, found=found or "none", needed=HEAD)


def migrate(store: Store) -> None:
    """Upgrade the database to `HEAD`; running it again changes nothing.

    All steps are one transaction: a process that dies on the way leaves the database as it was.
    A database of a newer program is left alone.
    """
    if _is_done(store):
        return
    with store.alone(_MIGRATION_LOCK):
        if not _is_done(store):  # another process may have been first
            _upgrade(store, "head")


def _is_done(store: Store) -> bool:
    found = schema_version(store)
    return found is not None and found >= HEAD


def _upgrade(store: Store, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with store.transaction() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
