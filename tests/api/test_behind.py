"""A server that still starts takes events; whatever else is asked of it waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from hub.api.behind import Behind
from hub.api.hooks import HookEdge
from hub.engine.deployment import create_deployment
from hub.engine.hub import Hub, open_hub
from hub.sdk.errors import ConfigError
from hub.store.inbox import NewEvent
from hub.store.tables import record

CONNECTIONS = """\
desk:
  connector: rest
  config: {base_url: "http://127.0.0.1:9", hook_secret: "env:DESK_TOKEN"}
  envelope: {ok: {path: $, is: list}}
  hook:
    verify: {kind: token, header: X-Key}
    events: {note: {match: {path: kind, in: [note]}, key: [key]}}
"""

FLOW = """\
flow: notes
from: {connection: desk, event: note}
mapping: {key: [key], fields: {key: key}}
to: {entity: note}
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("DESK_TOKEN", "sesame")
    create_deployment(tmp_path)
    (tmp_path / "connections.yaml").write_text(CONNECTIONS, encoding="utf-8")
    (tmp_path / "mappings/flows/notes.yaml").write_text(FLOW, encoding="utf-8")
    with open_hub(tmp_path) as opened:
        yield opened


def test_events_are_taken_and_other_requests_wait_until_the_rest_is_up(hub: Hub) -> None:
    gate = threading.Event()

    def bring_up(_: ExitStack) -> ASGIApp:
        assert gate.wait(20)
        return PlainTextResponse("up")

    behind = Behind(bring_up, lambda: None)
    behind.start()

    async def ask() -> tuple[int, bool, str]:
        transport = httpx.ASGITransport(HookEdge(behind, hub, "en"))
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
            other = asyncio.create_task(client.get("/livez"))
            event = {"kind": "note", "key": "N-1"}
            taken = await client.post("/hooks/desk", json=event, headers={"X-Key": "sesame"})
            waited = not other.done()
            gate.set()
            return taken.status_code, waited, (await other).text

    assert asyncio.run(ask()) == (200, True, "up")
    behind.close()


def test_an_event_taken_before_the_jobs_is_worked_on_when_they_run(hub: Hub) -> None:
    kept = threading.Event()
    event = NewEvent("1", hub.now_ms(), "application/json", b'{"kind": "note", "key": "N-1"}')
    hub.intake.put("desk", event, None, lambda _: kept.set())
    assert kept.wait(20)
    hub.start_jobs()
    found: list[str] = []
    until = time.monotonic() + 20
    while not found and time.monotonic() < until:
        time.sleep(0.05)
        with hub.store.reading() as connection:
            found = list(connection.execute(sa.select(record.c.record_key)).scalars())
    assert found == ["N-1"]


def test_a_start_that_fails_closes_what_came_up_and_says_why() -> None:
    told: list[str] = []

    def bring_up(parts: ExitStack) -> ASGIApp:
        parts.callback(told.append, "closed")
        raise ConfigError("server.no_token", file="api.token")

    behind = Behind(bring_up, lambda: told.append("gave up"))
    behind.start()
    with pytest.raises(ConfigError) as caught:
        behind.close()
    assert caught.value.code == "server.no_token"
    assert told == ["gave up", "closed"]
