"""Clients that do not keep to the protocol, or stand still."""

from __future__ import annotations

import socket
import time

import pytest

from connectors.iot.mqtt.wire import Property, Reason, blob, text
from tests.connectors.iot.mqtt.client import connect, packet, publish, subscribe
from tests.connectors.iot.mqtt.desk import Desk, eventually

TELEMETRY = "v1/devices/me/telemetry"
BODY = b'{"a":1}'
VERSIONS = pytest.mark.parametrize("version", [4, 5])


@VERSIONS
def test_packets_that_come_byte_by_byte_are_packets(desk: Desk, version: int) -> None:
    client = desk.client(version=version)
    for byte in connect(version=version) + publish(TELEMETRY, BODY, 3, version=version):
        client.send(bytes((byte,)))
    assert client.read().kind == 2
    assert client.read_ids(1) == [3]


def test_a_client_need_not_wait_for_its_connack(desk: Desk) -> None:
    client = desk.client()
    client.send(connect(), publish(TELEMETRY, BODY, 1), publish(TELEMETRY, BODY, 2))
    assert client.read().kind == 2
    assert client.read_ids(2) == [1, 2]


def test_half_a_packet_is_waited_for_and_forgotten_with_its_connection(desk: Desk) -> None:
    client = desk.client()
    client.connect()
    client.send(publish(TELEMETRY, BODY, 1)[:-3])
    client.socket.close()
    assert desk.client().connect().body[1] == 0
    assert desk.kept() == []


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x30\xff\xff\xff\xff\x01", Reason.MALFORMED),
        (b"\x30\x80\x00", Reason.MALFORMED),
        (b"\x30\xff\xff\xff\x7f", Reason.TOO_LARGE),
        (connect(), Reason.PROTOCOL),
        (publish("a\0b", BODY, 1), Reason.MALFORMED),
        (packet(0x30, blob(b"\xed\xa0\x80") + b"\0"), Reason.MALFORMED),
        (packet(0x30, blob(b"\xc0\xaf") + b"\0"), Reason.MALFORMED),
        (publish("v1/+/me", BODY, 1), Reason.TOPIC),
        (publish("", BODY, 1), Reason.TOPIC_ALIAS),
        (publish(TELEMETRY, BODY, 1, values={Property.TOPIC_ALIAS: 1}), Reason.TOPIC_ALIAS),
        (publish(TELEMETRY, BODY, 0, qos=1), Reason.PROTOCOL),
        (publish(TELEMETRY, BODY, 1, qos=3), Reason.MALFORMED),
        (packet(0x32, text(TELEMETRY)), Reason.MALFORMED),
        (packet(0x32, b"\x00\x40a"), Reason.MALFORMED),
        (packet(0x30, b""), Reason.MALFORMED),
        (packet(0x80, b"\0\1\0"), Reason.MALFORMED),
        (subscribe(1), Reason.PROTOCOL),
        (subscribe(0, "a"), Reason.PROTOCOL),
        (subscribe(1, "a", options=3), Reason.PROTOCOL),
        (packet(0xC0, b"x"), Reason.MALFORMED),
        (packet(0xC1, b""), Reason.MALFORMED),
        (packet(0x00, b""), Reason.PROTOCOL),
        (packet(0x20, b"\0\0\0"), Reason.PROTOCOL),
        (packet(0x62, b"\0\1"), Reason.PROTOCOL),
        (packet(0xF0, b""), Reason.PROTOCOL),
        (packet(0xE0, b"\0\5\x11\0\0\0\x09"), Reason.PROTOCOL),
        (publish(TELEMETRY, BODY, 1, values={Property.PAYLOAD_FORMAT: 2}), Reason.PROTOCOL),
        (publish(TELEMETRY, BODY, 1, values={Property.SUBSCRIPTION_ID: 2}), Reason.PROTOCOL),
        (packet(0x30, text("a") + b"\x02\x7f\x01"), Reason.MALFORMED),
        (packet(0x30, text("a") + b"\x04\x01\x00\x01\x00"), Reason.PROTOCOL),
        (packet(0x30, text("a") + b"\x09\x01\x00"), Reason.MALFORMED),
    ],
)
def test_a_broken_packet_ends_the_connection_with_its_reason(
    desk: Desk, sent: bytes, reason: Reason
) -> None:
    client = desk.client()
    client.connect()
    client.send(sent)
    assert client.end() == reason
    assert desk.kept() == []


@pytest.mark.parametrize(
    "sent",
    [
        publish(TELEMETRY, BODY, 1),
        packet(0xC0, b""),
        connect(name=b"MQIsdp"),
        connect(name=b"HTTP"),
        b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x10\xff\xff\xff\x7f",
        connect()[:-1] + b"\xff",
        connect(values={Property.TOPIC_ALIAS: 1}),
        connect(values={Property.RECEIVE_MAXIMUM: 0}),
        connect(values={Property.AUTH_DATA: b"x"}),
        packet(0x10, blob(b"MQTT") + b"\x05\x03\0\0\0\0\0"),
        packet(0x10, blob(b"MQTT") + b"\x04\x42\0\0\0\0\0\1x"),
    ],
)
def test_who_does_not_begin_with_connect_hears_nothing(desk: Desk, sent: bytes) -> None:
    client = desk.client()
    client.send(sent)
    with pytest.raises(EOFError):
        client.read()


@pytest.mark.parametrize("level", [3, 6])
def test_another_version_of_the_protocol_is_told_so(desk: Desk, level: int) -> None:
    client = desk.client()
    client.send(connect(version=level))
    assert client.read().body == b"\0\1"


def test_methods_of_authentication_are_not_offered(desk: Desk) -> None:
    got = desk.client().connect(values={Property.AUTH_METHOD: "SCRAM"})
    assert got.body[1] == Reason.AUTH_METHOD


def test_a_will_is_accepted_and_never_sent(desk: Desk) -> None:
    client = desk.client()
    assert client.connect(will=b"gone").body[1] == 0
    client.socket.close()
    eventually(lambda: desk.presence()[-1:] == [("pump-1", b"offline")])
    assert desk.kept() == []


@VERSIONS
def test_a_packet_id_that_is_in_use_is_only_taken_as_a_repetition(desk: Desk, version: int) -> None:
    open_gate = desk.gate()
    client = desk.client(version=version)
    client.connect()
    client.publish(TELEMETRY, BODY, 4)
    client.publish(TELEMETRY, BODY, 4, dup=True)
    desk.kept(2)
    client.publish(TELEMETRY, BODY, 4)
    assert client.end() == (Reason.PROTOCOL if version == 5 else None)
    open_gate()


def test_a_packet_id_is_free_again_after_its_acknowledgement(desk: Desk) -> None:
    client = desk.client()
    client.connect()
    for _ in range(3):
        client.publish(TELEMETRY, BODY, 4)
        assert client.read_ids(1) == [4]


def test_who_says_nothing_is_cut_off(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.iot.mqtt.connection.CONNECT_SECONDS", 0.2)
    client = desk.client()
    client.send(connect()[:9])
    with pytest.raises(EOFError):
        client.read()
    assert desk.port.counted["mqtt", "no_connect"] == 1


def test_who_sends_no_pings_is_cut_off(desk: Desk) -> None:
    client, alive = desk.client(), desk.client()
    client.connect(keep_alive=1)
    alive.connect("T2", keep_alive=1)
    began = time.monotonic()
    reason = None
    while time.monotonic() - began < 2.5:
        alive.send(b"\xc0\0")
        assert alive.read().kind == 13
        time.sleep(0.2)
    reason = client.end()
    assert reason == Reason.KEEP_ALIVE
    assert alive.is_silent()


def test_a_reader_that_is_too_slow_is_not_served_on_and_costs_little(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.iot.mqtt.connection._SLOW_READER_SECONDS", 1.0)
    client = desk.client(version=4)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect()
    client.subscribe("#")
    client.socket.settimeout(1.0)
    call = publish("v1/devices/me/rpc/request/1", b'{"method":"getSessionLimits"}', version=4)
    with pytest.raises((TimeoutError, ConnectionError)):
        client.send(call * 1_000_000)
    eventually(lambda: desk.port.counted["mqtt", "slow_reader"] == 1)


def test_too_many_connections_are_turned_away(desk: Desk) -> None:
    desk.start(most_connections=2)
    first, second = desk.client(), desk.client()
    assert first.connect(client_id="one").body[1] == 0
    assert second.connect(client_id="two").body[1] == 0
    third = desk.client()
    assert third.connect(client_id="three").body[1] == Reason.BUSY
    assert third.end() is None
    first.socket.close()
    eventually(lambda: desk.client().connect(client_id="four").body[1] == 0)


def test_a_packet_of_a_megabyte_in_small_pieces_takes_no_time(desk: Desk) -> None:
    client = desk.client()
    client.connect()
    body = b'{"a":"' + b"x" * 1_000_000 + b'"}'
    sent = publish(TELEMETRY, body, 1)
    for at in range(0, len(sent), 1000):
        client.send(sent[at : at + 1000])
    assert client.read_ids(1) == [1]
    assert len(desk.kept(1)[0].body) == len(body)
