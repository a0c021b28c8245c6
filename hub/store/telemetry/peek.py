"""Whether telemetry is used at all, asked without making its tables."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from hub.store.tables.telemetry import telemetry_part


def has_messages(inbox_url: str) -> bool:
    """Whether the inbox has ever kept a message. False too while nobody can tell."""
    database = sa.engine.make_url(inbox_url).database or ""
    if inbox_url.startswith("sqlite:") and not Path(database).is_file():
        return False
    engine = sa.create_engine(inbox_url, poolclass=sa.NullPool)
    kept = sa.select(telemetry_part.c.part).where(telemetry_part.c.last_seq > 0).limit(1)
    try:
        with engine.connect() as connection:
            return connection.execute(kept).first() is not None
    except sa.exc.SQLAlchemyError:
        return False
    finally:
        engine.dispose()
