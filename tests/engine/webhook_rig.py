"""A deployment that sends webhooks, and a receiver that checks each like the specification says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hub.engine.deployment import create_deployment
from hub.engine.hub import Hub, open_hub
from hub.engine.operations import LocalOperations
from hub.engine.webhooks.wakes import wake_subscriptions
from hub.sdk.clock import Clock
from hub.sdk.testing import FakeServer, Request, Response
from hub.store.records import Change, put_records

HOOK = "/hook"
ENTITY = "customer"

SETTINGS = """\
language = "en"

[store]
url = "{url}"

[webhooks]
allow_http = ["127.0.0.1"]
timeout_seconds = {seconds}
"""

FLOW = """\
flow: fill
from: {connection: nowhere, stream: items}
mapping: {key: [id], fields: {id: id}}
to: {entity: customer, delete: delete, delete_guard: 100}
"""


class Receiver(FakeServer):
    """Takes webhooks at any path; `taken` holds the bodies of those that were signed well."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: list[str] = []
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.badly_signed = 0
        self.route("POST", "/{path}", self._take)

    @property
    def hook(self) -> str:
        return self.url + HOOK

    @property
    def ids(self) -> list[str]:
        """The id of every request, misbehaved ones included."""
        return [one.headers["webhook-id"] for one in self.requests]

    @property
    def keys(self) -> list[str]:
        return [body["data"]["key"] for _, body in self.taken]

    def _take(self, request: Request) -> Response:
        if not any(signed_with(secret, request) for secret in self.secrets):
            self.badly_signed += 1
            return Response(400, json={"error": "signature"})
        self.taken.append((request.headers["webhook-id"], json.loads(request.body)))
        return Response(json={"ok": True})


def signed_with(secret: str, request: Request) -> bool:
    """The specification's own words: HMAC-SHA256 over `id.timestamp.body`, base64, `v1,`."""
    head = request.headers
    signed = f"{head['webhook-id']}.{head['webhook-timestamp']}.".encode() + request.body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{expected}" in head["webhook-signature"].split(" ")


class Desk:
    """A deployment that can be opened again and again, with a subscription or more."""

    def __init__(self, folder: Path, store_url: str | None = None, seconds: float = 1.0) -> None:
        self.folder = folder
        create_deployment(folder)
        text = SETTINGS.format(url=store_url or "sqlite:///hub.db", seconds=seconds)
        (folder / "hub.toml").write_text(text, encoding="utf-8")
        (folder / "mappings/flows/fill.yaml").write_text(FLOW, encoding="utf-8")

    @contextmanager
    def open(self, clock: Clock | None = None, *, jobs: bool = False) -> Iterator[Hub]:
        with open_hub(self.folder, clock=clock, jobs=jobs) as hub:
            yield hub


def subscribe(
    hub: Hub, receiver: Receiver, path: str = HOOK, entities: Sequence[str] = (ENTITY,)
) -> str:
    """A subscription whose secret the receiver knows; its id."""
    made = LocalOperations(hub).add_subscription(
        receiver.url + path, entities, None, from_beginning=False
    )
    receiver.secrets.append(made["secret"])
    return str(made["id"])


def change(hub: Hub, *keys: str, revision: int = 1, name: str = "甲") -> None:
    """Records change in one transaction, as a page of a flow does it."""
    doc = json.dumps({"name": name, "revision": revision}, ensure_ascii=False)
    write(hub, [Change(key, doc, revision) for key in keys])


def delete(hub: Hub, key: str, revision: int) -> None:
    write(hub, [Change(key, None, revision, deleted=1)])


def write(hub: Hub, changes: Sequence[Change], entity: str = ENTITY) -> None:
    with hub.store.transaction() as connection:
        put_records(connection, entity, changes, hub.now_ms())
        wake_subscriptions(hub, connection, entity)


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def states(hub: Hub, subscription_id: str) -> dict[str, str]:
    """The state of every message by its id."""
    rows = LocalOperations(hub).messages(subscription_id, None, 1000)
    return {row["id"]: row["state"] for row in rows}


class Busiest:
    """How many handlers ran at the same moment at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = self.most = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1
