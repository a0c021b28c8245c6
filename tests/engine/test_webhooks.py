"""Record changes reach subscribers: signed, in order per record, once per change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.engine.hub import Hub
from hub.engine.operations import LocalOperations
from hub.engine.webhooks.changes import LARGEST_BODY
from hub.engine.webhooks.job import send_webhooks
from hub.sdk.testing import FakeClock, Fault
from hub.store.records import Change
from tests.engine.webhook_rig import (
    ENTITY,
    Desk,
    Receiver,
    change,
    delete,
    signed_with,
    states,
    subscribe,
    wait_for,
    write,
)

MOST_UNSENT = 100


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    return Desk(tmp_path / "hub", url)


@pytest.fixture
def embedded(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "hub")


@pytest.fixture
def hub(embedded: Desk) -> Iterator[Hub]:
    """A hub whose clock stands still and whose jobs run only when they are called."""
    with embedded.open(FakeClock()) as opened:
        yield opened


def test_a_change_arrives_within_a_moment_and_only_once(desk: Desk, receiver: Receiver) -> None:
    with desk.open(jobs=True) as hub:
        one = subscribe(hub, receiver)
        change(hub, "C-1", "C-2", "C-3")
        wait_for(lambda: len(receiver.taken) == 3)
        delete(hub, "C-2", 2)
        wait_for(lambda: len(receiver.taken) == 4)
        row = LocalOperations(hub).subscription(one)
        wait_for(lambda: set(states(hub, one).values()) == {"delivered"})
    assert sorted(receiver.keys) == ["C-1", "C-2", "C-2", "C-3"]
    assert len(set(receiver.ids)) == len(receiver.requests) == 4
    assert receiver.badly_signed == 0
    assert row["positions"] == [{"entity": ENTITY, "change_no": 4, "newest": 4}]


def test_the_body_tells_what_happened_to_which_version(hub: Hub, receiver: Receiver) -> None:
    one = subscribe(hub, receiver)
    change(hub, "C-1", revision=3)
    send_webhooks(hub, one)
    delete(hub, "C-1", 4)
    send_webhooks(hub, one)
    changed, deleted = (body for _, body in receiver.taken)
    assert changed == {
        "type": "record.changed",
        "timestamp": "2025-01-06T01:00:00Z",
        "data": {
            "entity": "customer",
            "key": "C-1",
            "revision": 3,
            "change_no": 1,
            "deleted": False,
            "record": {"name": "甲", "revision": 3},
        },
    }
    assert deleted["type"] == "record.deleted"
    assert deleted["data"]["deleted"] is True
    assert deleted["data"]["record"] is None


def test_the_headers_are_those_of_the_specification(hub: Hub, receiver: Receiver) -> None:
    one = subscribe(hub, receiver)
    change(hub, "C-1")
    send_webhooks(hub, one)
    head = receiver.requests[0].headers
    assert head["webhook-timestamp"] == str(hub.now_ms() // 1000)
    assert head["webhook-id"].startswith("msg_")
    assert "." not in head["webhook-id"]
    assert head["content-type"] == "application/json"
    assert head["accept-encoding"] == "identity"
    assert signed_with(receiver.secrets[0], receiver.requests[0])


def test_a_record_too_large_for_a_message_is_left_to_be_pulled(
    hub: Hub, receiver: Receiver
) -> None:
    one = subscribe(hub, receiver)
    write(hub, [Change("大 1/2", json.dumps({"text": "x" * LARGEST_BODY}), 1)])
    send_webhooks(hub, one)
    data = receiver.taken[0][1]["data"]
    assert "record" not in data
    assert data["truncated"] is True
    assert data["path"] == "/v1/records/customer/keys/%E5%A4%A7%201%2F2"
    assert len(receiver.requests[0].body) < LARGEST_BODY


def test_several_changes_of_a_record_that_wait_become_one_message(
    hub: Hub, receiver: Receiver
) -> None:
    one = subscribe(hub, receiver)
    for revision in (1, 2, 3):
        change(hub, "C-1", revision=revision)
    send_webhooks(hub, one)
    assert [body["data"]["revision"] for _, body in receiver.taken] == [3]


def test_a_newer_change_takes_the_place_of_an_unsent_one(hub: Hub, receiver: Receiver) -> None:
    one = subscribe(hub, receiver)
    receiver.misbehave(Fault.STATUS, status=500)
    change(hub, "C-1", revision=1)
    send_webhooks(hub, one)
    change(hub, "C-1", revision=2)
    clock(hub).advance(10)
    send_webhooks(hub, one)
    assert [body["data"]["revision"] for _, body in receiver.taken] == [2]
    assert sorted(states(hub, one).values()) == ["delivered", "superseded"]


def test_a_newer_change_waits_while_an_older_one_is_on_the_wire(
    desk: Desk, receiver: Receiver
) -> None:
    receiver.misbehave(Fault.DELAY, seconds=0.7)
    with desk.open(jobs=True) as hub:
        subscribe(hub, receiver)
        change(hub, "C-1", revision=1)
        wait_for(lambda: len(receiver.requests) == 1)
        change(hub, "C-1", "C-2", revision=2)
        wait_for(lambda: len(receiver.taken) == 3)
    times = {
        (body["data"]["key"], body["data"]["revision"]): number
        for number, (_, body) in enumerate(receiver.taken)
    }
    assert times["C-1", 1] < times["C-1", 2]
    began = {one.headers["webhook-id"]: one.time for one in receiver.requests}
    first, second = (i for i, body in receiver.taken if body["data"]["key"] == "C-1")
    assert began[second] - began[first] >= 0.7


def test_a_subscription_from_the_beginning_hears_of_everything_there_is(
    hub: Hub, receiver: Receiver
) -> None:
    change(hub, "C-1", "C-2")
    later = subscribe(hub, receiver, "/later")
    made = LocalOperations(hub).add_subscription(
        receiver.url + "/all", [ENTITY], "all of it", from_beginning=True
    )
    receiver.secrets.append(made["secret"])
    for one in (later, made["id"]):
        send_webhooks(hub, one)
    told = {(one.path, json.loads(one.body)["data"]["key"]) for one in receiver.requests}
    assert told == {("/all", "C-1"), ("/all", "C-2")}


def test_only_the_entities_asked_for_are_told(hub: Hub, receiver: Receiver) -> None:
    one = subscribe(hub, receiver)
    write(hub, [Change("S-1", "{}", 1)], "stock")
    change(hub, "C-1")
    send_webhooks(hub, one)
    assert receiver.keys == ["C-1"]


def test_nothing_is_written_for_webhooks_where_nobody_listens(desk: Desk) -> None:
    with desk.open(jobs=True) as hub:
        change(hub, "C-1")
        assert not hub.durable.alive("webhooks:")


def test_messages_do_not_pile_up_for_an_endpoint_that_fails(
    hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = subscribe(hub, receiver)
    receiver.misbehave(Fault.STATUS, times=None, status=503)
    monkeypatch.setattr("hub.engine.webhooks.changes.MOST_UNSENT", MOST_UNSENT)
    change(hub, *[f"C-{number}" for number in range(MOST_UNSENT + 60)])
    for _ in range(20):
        send_webhooks(hub, one)
        clock(hub).advance(1)
    row = LocalOperations(hub).subscription(one)
    assert row["unsent"] == MOST_UNSENT
    assert row["positions"][0]["change_no"] == MOST_UNSENT
    assert len(receiver.requests) < 30
    receiver.behave()
    clock(hub).advance(600)
    send_webhooks(hub, one)
    assert len(receiver.taken) == len(set(receiver.keys)) == MOST_UNSENT + 60


def test_a_subscription_to_a_missed_wake_is_served_by_the_sweep(
    desk: Desk, receiver: Receiver
) -> None:
    with desk.open() as hub:
        subscribe(hub, receiver)
        change(hub, "C-1")  # no jobs can be queued here
    with desk.open(jobs=True):  # a sweep opens every start
        wait_for(lambda: receiver.keys == ["C-1"])


def test_a_hanging_endpoint_does_not_delay_the_others(tmp_path: Path, receiver: Receiver) -> None:
    desk = Desk(tmp_path / "hub", seconds=20)
    receiver.misbehave(Fault.SILENCE, "/hangs", times=None)
    with Receiver() as quick, desk.open(jobs=True) as hub:
        subscribe(hub, receiver, "/hangs")
        subscribe(hub, quick)
        for number in range(20):
            change(hub, f"C-{number}")
        wait_for(lambda: len(set(quick.keys)) == 20, 10)
        assert receiver.count("/hangs") == hub.endpoints.settings.concurrent
        hub.stopping = True
        receiver.stop()


def test_tries_of_one_subscription_run_in_parallel_up_to_its_limit(
    hub: Hub, receiver: Receiver
) -> None:
    one = subscribe(hub, receiver)
    receiver.misbehave(Fault.DELAY, times=None, seconds=0.2)
    change(hub, *[f"C-{number}" for number in range(12)])
    send_webhooks(hub, one)
    assert len(receiver.taken) == 12
    assert hub.endpoints.settings.concurrent == 4
    assert receiver.busiest(0.19) == 4


def clock(hub: Hub) -> FakeClock:
    found = hub.clock
    assert isinstance(found, FakeClock)
    return found


def test_a_page_of_a_flow_wakes_who_listens(desk: Desk, receiver: Receiver) -> None:
    rows: list[dict[str, Any]] = [{"id": f"K-{number}"} for number in range(3)]
    source = Receiver()
    with source:
        source.route("GET", "/items", lambda _: _json(rows))
        (desk.folder / "connections.yaml").write_text(
            CONNECTIONS.format(url=source.url), encoding="utf-8"
        )
        with desk.open(jobs=True) as hub:
            subscribe(hub, receiver)
            run_to_end(hub)
            wait_for(lambda: len(receiver.taken) == 3)
            rows.pop()
            for _ in range(2):  # gone when two full reads in a row did not meet it
                run_to_end(hub)
            wait_for(lambda: len(receiver.taken) == 4)
    assert receiver.taken[3][1]["type"] == "record.deleted"
    assert receiver.keys[3] == "K-2"


CONNECTIONS = """\
nowhere:
  connector: rest
  config: {{base_url: "{url}"}}
  auth: {{kind: none}}
  limits: {{rate: 1000/s}}
  envelope: {{ok: {{path: $, is: list}}}}
  streams:
    items: {{key: [id], request: {{get: /items}}, data: $}}
"""


def _json(rows: list[dict[str, Any]]) -> Any:
    from hub.sdk.testing import Response

    return Response(json=rows)


def run_to_end(hub: Hub) -> None:
    operations = LocalOperations(hub)
    run = operations.start_run("fill", full=True)
    wait_for(lambda: operations.run(run["id"])["state"] in ("done", "failed"))
    assert operations.run(run["id"])["state"] == "done", operations.run(run["id"])
