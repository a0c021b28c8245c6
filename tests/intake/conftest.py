"""The deployment that receives webhooks, on each supported database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.store.tables import inbox
from tests.intake.rig import Desk, Edge, Sender, edge


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    return Desk(tmp_path / "hub", url)


@pytest.fixture
def plain(tmp_path: Path) -> Desk:
    """The deployment on SQLite, for what does not depend on the database."""
    return Desk(tmp_path / "hub")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """One hub for all tests of a module: what they do to it ends with them."""
    with edge(Desk(tmp_path_factory.mktemp("shared") / "hub")) as hub:
        yield hub


@pytest.fixture
def here(opened: Edge) -> Edge:
    """A hub in this process that receives webhooks on a real socket; its inbox is empty."""
    with opened.hub.store.transaction() as connection:
        connection.execute(inbox.delete())
    opened.hub.intake.counts.clear()
    return opened


@pytest.fixture
def sender(here: Edge) -> Iterator[Sender]:
    """A sender that keeps its connection."""
    with Sender(here.port) as opened:
        yield opened
