"""`hub devices …` and `hub telemetry …`, alone and beside a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub.engine.deployment import open_deployment
from hub.sdk.telemetry import Sender
from hub.store.telemetry.credentials import find_token, token_lookup
from hub.store.telemetry.database import open_telemetry, open_telemetry_inbox
from hub.store.telemetry.devices import (
    Latest,
    NewDevice,
    create_devices,
    create_series,
    find_series,
    set_latest,
)
from hub.store.telemetry.inbox import NewMessage, append
from hub.store.telemetry.quarantine import Quarantined, add_quarantined
from tests.cli.conftest import Hub
from tests.cli.test_serve import serving


def holder(folder: Path, token: str) -> Sender | None:
    store = open_telemetry(open_deployment(folder).telemetry_url)
    try:
        with store.reading() as connection:
            return find_token(connection, token_lookup(token))
    finally:
        store.close()


def seed(folder: Path, **state: Any) -> None:
    """A device `A` behind gateway `gw`, and one of the same name that speaks for itself."""
    store = open_telemetry(open_deployment(folder).telemetry_url)
    try:
        with store.transaction() as connection:
            rows = [
                NewDevice("default", gateway, "A", "iot", state.get("state", "active"), "", "", 1)
                for gateway in ("gw", "")
            ]
            create_devices(connection, rows)
            create_series(connection, [(1, "vib_rms", ""), (2, "vib_rms", "")])
            known = find_series(connection, [(1, "vib_rms")])
            set_latest(connection, [Latest(known[1, "vib_rms"], 1_700_000_000_000, 2.5, 5)])
            for place in range(3):
                one = Quarantined(0, 7, place, 1000 + place, "iot", "gw", "A", "t", "invalid",
                                  "NaN", "iot.thingsboard", b"\xff{}")  # fmt: skip
                add_quarantined(connection, [one])
    finally:
        store.close()


def test_a_token_is_made_shown_once_and_kept_as_a_hash(hub: Hub, deployment: Path) -> None:
    made = hub("devices", "add", "pump-1")
    assert made.code == 0, made.err
    token = made.out.strip()
    assert holder(deployment, token) == Sender("iot", "pump-1", gateway=False)
    assert token not in hub("devices", "show", "pump-1").out
    assert token.encode() not in (deployment / "telemetry.db").read_bytes()


def test_a_gateway_and_its_own_token(hub: Hub, deployment: Path) -> None:
    made = hub("devices", "add", "网关-1", "--gateway", "--token", "A1_TEST_TOKEN", "--json")
    assert made.code == 0, made.err
    assert "token" not in made.json
    assert holder(deployment, "A1_TEST_TOKEN") == Sender("iot", "网关-1", gateway=True)


def test_a_revoked_token_admits_nobody(hub: Hub, deployment: Path) -> None:
    token = hub("devices", "add", "pump-1").out.strip()
    credential = hub("devices", "show", "pump-1", "--json").json["credentials"][0]["id"]
    assert hub("devices", "revoke", "pump-1", credential).code == 0
    assert holder(deployment, token) is None
    again = hub("devices", "revoke", "pump-1", credential)
    assert (again.code, len(again.errors)) == (1, 1)


def test_a_second_device_cannot_take_the_token_of_the_first(hub: Hub, deployment: Path) -> None:
    assert hub("devices", "add", "pump-1", "--token", "same-token").code == 0
    second = hub("devices", "add", "pump-2", "--token", "same-token")
    assert second.code == 1
    assert "in use already" in second.errors[0]
    assert "same-token" not in second.err
    assert holder(deployment, "same-token") == Sender("iot", "pump-1")


def test_what_is_said_of_a_device_is_listed_and_audited(hub: Hub, deployment: Path) -> None:
    hub("devices", "add", "pump-1")
    said = ("--class", "pump", "--zone", "Asia/Shanghai", "--customer", "C1", "--serial", "SN9")
    done = hub("devices", "set", "pump-1", *said, "--attribute", "site=ningbo", "--json")
    assert done.code == 0, done.err
    row = hub("devices", "list", "--class", "pump", "--json").json["items"][0]
    assert (row["zone"], row["customer_id"], row["serial_no"]) == ("Asia/Shanghai", "C1", "SN9")
    assert done.json["shared_attributes"] == {"site": "ningbo"}
    removed = hub("devices", "set", "pump-1", "--attribute", "site=", "--json")
    assert removed.json["shared_attributes"] == {}
    actions = [one["action"] for one in hub("audit", "list", "--json").json]
    assert actions == ["device.change", "device.change", "device.add"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("devices", "add", " "), "no name of a device"),
        (("devices", "add", "pump\u202e"), "no name of a device"),
        (("devices", "add", "p", "--token", "short"), "a token has"),
        (("devices", "add", "p", "--token", "has/slash-in-it"), "a token has"),
        (("devices", "add", "p", "--certificate", "zz"), "64 hexadecimal"),
        (("devices", "add", "p", "--source", "iott"), "did you mean"),
        (("devices", "show", "nobody"), "no device"),
        (("devices", "set", "pump-1", "--zone", "Asia/Ningbo"), "unknown time zone"),
        (("devices", "set", "pump-1", "--unit", "vib=mm/s"), "no metric"),
        (("devices", "set", "pump-1", "--attribute", "site"), "NAME=VALUE"),
        (("devices", "list", "--silent", "soon"), "soon"),
        (("telemetry", "quarantine", "--after", "x"), "no place"),
    ],
)
def test_bad_input_ends_with_one_line(
    hub: Hub, deployment: Path, arguments: tuple[str, ...], said: str
) -> None:
    hub("devices", "add", "pump-1")
    done = hub(*arguments)
    assert (done.code, len(done.errors)) == (1, 1), done.err
    assert said in done.errors[0]


def test_two_devices_of_one_name_are_told_apart_by_id(hub: Hub, deployment: Path) -> None:
    seed(deployment)
    done = hub("devices", "show", "A")
    assert done.code == 1
    assert "1 (" in done.errors[0]
    assert "2 (" in done.errors[0]
    rows = [hub("devices", "show", number, "--json").json for number in ("1", "2")]
    assert {row["gateway"] for row in rows} == {None, "gw"}
    assert rows[0]["metrics"][0]["value"] == 2.5


def test_devices_are_approved_and_refused(hub: Hub, deployment: Path) -> None:
    seed(deployment, state="waiting")
    assert hub("devices", "approve", "1", "--json").json["state"] == "active"
    assert hub("devices", "refuse", "2", "--json").json["state"] == "refused"
    found = hub("devices", "list", "--state", "waiting", "--json").json["items"]
    assert found == []


def test_devices_are_listed_page_by_page(hub: Hub, deployment: Path) -> None:
    for number in range(5):
        assert hub("devices", "add", f"pump-{number}").code == 0
    names, after = [], "0"
    while after:
        page = hub("devices", "list", "--limit", "2", "--after", after, "--json").json
        names += [row["name"] for row in page["items"]]
        after = page["next"]
    assert names == [f"pump-{number}" for number in range(5)]
    assert [row["name"] for row in hub("devices", "list", "--name", "-3", "--json").json["items"]]


def test_the_quarantine_is_read_page_by_page(hub: Hub, deployment: Path) -> None:
    seed(deployment)
    first = hub("telemetry", "quarantine", "--limit", "2", "--json").json
    rest = hub("telemetry", "quarantine", "--after", first["next"], "--json").json
    places = [row["position"] for row in first["items"] + rest["items"]]
    assert places == [2, 1, 0]
    assert rest["items"][0]["sample"] == "\\xff{}"
    assert hub("telemetry", "quarantine", "--code", "future", "--json").json["items"] == []


def test_the_status_of_an_idle_hub(hub: Hub, deployment: Path) -> None:
    seed(deployment)
    found = hub("telemetry", "status", "--json").json
    assert found["sources"][0]["devices_active"] == 2
    assert [row["gateway"] for row in found["gateways"]] == ["gw"]
    assert hub("telemetry", "status").code == 0


def test_a_running_server_answers_the_same(hub: Hub, deployment: Path) -> None:
    with serving(deployment):
        made = hub("devices", "add", "a/b", "--json")
        assert made.code == 0, made.err
        assert holder(deployment, made.json["token"]) == Sender("iot", "a/b")
        shown = hub("devices", "show", "a/b", "--json").json
        assert hub("devices", "set", "a/b", "--title", "泵", "--json").json["title"] == "泵"
        revoked = hub("devices", "revoke", "a/b", shown["credentials"][0]["id"], "--json")
        assert revoked.json["revoked"] is True
        assert hub("devices", "list", "--json").json["items"][0]["name"] == "a/b"
        assert hub("telemetry", "status", "--json").code == 0
        assert hub("telemetry", "quarantine", "--json").json == {"items": [], "next": None}
    listed = hub("devices", "list", "--json").json["items"]
    assert [row["title"] for row in listed] == ["泵"]


def test_the_doctor_names_messages_that_nobody_projects(hub: Hub, deployment: Path) -> None:
    assert hub("doctor", "--json").json["ok"] is True
    store = open_telemetry_inbox(open_deployment(deployment).telemetry_inbox_url)
    try:
        with store.transaction() as connection:
            old = NewMessage(0, 1, "iot", "gw", 1, "iot.thingsboard_gateway", "", 0, b"{}")
            append(connection, [old, old])
    finally:
        store.close()
    checks = {one["check"]: one for one in hub("doctor", "--json").json["checks"]}
    assert checks["telemetry"]["error"]["code"] == "telemetry.lag"
    assert checks["telemetry"]["error"]["params"]["messages"] == 2
