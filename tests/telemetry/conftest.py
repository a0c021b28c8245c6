from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from hub.store.database import Store
from hub.store.telemetry.database import open_telemetry


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def readings_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of readings on each supported database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/telemetry.db"
    else:
        url = request.getfixturevalue("telemetry_url")
    store = open_telemetry(url)
    yield store
    store.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """An empty store of readings in a file."""
    store = open_telemetry(f"sqlite:///{tmp_path}/telemetry.db")
    yield store
    store.close()


@pytest.fixture
def telemetry_url(postgres_url: str, migrated: dict[str, str]) -> str:
    """A PostgreSQL database with the empty tables of readings: a copy, which is quicker."""
    url = make_url(postgres_url)
    engine = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if not migrated:
            model = f"hub_test_{os.getpid()}_model"
            connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{model}" WITH (FORCE)')
            connection.exec_driver_sql(f'CREATE DATABASE "{model}"')
            migrated[model] = url.set(database="postgres").render_as_string(hide_password=False)
            made = url.set(database=model).render_as_string(hide_password=False)
            open_telemetry(made).close()
        (model,) = migrated
        connection.exec_driver_sql(f'DROP DATABASE "{url.database}" WITH (FORCE)')
        connection.exec_driver_sql(f'CREATE DATABASE "{url.database}" TEMPLATE "{model}"')
    engine.dispose()
    return postgres_url


@pytest.fixture(scope="session")
def migrated() -> Iterator[dict[str, str]]:
    """The database that is copied, once there is one, and where to drop it."""
    made: dict[str, str] = {}
    yield made
    for model, server in made.items():
        engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE "{model}" WITH (FORCE)')
        engine.dispose()


@pytest.fixture
def postgres_store(telemetry_url: str) -> Iterator[Store]:
    """An empty store of readings on PostgreSQL."""
    store = open_telemetry(telemetry_url)
    yield store
    store.close()
