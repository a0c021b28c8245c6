"""A fake vendor, a clock that moves when told to, sessions on a manifest written in the test."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hub.sdk.auth import TokenCache
from hub.sdk.connection import Connection, resolve_connection
from hub.sdk.limits import LocalGate
from hub.sdk.loading import validate
from hub.sdk.manifest import Manifest
from hub.sdk.registry import Connector
from hub.sdk.session import Session
from hub.sdk.testing import FakeClock, FakeServer

CANARY = "canary-7f3a?9&x"

OpenSession = Callable[..., Session]
Connect = Callable[..., Connection]


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def connect(fake: FakeServer) -> Connect:
    """Makes a connection to the fake; keyword arguments are parts of the manifest."""

    def make(
        spec: dict[str, Any] | None = None, folder: Path = Path("nowhere"), **parts: Any
    ) -> Connection:
        data = {
            "connector": "acme",
            "version": "1.0.0",
            "contract": 1,
            "title": {"zh": "测试", "en": "Test"},
            "config": {"base_url": "url", "secret": {"type": "secret", "optional": True}},
            "envelope": {
                "ok": {"path": "code", "in": [0, "0"]},
                "empty": {"path": "code", "in": [204]},
                "message": "msg",
                "errors": [
                    {"match": {"msg": "token"}, "as": "reauth"},
                    {"match": {"code": "^429$"}, "as": "throttle"},
                    {"match": {"code": "^77$"}, "as": "permanent"},
                    {"match": {"code": "^50$"}, "as": "retry"},
                    {"match": {"code": "^9$"}, "as": "duplicate"},
                    {"else": "reject"},
                ],
            },
            "limits": {"deadline": 2.0, "connect": 1.0, "tries": 3, "concurrent": 4},
            "streams": {
                "items": {"key": ["id"], "request": {"get": "/items"}, "data": "rows"},
            },
            "sinks": {
                "orders": {
                    "safety": "look_up",
                    "key": "ref",
                    "request": {"post": "/orders", "body": "@record"},
                    "id": "id",
                },
            },
            **parts,
        }
        manifest = validate(Manifest, data, "test")
        settings = {"base_url": fake.url, "secret": "store"}
        settings = {name: settings[name] for name in settings if name in manifest.config}
        entry = {"connector": "acme", "config": settings, **(spec or {})}
        connector = Connector("acme", manifest, folder)
        return resolve_connection("shop", entry, connector, lambda name, key: CANARY)

    return make


@pytest.fixture
def open_session(connect: Connect, clock: FakeClock) -> Iterator[OpenSession]:
    """Opens a session on a connection made by `connect`; closed after the test."""
    with ExitStack() as stack:
        tokens = TokenCache(clock)

        def make(*args: Any, resolve: Any = None, cache: Any = None, **parts: Any) -> Session:
            return stack.enter_context(
                Session(
                    connect(*args, **parts),
                    gate=LocalGate(clock),
                    clock=clock,
                    tokens=cache or tokens,
                    random=random.Random(7),
                    resolve=resolve,
                )
            )

        yield make


@pytest.fixture
def canary() -> str:
    return CANARY
