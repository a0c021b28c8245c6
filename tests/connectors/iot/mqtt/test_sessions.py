"""What stays of a client between its connections, and who is told that it came or went."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from connectors.iot.mqtt.session import MOST_SUBSCRIPTIONS, Sessions
from connectors.iot.mqtt.topics import is_filter, matches
from connectors.iot.mqtt.wire import Property, Reason
from hub.sdk.telemetry import Sender
from tests.connectors.iot.mqtt.client import unsubscribe
from tests.connectors.iot.mqtt.desk import Desk, eventually

CALL = b'{"method":"getSessionLimits"}'
VERSIONS = pytest.mark.parametrize("version", [4, 5])


@VERSIONS
def test_the_same_client_id_takes_the_session_over(desk: Desk, version: int) -> None:
    old, new = desk.client(version=version), desk.client(version=version)
    old.connect()
    new.connect()
    assert old.end() == (Reason.TAKEN_OVER if version == 5 else None)
    assert new.is_silent()
    assert desk.listener is not None
    assert desk.listener.status()["connections"] == 1
    assert desk.presence() == [("pump-1", b"online")]


def test_the_same_client_id_of_another_device_is_another_client(desk: Desk) -> None:
    one, two = desk.client(), desk.client()
    one.connect("T1")
    two.connect("T2")
    assert one.is_silent()
    assert two.is_silent()


@pytest.mark.parametrize(
    ("version", "more"),
    [(4, {"clean": False}), (5, {"clean": False, "values": {Property.SESSION_EXPIRY: 60}})],
)
def test_a_session_that_stays_remembers_its_subscriptions(
    desk: Desk, version: int, more: dict[str, Any]
) -> None:
    client = desk.client(version=version)
    assert client.connect(**more).body[0] == 0
    client.subscribe("v1/devices/me/rpc/response/+")
    client.socket.close()
    eventually(lambda: ("pump-1", b"offline") in desk.presence())
    client = desk.client(version=version)
    assert client.connect(**more).body[0] == 1
    client.publish("v1/devices/me/rpc/request/1", CALL)
    assert client.read_message()[0] == "v1/devices/me/rpc/response/1"


@pytest.mark.parametrize(("version", "more"), [(4, {}), (5, {"clean": False})])
def test_a_session_without_an_expiry_ends_with_its_connection(
    desk: Desk, version: int, more: dict[str, Any]
) -> None:
    client = desk.client(version=version)
    client.connect(**more)
    client.subscribe("#")
    client.send(b"\xe0\0")
    assert client.end() is None
    eventually(lambda: ("pump-1", b"offline") in desk.presence())
    client = desk.client(version=version)
    assert client.connect(clean=False).body[0] == 0


def test_whoever_lost_a_credential_is_sent_away(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.iot.mqtt.listener._REVOKED_SECONDS", 0.05)
    gone, other = desk.client(), desk.client()
    gone.connect("T1")
    other.connect("T2")
    desk.port.newly_revoked = [desk.port.tokens["T1"]]
    assert gone.end() == 0x87
    assert other.is_silent()


def test_a_session_taken_over_keeps_its_subscriptions(desk: Desk) -> None:
    more = {"clean": False, "values": {Property.SESSION_EXPIRY: 60}}
    old, new = desk.client(), desk.client()
    old.connect(**more)
    old.subscribe("#")
    assert new.connect(**more).body[0] == 1
    new.publish("v1/devices/me/rpc/request/1", CALL)
    assert new.read_message()[0] == "v1/devices/me/rpc/response/1"


def test_a_session_may_be_ended_with_the_last_packet(desk: Desk) -> None:
    client = desk.client()
    client.connect(values={Property.SESSION_EXPIRY: 60})
    client.send(b"\xe0\x07\0\x05\x11\0\0\0\0")
    assert client.end() is None
    assert desk.client().connect(clean=False).body[0] == 0


def test_an_expiry_that_is_too_long_is_answered_with_ours(desk: Desk) -> None:
    got = desk.client().connect(values={Property.SESSION_EXPIRY: 0xFFFFFFFF})
    assert bytes((Property.SESSION_EXPIRY,)) + (86_400).to_bytes(4, "big") in got.body


@pytest.mark.parametrize(("clean", "code"), [(True, 0), (False, 2)])
def test_version_3_without_a_client_id_must_be_clean(desk: Desk, clean: bool, code: int) -> None:
    assert desk.client(version=4).connect(client_id="", clean=clean).body == bytes((0, code))


def test_a_filter_can_be_taken_back(desk: Desk) -> None:
    client = desk.client()
    client.connect()
    client.subscribe("#")
    client.send(unsubscribe(3, "#", "never"))
    assert client.read().body == b"\0\3\0\0\x11"


def test_online_and_offline_are_told_once_however_many_connections_a_device_has(
    desk: Desk,
) -> None:
    one, two = desk.client(), desk.client()
    one.connect(client_id="a")
    two.connect(client_id="b")
    one.socket.close()
    assert two.is_silent()
    two.socket.close()
    eventually(lambda: desk.presence() == [("pump-1", b"online"), ("pump-1", b"offline")])


def test_when_the_hub_stops_no_device_has_gone(desk: Desk) -> None:
    open_gate = desk.gate()
    client = desk.client()
    client.connect()
    client.publish("v1/devices/me/telemetry", b'{"a":1}', 1)
    desk.kept(1)
    assert desk.listener is not None
    stopped = asyncio.run_coroutine_threadsafe(desk.listener.stop(), desk.loop)
    assert client.is_silent()
    open_gate()
    assert client.read_ids(1) == [1]
    assert client.end() == Reason.SHUTTING_DOWN
    client.socket.close()
    stopped.result(10)
    assert desk.presence() == [("pump-1", b"online")]


def test_the_operating_view_counts_and_names_the_latest_trouble(desk: Desk) -> None:
    client = desk.client()
    client.connect("G1")
    bad = desk.client()
    bad.connect("nobody")
    assert desk.listener is not None
    status = desk.listener.status()
    assert status["connections"] == status["gateways"] == status["sessions"] == 1
    assert status["port"] == client.socket.getpeername()[1]
    assert status["trouble"][-1]["outcome"] == "unauthorized"


# --- without sockets ----------------------------------------------------------------------------


def test_sessions_are_forgotten_when_their_time_is_over() -> None:
    sessions, sender = Sessions(), Sender("iot", "d")
    session, _ = sessions.open(sender, "c", 0.0, clean=False)
    sessions.leave(session, 10, 0.0)
    sessions.sweep(9.0)
    assert sessions.open(sender, "c", 9.0, clean=False) == (session, True)
    sessions.leave(session, 10, 20.0)
    sessions.sweep(31.0)
    assert len(sessions) == 0


def test_a_session_holds_only_so_many_subscriptions() -> None:
    session, _ = Sessions().open(Sender("iot", "d"), "c", 0.0, clean=True)
    for number in range(MOST_SUBSCRIPTIONS):
        assert session.subscribe(f"t/{number}", 2, shared=True) == 1
    assert session.subscribe("one/more", 0, shared=True) == Reason.QUOTA
    assert session.subscribe("t/1", 0, shared=True) == 0


@pytest.mark.parametrize(
    ("given", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("+/b", "a/b", True),
        ("a/b/#", "a", False),
        ("a", "a/b", False),
    ],
)
def test_filters(given: str, topic: str, expected: bool) -> None:
    assert is_filter(given)
    assert matches(given, topic) is expected


@pytest.mark.parametrize("given", ["", "a#", "a/#/b", "a+/b", "#/a", "x" * 513])
def test_what_is_no_filter(given: str) -> None:
    assert not is_filter(given)
