"""Opening the stores of telemetry: SQLite files that several processes share, or PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa

from hub.sdk.errors import ConfigError
from hub.store.database import Store, open_store
from hub.store.migrate import TELEMETRY, TELEMETRY_INBOX, Schema, migrate, require_schema


def open_telemetry(url: str) -> Store:
    """Readings, devices and what is made of them, migrated. Raises ConfigError."""
    return _opened(url, TELEMETRY)


def open_telemetry_inbox(url: str) -> Store:
    """Raw messages as they came, migrated. Raises ConfigError."""
    return _opened(url, TELEMETRY_INBOX)


def _opened(url: str, schema: Schema) -> Store:
    store = open_store(url, shared=True)
    try:
        migrate(store, schema)
        require_schema(store, schema)
    except sa.exc.DatabaseError as error:
        store.close()
        reason = str(error.orig).splitlines()[0]
        raise ConfigError(
            "store.unwritable", file=store.engine.url.database, reason=reason
        ) from error
    except BaseException:
        store.close()
        raise
    return store
