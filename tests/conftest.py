"""What every test may use: real servers on this machine, and the rules about who may be missing.

A test marked `postgres`, `mqtt` or `nats` is skipped, with the reason, where that server does not
answer. HUB_TEST_REQUIRE=postgres,mqtt names those that must be there: then the test fails instead;
with `real_clients` so does a client library that cannot be installed (tests/real_clients/).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator

import psycopg
import pytest
from hypothesis import settings
from sqlalchemy import URL, make_url

settings.register_profile("hub", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("hub")

_POSTGRES_DEFAULTS = (
    "postgresql+psycopg://root@127.0.0.1:5432/test",
    "postgresql+psycopg://postgres@127.0.0.1:5432/postgres",
)


# --- servers ----------------------------------------------------------------------------------


def _find_postgres() -> str:
    """The URL of a server where databases can be made. Raises OSError with the reason."""
    given = os.environ.get("HUB_TEST_POSTGRES")
    problem = ""
    for text in [given] if given else _POSTGRES_DEFAULTS:
        try:
            with _connect(make_url(text)):
                return text
        except psycopg.Error as error:
            problem = problem or str(error).splitlines()[0]
    raise OSError(f"no PostgreSQL at 127.0.0.1:5432 (HUB_TEST_POSTGRES): {problem}")


def _find_mqtt() -> str:
    url = make_url(os.environ.get("HUB_TEST_MQTT", "mqtt://127.0.0.1:1883"))
    with socket.create_connection((url.host or "127.0.0.1", url.port or 1883), timeout=3):
        return url.render_as_string(hide_password=False)


def _find_nats() -> str:
    url = make_url(os.environ.get("HUB_TEST_NATS", "nats://127.0.0.1:4222"))
    with socket.create_connection((url.host or "127.0.0.1", url.port or 4222), timeout=3) as link:
        greeting = link.recv(8192)
    if not greeting.startswith(b"INFO ") or not json.loads(greeting[5:]).get("jetstream"):
        raise OSError("the server does not greet like NATS with JetStream")
    return url.render_as_string(hide_password=False)


_SERVERS: dict[str, Callable[[], str]] = {
    "postgres": _find_postgres,
    "mqtt": _find_mqtt,
    "nats": _find_nats,
}
_FOUND = pytest.StashKey[dict[str, tuple[str, str]]]()


def _server(config: pytest.Config, name: str) -> str:
    """The server's URL; otherwise the test ends here, skipped or failed."""
    found = config.stash.setdefault(_FOUND, {})
    if name not in found:
        try:
            found[name] = (_SERVERS[name](), "")
        except (OSError, ValueError) as error:
            found[name] = ("", f"{name} is not there: {error}")
    url, problem = found[name]
    if problem and name in _required():
        pytest.fail(f"{problem}; HUB_TEST_REQUIRE asks for it", pytrace=False)
    if problem:
        pytest.skip(problem)
    return url


def _required() -> set[str]:
    return {name for name in os.environ.get("HUB_TEST_REQUIRE", "").split(",") if name}


def _connect(url: URL) -> psycopg.Connection:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True, connect_timeout=3)


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A SQLAlchemy URL of a new, empty database that is dropped after the test.

    Databases whose names begin with its name are dropped too.
    """
    server = make_url(_server(request.config, "postgres"))
    name = f"hub_test_{os.getpid()}_{secrets.token_hex(4)}"
    with _connect(server) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with _connect(server) as connection:
            query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
            for (made,) in connection.execute(query, [name]).fetchall():
                connection.execute(f'DROP DATABASE "{made}" WITH (FORCE)')


@pytest.fixture
def mqtt_url(request: pytest.FixtureRequest) -> str:
    """The URL of a real MQTT broker; use topics of your own."""
    return _server(request.config, "mqtt")


@pytest.fixture
def nats_url(request: pytest.FixtureRequest) -> str:
    """The URL of a real NATS server with JetStream; use subjects and streams of your own."""
    return _server(request.config, "nats")


# --- hooks ------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    if unknown := _required() - {*_SERVERS, "real_clients"}:
        known = ", ".join([*_SERVERS, "real_clients"])
        raise pytest.UsageError(f"HUB_TEST_REQUIRE names {sorted(unknown)[0]!r}; known: {known}")


@pytest.hookimpl(tryfirst=True)  # before -m chooses, so that `-m postgres` finds fixture users too
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for name in _SERVERS:
            if f"{name}_url" in getattr(item, "fixturenames", ()):
                item.add_marker(name)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in _SERVERS:
        if item.get_closest_marker(name):
            _server(item.config, name)
    if item.get_closest_marker("live") and "live" not in item.config.option.markexpr:
        pytest.skip("needs a vendor's real system; run with -m live")
    if item.get_closest_marker("browser") and not _browser():
        pytest.skip("no Chromium on this machine")


def _browser() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
