"""Subscriptions over HTTP: who is told, what is refused, what stays secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.engine.hub import Hub
from hub.engine.webhooks.job import send_webhooks
from hub.sdk.testing import FakeClock, Fault
from tests.api.test_api import Client, is_problem
from tests.engine.webhook_rig import ENTITY, Desk, Receiver, change

PATH = "/v1/subscriptions"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Desk(tmp_path / "hub").open(FakeClock()) as opened:
        yield opened


@pytest.fixture
def call(hub: Hub) -> Client:
    return Client(hub)


def add(call: Client, receiver: Receiver, **more: Any) -> str:
    body = {"url": f"{receiver.hook}?token=t-7", "entities": [ENTITY], **more}
    answer = call("POST", PATH, json=body)
    assert answer.status_code == 201, answer.text
    receiver.secrets.append(answer.json()["secret"])
    return str(answer.json()["id"])


def test_the_secret_is_shown_once_and_the_query_never(call: Client, receiver: Receiver) -> None:
    one = add(call, receiver, title="CRM 客户")
    rotated = call("POST", f"{PATH}/{one}/secret").json()
    secrets = [receiver.secrets[0], rotated["secret"]]
    assert all(secret.startswith("whsec_") for secret in secrets)
    for path in (PATH, f"{PATH}/{one}", f"{PATH}/{one}/attempts", "/v1/doctor", "/metrics"):
        text = call("GET", path).text
        assert not any(word in text for word in ("whsec_", "t-7"))
    row = call("GET", f"{PATH}/{one}").json()
    assert row["url"] == receiver.hook + "?…"
    assert (row["title"], row["state"], row["entities"]) == ("CRM 客户", "active", [ENTITY])
    assert row["old_secret_until"] == "2025-01-07T01:00:00Z"


REFUSED = [
    ({}, "api.invalid"),
    ({"url": "https://crm.example/"}, "api.invalid"),
    ({"url": "https://crm.example/", "entities": []}, "api.invalid"),
    ({"url": "https://crm.example/", "entities": [ENTITY], "secret": "x"}, "api.invalid"),
    ({"url": "https://crm.example/", "entities": [ENTITY], "from": "then"}, "api.invalid"),
    ({"url": 7, "entities": [ENTITY]}, "api.invalid"),
    ({"url": "crm.example", "entities": [ENTITY]}, "subscription.url"),
    ({"url": "https://a:b@crm.example/", "entities": [ENTITY]}, "subscription.url"),
    ({"url": "http://crm.example/", "entities": [ENTITY]}, "subscription.plain_http"),
    ({"url": "https://crm.example:25/", "entities": [ENTITY]}, "subscription.port"),
    ({"url": "https://10.0.0.1/", "entities": [ENTITY]}, "subscription.address"),
    ({"url": "https://[::1]/", "entities": [ENTITY]}, "subscription.address"),
    ({"url": "https://crm.example/" + "x" * 2000, "entities": [ENTITY]}, "subscription.long_url"),
    ({"url": "https://8.8.8.8/", "entities": ["custmer"]}, "subscription.entity"),
    ({"url": "https://8.8.8.8/", "entities": ["a\x00b"]}, "subscription.entity"),
    ({"url": "https://8.8.8.8/", "entities": [ENTITY], "title": "x" * 121}, "subscription.title"),
    ({"url": "https://8.8.8.8/", "entities": [ENTITY], "title": "a\x00b"}, "subscription.title"),
]


def test_what_cannot_work_is_refused_with_its_reason(call: Client) -> None:
    for body, code in REFUSED:
        found = is_problem(call("POST", PATH, json=body), 422, code)
        assert "a:b@" not in str(found)
    assert call("GET", PATH).json() == {"items": []}


def test_what_is_not_there_is_unknown(call: Client, receiver: Receiver) -> None:
    one = add(call, receiver)
    for name in ("sub_0", "a%00b"):
        for method, path in [
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/attempts"),
            ("GET", "/messages"),
            ("POST", "/secret"),
            ("POST", "/test"),
        ]:
            is_problem(call(method, f"{PATH}/{name}{path}"), 404, "subscription.unknown")
        is_problem(call("PATCH", f"{PATH}/{name}", json={}), 404, "subscription.unknown")
        resend = f"{PATH}/{one}/messages/{name}/resend"
        is_problem(call("POST", resend), 404, "message.unknown")
    is_problem(call("GET", f"{PATH}/{one}/messages?state=sent"), 422, "message.no_state")
    is_problem(call("PATCH", f"{PATH}/{one}", json={"state": "disabled"}), 422, "api.invalid")
    is_problem(call("PATCH", f"{PATH}/{one}", json={"id": "x"}), 422, "api.invalid")
    is_problem(call("GET", PATH, headers={"Authorization": ""}), 401, "api.unauthorized")


def test_a_subscription_can_be_changed_paused_and_removed(
    call: Client, hub: Hub, receiver: Receiver
) -> None:
    change(hub, "C-1")
    one = add(call, receiver, **{"from": "beginning"})
    paused = call("PATCH", f"{PATH}/{one}", json={"state": "paused", "title": None}).json()
    assert (paused["state"], paused["title"]) == ("paused", None)
    other = call("PATCH", f"{PATH}/{one}", json={"url": receiver.url + "/other"}).json()
    assert (other["state"], other["url"]) == ("paused", receiver.url + "/other")
    is_problem(
        call("PATCH", f"{PATH}/{one}", json={"url": "https://127.0.0.2:80/"}),
        422,
        "subscription.port",
    )
    call("PATCH", f"{PATH}/{one}", json={"state": "active"})
    send_webhooks(hub, one)
    assert [(request.path) for request in receiver.requests] == ["/other"]
    assert call("DELETE", f"{PATH}/{one}").json() == {"id": one, "removed": True}
    assert call("GET", PATH).json() == {"items": []}


def test_entities_can_be_exchanged_and_asked_for_again(
    call: Client, hub: Hub, receiver: Receiver
) -> None:
    from hub.store.records import Change
    from tests.engine.webhook_rig import write

    write(hub, [Change("S-1", "{}", 1)], "stock")
    one = add(call, receiver)
    change(hub, "C-1")
    send_webhooks(hub, one)
    first = receiver.ids
    changed = {"entities": ["stock"], "from": "beginning"}
    assert call("PATCH", f"{PATH}/{one}", json=changed).json()["entities"] == ["stock"]
    send_webhooks(hub, one)
    back = {"entities": ["stock", ENTITY], "from": "beginning"}
    call("PATCH", f"{PATH}/{one}", json=back)
    send_webhooks(hub, one)
    assert receiver.keys == ["C-1", "S-1", "C-1"]
    assert receiver.ids[2:] == first  # one change, one id


def test_the_test_button_tells_how_it_went(call: Client, receiver: Receiver) -> None:
    one = add(call, receiver)
    receiver.misbehave(Fault.STATUS, status=500, body="out of order")
    failed = call("POST", f"{PATH}/{one}/test").json()
    assert (failed["ok"], failed["status"], failed["answer"]) == (False, 500, "out of order")
    assert failed["error"]["code"] == "webhook.status"
    call("PATCH", f"{PATH}/{one}", json={"state": "paused"})
    taken = call("POST", f"{PATH}/{one}/test").json()
    assert (taken["ok"], taken["status"], taken["error"]) == (True, 200, None)
    assert [body["type"] for _, body in receiver.taken] == ["hub.test"]
    log = call("GET", f"{PATH}/{one}/attempts").json()["items"]
    assert [(row["message"], row["ok"]) for row in log] == [
        (taken["message"], True),
        (failed["message"], False),
    ]
    row = call("GET", f"{PATH}/{one}").json()
    assert (row["state"], row["failing_since"], row["failed"]) == ("paused", None, 0)
    resend = f"{PATH}/{one}/messages/{taken['message']}/resend"
    is_problem(call("POST", resend), 409, "message.not_resendable")


def test_only_the_newest_message_of_a_record_is_sent_again(
    call: Client, hub: Hub, receiver: Receiver
) -> None:
    one = add(call, receiver)
    for revision in (1, 2):
        change(hub, "C-1", revision=revision)
        send_webhooks(hub, one)
    old, new = receiver.ids
    body = is_problem(call("POST", f"{PATH}/{one}/messages/{old}/resend"), 409, "message.outdated")
    assert body["params"]["newest"] == new
    answer = call("POST", f"{PATH}/{one}/messages/{new}/resend")
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    send_webhooks(hub, one)
    assert receiver.ids == [old, new, new]
    states = call("GET", f"{PATH}/{one}/messages?state=delivered").json()["items"]
    assert {row["id"] for row in states} == {old, new}
    assert states[0]["body"]["data"]["key"] == "C-1"
