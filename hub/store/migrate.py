"""Bringing a database to the schema of this program; Alembic is loaded only when there is work."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from hub.sdk.errors import ConfigError
from hub.store.database import Store

HEAD = "0002"
"""The newest revision under `migrations/versions`."""

VERSION_TABLE = "hub_schema"


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
        raise ConfigError("store.schema", url=url, found=found or "none", needed=HEAD)


def migrate(store: Store) -> None:
    """Upgrade the database to `HEAD`; running it again changes nothing."""
    if schema_version(store) == HEAD:
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with store.transaction() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
