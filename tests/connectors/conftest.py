"""Sessions of real connectors with their fakes, on a clock that moves when told to."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from hub.sdk.auth import TokenCache
from hub.sdk.connection import Connection, resolve_connection
from hub.sdk.limits import LocalGate
from hub.sdk.registry import Connector, discover
from hub.sdk.session import Session
from hub.sdk.testing import FakeClock, FakeServer

OpenSession = Callable[..., Session]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def open_session(clock: FakeClock) -> Iterator[OpenSession]:
    """Opens a session of a connector with a server; keyword arguments replace settings."""
    with ExitStack() as opened:

        def make(name: str, server: FakeServer, **settings: Any) -> Session:
            connection = connect(discover().get(name), {**server.config(), **settings})
            session = Session(
                connection,
                gate=LocalGate(clock),
                clock=clock,
                tokens=TokenCache(clock),
                random=random.Random(7),
            )
            return opened.enter_context(session)

        yield make


def connect(connector: Connector, settings: dict[str, Any], **entry: Any) -> Connection:
    """A connection with these settings; secrets are handed over as the hub's store would."""
    fields = connector.manifest.config
    secrets = {name: settings[name] for name in settings if fields[name].type == "secret"}
    config = {name: "store" if name in secrets else value for name, value in settings.items()}
    spec = {"connector": connector.name, "config": config, **entry}
    return resolve_connection(connector.name, spec, connector, lambda _, name: secrets.get(name))


def fake_of(name: str) -> FakeServer | None:
    """The fake of a connector, not started; None when it has none."""
    connector = discover().get(name)
    if not (connector.folder / "fake.py").is_file():
        return None
    server: FakeServer = importlib.import_module(f"{connector.package}.fake").fake()
    return server
