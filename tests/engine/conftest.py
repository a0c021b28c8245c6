"""A small deployment beside the fakes of U8 and the CRM."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.crm.fake import FakeCrm
from connectors.u8.fake import FakeU8, Sizes
from hub.engine.deployment import create_deployment
from hub.engine.hub import Hub, open_hub
from hub.engine.operations import LocalOperations
from hub.engine.planning import start_run
from hub.sdk.testing import FakeClock
from hub.store.database import Store, open_store
from hub.store.migrate import migrate
from hub.store.runs import Run, load_run
from tests.engine import paper
from tests.engine.offices import Office, furnish
from tests.engine.paper import QuietHub
from tests.engine.two_way_rig import Make

FAST = {"rate": "10000/s", "tries": 3, "deadline": "3s"}


class Rig:
    """A deployment that can be opened, run and looked into, again and again."""

    def __init__(self, folder: Path, u8: FakeU8, crm: FakeCrm, store_url: str | None) -> None:
        self.folder = folder
        self.u8 = u8
        self.crm = crm
        create_deployment(folder)
        if store_url is not None:
            (folder / "hub.toml").write_text(f'[store]\nurl = "{store_url}"\n', encoding="utf-8")
        secrets = {"u8": "app_secret", "crm": "token"}
        self.connections: dict[str, Any] = {}
        for name, fake in (("u8", u8), ("crm", crm)):
            config = fake.config()
            secret = folder / f"{name}.secret"
            secret.write_text(str(config[secrets[name]]), encoding="utf-8")
            config[secrets[name]] = f"file:{secret}"
            self.connections[name] = {"connector": name, "config": config, "limits": dict(FAST)}
        self.write_connections()

    def write_connections(self) -> None:
        text = yaml.safe_dump(self.connections, allow_unicode=True)
        (self.folder / "connections.yaml").write_text(text, encoding="utf-8")

    def write_flow(self, name: str, text: str) -> None:
        (self.folder / "mappings" / "flows" / f"{name}.yaml").write_text(text, encoding="utf-8")

    @contextmanager
    def open(self) -> Iterator[Hub]:
        with open_hub(self.folder, jobs=True) as hub:
            yield hub

    def run(self, flow: str, *, full: bool = False, seconds: float = 30) -> Run:
        """One run in a hub of its own, to its end."""
        with self.open() as hub:
            return finish(hub, start_run(hub, flow, full=full), seconds)

    def letters(self) -> list[dict[str, Any]]:
        """Every open letter as people see it."""
        with open_hub(self.folder) as hub:
            page = LocalOperations(hub).dead_letters({}, 1000)
        items: list[dict[str, Any]] = page["items"]
        return items


def finish(hub: Hub, run: Run, seconds: float = 30) -> Run:
    """Wait for the end of a run."""
    deadline = time.monotonic() + seconds
    while not run.finished:
        assert time.monotonic() < deadline, f"run {run.id} is still {run.state}: {run.counts}"
        time.sleep(0.05)
        with hub.store.reading() as connection:
            found = load_run(connection, run.id)
        assert found is not None
        run = found
    return run


@pytest.fixture
def u8() -> Iterator[FakeU8]:
    with FakeU8(sizes=Sizes(materials=30, stock=450, customers=450, orders=60)) as fake:
        yield fake


@pytest.fixture
def crm() -> Iterator[FakeCrm]:
    with FakeCrm() as fake:
        yield fake


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def rig(request: pytest.FixtureRequest, tmp_path: Path, u8: FakeU8, crm: FakeCrm) -> Rig:
    """The deployment on each supported database."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    return Rig(tmp_path / "hub", u8, crm, url)


@pytest.fixture
def embedded(tmp_path: Path, u8: FakeU8, crm: FakeCrm) -> Rig:
    """The deployment on SQLite, for what does not depend on the database."""
    return Rig(tmp_path / "hub", u8, crm, None)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/hub.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url)
    migrate(opened)
    yield opened
    opened.close()


# --- two offices and a hub between them ---------------------------------------------------------


@pytest.fixture(scope="session")
def empty_hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper.template(tmp_path_factory.mktemp("two_way") / "origin")


@pytest.fixture
def kind() -> str:
    return "sqlite"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def left(clock: FakeClock) -> Iterator[Office]:
    with Office("L", clock) as office:
        yield office


@pytest.fixture
def right(clock: FakeClock) -> Iterator[Office]:
    with Office("R", clock) as office:
        yield office


@pytest.fixture
def make(
    request: pytest.FixtureRequest,
    kind: str,
    empty_hub: Path,
    tmp_path: Path,
    clock: FakeClock,
    left: Office,
    right: Office,
) -> Iterator[Make]:
    """A hub over the two offices, furnished as the test wants it; called again, it restarts."""
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else None
    if url is not None:
        store = open_store(url)
        migrate(store)
        store.close()
    opened: list[QuietHub] = []
    folder = tmp_path / "hub"
    shutil.copytree(empty_hub, folder)

    def made(policy: Any = None, **options: Any) -> QuietHub:
        if opened:
            opened.pop().close()
        furnish(folder, left, right, policy, **options)
        opened.append(QuietHub(folder, url, clock))
        return opened[-1]

    yield made
    for hub in opened:
        hub.close()
