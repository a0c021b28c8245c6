"""`hub subscription …`, alone and beside a server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import TOTAL, Hub
from tests.cli.test_serve import serving, steady
from tests.engine.webhook_rig import Receiver, wait_for

SETTINGS = '\n[webhooks]\nallow_http = ["127.0.0.1"]\ntimeout_seconds = 2\n'
ID = re.compile(r"sub_[0-9a-f]+")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


@pytest.fixture
def folder(hub: Hub, deployment: Path) -> Path:
    with (deployment / "hub.toml").open("a", encoding="utf-8") as file:
        file.write(SETTINGS)
    return deployment


def add(hub: Hub, receiver: Receiver, *more: str) -> str:
    made = hub("subscription", "add", receiver.hook, "--entity", "shop_item", *more, "--json")
    assert made.code == 0, made.err
    receiver.secrets.append(made.json["secret"])
    return str(made.json["id"])


def test_a_subscription_through_its_life(hub: Hub, folder: Path, receiver: Receiver) -> None:
    one = add(hub, receiver, "--title", "CRM")
    assert one in hub("subscription", "list").out
    tried = hub("subscription", "test", one)
    assert (tried.code, tried.out.strip()) == (0, '{"ok":true}')
    assert hub("subscription", "log", one, "--json").json[0]["status"] == 200
    assert hub("subscription", "pause", one, "--json").json["state"] == "paused"
    assert hub("subscription", "resume", one, "--json").json["state"] == "active"
    edited = hub("subscription", "edit", one, "--title", "仓库", "--json")
    assert edited.json["title"] == "仓库"
    rotated = hub("subscription", "rotate", one, "--keep-hours", "1")
    assert rotated.out.startswith("whsec_")
    assert hub("subscription", "show", one).code == 0
    assert hub("doctor", "--json").json["ok"] is True
    assert hub("subscription", "remove", one).code == 0
    assert hub("subscription", "list", "--json").json == []


def test_a_failed_test_ends_with_one_line_and_exit_code_1(
    hub: Hub, folder: Path, receiver: Receiver
) -> None:
    one = add(hub, receiver)
    receiver.misbehave("status", status=503)
    result = hub("subscription", "test", one)
    assert (result.code, len(result.errors)) == (1, 1)
    assert "503" in result.errors[0]


def test_an_answer_of_the_endpoint_cannot_play_with_the_terminal(
    hub: Hub, folder: Path, receiver: Receiver
) -> None:
    one = add(hub, receiver)
    hostile = "\x1b[2J\nerror: all is lost\r\u202egnp"
    receiver.misbehave("status", status=500, body=hostile)
    assert hub("subscription", "test", one).out == "\ufffd[2J error: all is lost \ufffdgnp\n"
    assert "\x1b" not in hub("subscription", "log", one).out
    assert hub("subscription", "log", one, "--json").json[0]["answer"] == hostile


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("add", "http://crm.example/", "--entity", "shop_item"), 1, "allow_http"),
        (("add", "https://10.0.0.1/", "--entity", "shop_item"), 1, "allow_networks"),
        (("add", "https://8.8.8.8/", "--entity", "shop_itm"), 1, "did you mean 'shop_item'"),
        (("add", "https://8.8.8.8/"), 2, "--entity"),
        (("add", "https://8.8.8.8/", "--entity", "shop_item", "--from", "then"), 2, "--from"),
        (("show", "sub_1"), 1, "hub subscription list"),
        (("show", "sub_1\udcff"), 2, "UTF-8"),
        (("rotate", "sub_1"), 1, "hub subscription list"),
        (("resend", "sub_1", "msg_1"), 1, "hub subscription list"),
        (("messages", "sub_1", "--state", "sent"), 2, "--state"),
    ],
)
def test_bad_input_gets_one_line(
    hub: Hub, folder: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = hub("subscription", *arguments)
    assert (result.code, len(result.errors)) == (code, 1)
    assert said in result.errors[0]


def test_changes_reach_a_subscriber_of_a_running_server(
    hub: Hub, folder: Path, receiver: Receiver
) -> None:
    with serving(folder):
        one = add(hub, receiver)
        assert hub("flow", "run", "shop_items").code == 0
        wait_for(lambda: len(set(receiver.keys)) == TOTAL, 60)
        commands = ("list", f"show {one}", f"log {one} --limit 2", f"messages {one} --limit 1")
        wait_for(lambda: hub("subscription", "show", one, "--json").json["unsent"] == 0)
        beside = [steady(hub("subscription", *line.split())) for line in commands]
        beside += [steady(hub("subscription", "show", "sub_1"))]
        key = hub("records", "show", "shop_item", "7", "--json")
    alone = [steady(hub("subscription", *line.split())) for line in commands]
    assert beside == [*alone, steady(hub("subscription", "show", "sub_1"))]
    assert key.json == hub("records", "show", "shop_item", "7", "--json").json
    assert receiver.badly_signed == 0
    message = receiver.ids[0]
    assert hub("subscription", "resend", one, message).code == 0
