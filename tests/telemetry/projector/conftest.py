"""Both stores of telemetry, migrated, on each supported database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.telemetry.projector.plant import Plant


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def plant(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plant]:
    if request.param == "sqlite":
        urls = f"sqlite:///{tmp_path}/telemetry.db", f"sqlite:///{tmp_path}/telemetry-inbox.db"
    else:
        url = str(request.getfixturevalue("postgres_url"))
        urls = url, url
    made = Plant(*urls)
    yield made
    made.close()


@pytest.fixture
def solo(tmp_path: Path) -> Iterator[Plant]:
    """On SQLite only: for what no database makes different."""
    made = Plant(f"sqlite:///{tmp_path}/telemetry.db", f"sqlite:///{tmp_path}/telemetry-inbox.db")
    yield made
    made.close()
