"""Receivers of webhooks declared in the test, with secrets given by name."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.sdk.connection import Connection, resolve_connection
from hub.sdk.errors import AuthError
from hub.sdk.hooks import Arrival, HookReceiver
from hub.sdk.loading import validate
from hub.sdk.manifest import Manifest
from hub.sdk.registry import Connector

NOW = 1_750_000_000.0
SECRET = "s3cret"
EVENTS = {"changed": {"key": ["id"]}}


def manifest(hook: dict[str, Any]) -> Manifest:
    """A manifest that only receives."""
    secret = {"type": "secret", "optional": True}
    data = {
        "connector": "acme",
        "version": "1.0.0",
        "contract": 1,
        "title": {"zh": "测试", "en": "Test"},
        "config": {"base_url": "url", "hook_secret": secret, "old_hook_secret": secret},
        "envelope": {"ok": {"path": "code", "in": [0]}},
        "hook": {"events": EVENTS, **hook},
    }
    return validate(Manifest, data, "acme/connector.yaml")


def receiver(
    verify: Any,
    *,
    secret: str | None = SECRET,
    old: str | None = None,
    folder: Path = Path("nowhere"),
    **hook: Any,
) -> HookReceiver:
    """The receiver of a connection `shop` whose secrets are these."""
    connection = connection_with(verify, secret=secret, old=old, folder=folder, **hook)
    return HookReceiver(connection)


def connection_with(
    verify: Any,
    *,
    secret: str | None = SECRET,
    old: str | None = None,
    folder: Path = Path("nowhere"),
    **hook: Any,
) -> Connection:
    """The connection `shop` with this webhook."""
    connector = Connector("acme", manifest({"verify": verify, **hook}), folder)
    secrets = {"hook_secret": secret, "old_hook_secret": old}
    entry = {"connector": "acme", "config": {"base_url": "http://127.0.0.1:1"}}
    return resolve_connection("shop", entry, connector, lambda _, key: secrets[key])


def arrival(body: bytes = b'{"id": 1}', query: Any = None, **headers: str) -> Arrival:
    """A request; underscores in header names stand for hyphens."""
    named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    return Arrival(named, query or {}, body)


@contextmanager
def refused(code: str = "hook.signature") -> Iterator[pytest.ExceptionInfo[AuthError]]:
    """Expects a refusal with this code."""
    with pytest.raises(AuthError) as caught:
        yield caught
    assert caught.value.code == code


def mac(text: bytes, secret: str = SECRET, algorithm: str = "sha256") -> str:
    """The HMAC of a text in hex."""
    return hmac.new(secret.encode(), text, getattr(hashlib, algorithm)).hexdigest()
