"""Both databases of telemetry, empty, on each supported server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from hub.store.database import Store, _set_pragmas
from hub.store.tables.telemetry import inbox_metadata, telemetry_metadata


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def telemetry_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/telemetry.db"


@pytest.fixture
def store(telemetry_url: str) -> Iterator[Store]:
    """A store with all tables of telemetry."""
    engine = sa.create_engine(telemetry_url)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_pragmas)
    with engine.begin() as connection:
        inbox_metadata.create_all(connection)
        telemetry_metadata.create_all(connection)
    opened = Store(engine)
    yield opened
    opened.close()
