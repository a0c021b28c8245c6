"""Looking into the inbox: from the command line and over HTTP, with nothing that must be hidden."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.cli.remote import find_server
from hub.engine.hub import open_hub
from hub.engine.operations import LocalOperations
from hub.engine.statistics import prometheus_text
from hub.sdk.errors import ConfigError
from tests.intake.rig import SECRET, Desk, Edge, edge, send, serving, wait_for

FLOW = """\
flow: tickets
from: {connection: desk, event: ticket}
mapping:
  key: [id]
  fields: {id: id, phone: {from: phone, masked: true}}
to: {entity: ticket}
"""


def ticket(number: int) -> bytes:
    return json.dumps({"id": f"T{number}", "phone": "13800138000", "note": SECRET}).encode()


@pytest.fixture
def read(desk: Desk) -> Iterator[Edge]:
    """A hub that has read three events of `desk` and has one of `other` that nobody reads."""
    (desk.folder / "mappings/flows/tickets.yaml").write_text(FLOW, encoding="utf-8")
    with edge(desk, jobs=True) as here:
        for number in range(3):
            assert send(here.port, ticket(number), f"E{number}").status == 200
        assert send(here.port, ticket(9), "E0", path="/hooks/other").status == 200
        operations = LocalOperations(here.hub)
        wait_for(lambda: len(operations.inbox({"state": "read"}, 10)["items"]) == 3)
        yield here


def listed(hub: LocalOperations, **filters: str) -> list[str]:
    return [one["id"] for one in hub.inbox(filters, 10)["items"]]


def test_events_are_listed_by_connection_id_state_and_time(read: Edge) -> None:
    operations = LocalOperations(read.hub)
    assert set(listed(operations)) == {"desk:1", "desk:2", "desk:3", "other:1"}
    assert listed(operations, connection="desk") == ["desk:3", "desk:2", "desk:1"]
    assert set(listed(operations, event="E0")) == {"desk:1", "other:1"}
    assert listed(operations, state="waiting") == ["other:1"]
    assert listed(operations, state="forgotten") == []
    assert len(listed(operations, since="1h")) == 4
    assert listed(operations, since="2099-01-01") == []
    page = operations.inbox({"connection": "desk"}, 2)
    assert page["next"] == "desk:2"
    assert operations.inbox({"connection": "desk"}, 2, page["next"])["items"][0]["id"] == "desk:1"


def test_an_event_is_shown_without_what_must_not_be_read(read: Edge) -> None:
    operations = LocalOperations(read.hub)
    one = operations.inbox_event("desk:1")
    assert one["state"] == "read"
    assert one["events"] == ["ticket"]
    assert one["flows"] == [{"flow": "tickets", "read": True}]
    assert one["size"] == len(ticket(0))
    assert one["body"] == {"id": "T0", "phone": "***", "note": "***"}
    assert operations.inbox_event("other:1")["body"]["note"] == "***"


@pytest.mark.parametrize("event", ["desk:99", "nobody:1", "desk", "desk:x", "desk:-1", "d\0:1", ""])
def test_an_event_that_is_not_there_is_unknown(here: Edge, event: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LocalOperations(here.hub).inbox_event(event)
    assert caught.value.code == "inbox.unknown"


@pytest.mark.parametrize("filters", [{"state": "lost"}, {"since": "soon"}, {"colour": "red"}])
def test_a_filter_that_means_nothing_is_refused(here: Edge, filters: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        LocalOperations(here.hub).inbox(filters, 10)


def test_a_server_answers_the_same_over_http(plain: Desk) -> None:
    with serving(plain) as served:
        assert send(served.port, ticket(1), "E1").status == 200
        found = find_server(plain.folder)
        assert found is not None
        with found as remote:
            beside: list[Any] = [remote.inbox({"event": "E1"}, 5), remote.inbox_event("desk:1")]
        bare = httpx.get(f"http://127.0.0.1:{served.port}/v1/inbox", trust_env=False)
        assert bare.status_code == 401
    with open_hub(plain.folder) as hub:
        operations = LocalOperations(hub)
        alone = [operations.inbox({"event": "E1"}, 5), operations.inbox_event("desk:1")]
    assert beside == alone


def test_doctor_and_metrics_tell_of_a_webhook_that_is_behind_or_closed(
    plain: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.connections["other"]["config"]["hook_secret"] = "store"
    plain.write()
    with edge(plain) as here:
        operations = LocalOperations(here.hub)

        def troubles() -> dict[str, str | None]:
            checks = [one for one in operations.doctor()["checks"] if one["check"] == "webhook"]
            return {one["name"]: one["error"] and one["error"]["code"] for one in checks}

        assert troubles()["desk"] is None
        assert send(here.port).status == 200
        assert troubles()["desk"] == "inbox.no_flow"
        plain.write_flow()
        assert troubles()["desk"] is None
        later = time.time() + 3600
        monkeypatch.setattr(here.hub, "now_ms", lambda: int(later * 1000))
        assert troubles()["desk"] == "inbox.behind"
        text = prometheus_text(here.hub)
        assert 'hub_inbox_events_total{connection="desk",outcome="accepted"} 1' in text
        assert 'hub_inbox_waiting_count{connection="desk"} 1' in text
        assert 'hub_inbox_oldest_waiting_seconds{connection="desk"} 36' in text


def test_the_address_of_webhooks_is_described(here: Edge) -> None:
    url = f"http://127.0.0.1:{here.port}/openapi.json"
    described = httpx.get(url, trust_env=False).json()["paths"]["/hooks/{connection}"]["post"]
    assert {"401", "413", "429", "503", "507"} <= described["responses"].keys()


def test_the_command_line_lists_and_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hub.cli.main import run

    desk = Desk(tmp_path / "hub")
    with edge(desk) as here:
        assert send(here.port, ticket(1), "E1").status == 200
    monkeypatch.chdir(desk.folder)
    assert run(["inbox", "list"]) == 0
    assert "desk:1" in capsys.readouterr().out
    assert run(["inbox", "list", "--json", "--state", "waiting"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["event_id"] == "E1"
    assert run(["inbox", "show", "desk:1"]) == 0
    assert json.loads(capsys.readouterr().out)["body"]["id"] == "T1"
    assert run(["inbox", "show", "desk:2"]) == 1
    assert "desk:2" in capsys.readouterr().err
