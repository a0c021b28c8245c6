"""What devices and gateways get for what they send."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest

from connectors.iot.mqtt.wire import Property, Reason, Scan
from hub.sdk.errors import TransientError
from tests.connectors.iot.mqtt.client import publish
from tests.connectors.iot.mqtt.desk import Desk, eventually

VERSIONS = pytest.mark.parametrize("version", [4, 5])
TELEMETRY = "v1/devices/me/telemetry"


@VERSIONS
def test_a_message_is_acknowledged_only_after_its_commit(desk: Desk, version: int) -> None:
    open_gate = desk.gate()
    client = desk.client(version=version)
    client.connect()
    client.publish(TELEMETRY, b'{"rpm": 1}', 7)
    assert desk.kept(1)[0].body == b'{"rpm": 1}'
    assert client.is_silent()
    open_gate()
    assert client.read_ids(1) == [7]


def test_connack_names_the_limits_of_version_5(desk: Desk) -> None:
    got = desk.client().connect(client_id="")
    scan = Scan(got.body, 2, len(got.body))
    values = scan.properties(frozenset(Property), "CONNACK")
    assert got.body[:2] == b"\0\0"
    assert values.pop(Property.ASSIGNED_CLIENT_ID).startswith("hub-")
    assert values == {
        Property.MAXIMUM_QOS: 1,
        Property.RECEIVE_MAXIMUM: 200,
        Property.MAXIMUM_PACKET: 1_048_576,
        Property.SHARED_AVAILABLE: 0,
    }


@pytest.mark.parametrize(("version", "answer"), [(4, b"\0\5"), (5, b"\0\x87")])
def test_an_unknown_token_is_refused(desk: Desk, version: int, answer: bytes) -> None:
    client = desk.client(version=version)
    assert client.connect("nobody").body[:2] == answer
    assert client.end() is None
    assert desk.port.counted["mqtt", "unauthorized"] == 1


@pytest.mark.parametrize(("version", "answer"), [(4, b"\0\3"), (5, b"\0\x88")])
def test_when_credentials_cannot_be_looked_up_the_client_comes_again(
    desk: Desk, version: int, answer: bytes
) -> None:
    desk.port.trouble = TransientError("telemetry.store")
    client = desk.client(version=version)
    assert client.connect().body[:2] == answer


@VERSIONS
def test_user_name_and_password_admit(desk: Desk, version: int) -> None:
    desk.port.passwords["ada:secret"] = desk.port.tokens["T1"]
    assert desk.client(version=version).connect("ada", b"secret").body[1] == 0
    assert desk.client(version=version).connect("ada", b"wrong").body[1] != 0
    assert desk.client(version=version).connect("ada", b"\xff").body[1] != 0


@pytest.mark.parametrize(
    ("topic", "body", "kept_as"),
    [
        (TELEMETRY, b'[{"ts":1,"values":{"a":1}}]', "iot.thingsboard"),
        ("v2/t", b'{"a":1}', "iot.thingsboard"),
        ("v2/t/j", b'{"a":1}', "iot.thingsboard"),
        ("v1/devices/me/attributes", b'{"sn":"X"}', "iot.thingsboard_attributes"),
        ("v2/a", b'{"sn":"X"}', "iot.thingsboard_attributes"),
        ("v2/a/j", b'{"sn":"X"}', "iot.thingsboard_attributes"),
        ("v1/gateway/connect", b'{"device":"A","type":"pump"}', "iot.gateway_connect"),
        ("v1/gateway/disconnect", b'{"device":"A"}', "iot.gateway_disconnect"),
        ("v1/gateway/telemetry", b'{"A":[{"ts":1,"values":{"a":1}}]}', "iot.thingsboard_gateway"),
        ("v1/gateway/attributes", b'{"A":{"sn":"X"}}', "iot.thingsboard_gateway_attributes"),
    ],
)
def test_each_topic_is_kept_in_its_format(
    desk: Desk, topic: str, body: bytes, kept_as: str
) -> None:
    client = desk.client()
    client.connect("G1")
    client.publish(topic, body, 1)
    assert client.read_ids(1) == [1]
    kept = desk.kept(1)[0]
    assert (kept.format, kept.body, kept.sender.device) == (kept_as, body, "gateway-1")


@pytest.mark.parametrize(
    "topic", ["v1/gateway/rpc", "v1/gateway/claim", "v1/devices/me/rpc/response/3"]
)
def test_what_is_not_used_is_acknowledged_and_forgotten(desk: Desk, topic: str) -> None:
    client = desk.client()
    client.connect("G1")
    client.publish(topic, b"{}", 1)
    assert client.read_ids(1) == [1]
    assert desk.kept() == []


@pytest.mark.parametrize(
    ("topic", "body", "reason"),
    [
        (TELEMETRY, b"{", Reason.PAYLOAD_FORMAT),
        (TELEMETRY, b"\xff\xfe", Reason.PAYLOAD_FORMAT),
        ("v1/devices/me/rpc/request/1", b"7", Reason.PAYLOAD_FORMAT),
        ("v1/devices/me/attributes/request/1", b"[]", Reason.PAYLOAD_FORMAT),
        ("plant/7/temperature", b"{}", Reason.TOPIC),
        ("v1/devices/me/attributes/request/1/2", b"{}", Reason.TOPIC),
        ("v1/gateway/telemetry", b"{}", Reason.NOT_AUTHORIZED),
    ],
)
@VERSIONS
def test_what_can_never_be_read_is_acknowledged_and_quarantined(
    desk: Desk, version: int, topic: str, body: bytes, reason: Reason
) -> None:
    client = desk.client(version=version)
    client.connect()
    client.publish(topic, body, 5)
    got = client.read()
    expected = b"" if version == 4 else bytes((reason,))
    assert (got.kind, got.body) == (4, b"\0\5" + expected)
    message, refused = desk.port.quarantined[0]
    assert (message.body, refused[0].place) == (body, -1)
    assert desk.kept() == []


def test_one_bad_name_does_not_cost_the_other_devices_their_readings(desk: Desk) -> None:
    client = desk.client()
    client.connect("G1")
    body = b'{"":[{"ts":1,"values":{"a":1}}],"A":[{"ts":1,"values":{"a":1}}]}'
    client.publish("v1/gateway/telemetry", body, 1)
    assert client.read_ids(1) == [1]
    assert desk.kept(1)[0].body == body


@VERSIONS
def test_what_cannot_be_kept_now_is_not_acknowledged_and_the_client_comes_again(
    desk: Desk, version: int
) -> None:
    client = desk.client(version=version)
    client.connect()
    desk.port.trouble = TransientError("telemetry.store")
    client.publish(TELEMETRY, b'{"a":1}', 1)
    assert client.end() == (Reason.BUSY if version == 5 else None)
    assert desk.port.counted["mqtt", "messages"] == 0


def test_a_message_whose_room_went_to_others_waits_and_the_client_does_not_notice(
    desk: Desk,
) -> None:
    client = desk.client()
    client.connect()
    desk.port.trouble = TransientError("telemetry.overload")
    for number in (1, 2):
        client.publish(TELEMETRY, b'{"a":%d}' % number, number)
    assert client.is_silent()
    desk.port.trouble = None
    assert client.read_ids(2) == [1, 2]
    assert [one.body for one in desk.kept(2)] == [b'{"a":1}', b'{"a":2}']


def test_the_last_word_reaches_a_client_that_does_not_stop_sending(desk: Desk) -> None:
    client = desk.client()
    client.connect()
    desk.port.trouble = TransientError("telemetry.store")
    for number in range(1, 200):
        with suppress(OSError):
            client.publish(TELEMETRY, b'{"a":"%s"}' % (b"x" * 20_000), number)
    assert client.end() == Reason.BUSY


def test_a_commit_that_fails_ends_the_connection_after_the_acknowledgements_before_it(
    desk: Desk,
) -> None:
    client = desk.client()
    client.connect()
    real = desk.port.keep

    async def fail() -> None:
        raise TransientError("telemetry.store")

    desk.port.keep = lambda one: fail() if b"2" in one.body else real(one)  # type: ignore
    for number in (1, 2, 3):
        client.publish(TELEMETRY, b'{"a":%d}' % number, number)
    assert client.read_ids(1) == [1]
    assert client.end() == Reason.BUSY


# --- order and amount ---------------------------------------------------------------------------


@VERSIONS
def test_200_in_flight_are_acknowledged_in_the_order_of_their_arrival(
    desk: Desk, version: int
) -> None:
    open_gate = desk.gate()
    client = desk.client(version=version)
    client.connect()
    ids = [*range(200, 100, -1), *range(1, 101)]
    client.send(*[publish(TELEMETRY, b'{"a":1}', one, version=version) for one in ids])
    desk.kept(200)
    open_gate()
    assert client.read_ids(200) == ids


def test_a_commit_that_is_done_early_waits_for_its_turn(desk: Desk) -> None:
    client = desk.client()
    client.connect()
    waiting: list[Callable[[], None]] = []

    def keep(message: object) -> object:
        future = desk.loop.create_future()
        waiting.append(lambda: future.set_result(None))
        return future

    desk.port.keep = keep  # type: ignore
    client.send(*[publish(TELEMETRY, b'{"a":1}', one) for one in (1, 2, 3)])
    eventually(lambda: len(waiting) == 3)
    desk.do(waiting[2])
    desk.do(waiting[1])
    assert client.is_silent()
    desk.do(waiting[0])
    assert client.read_ids(3) == [1, 2, 3]


def test_more_than_the_receive_maximum_ends_a_connection_of_version_5(desk: Desk) -> None:
    desk.start(receive_maximum=10)
    desk.gate()
    client = desk.client()
    client.connect()
    client.send(*[publish(TELEMETRY, b'{"a":1}', one) for one in range(1, 12)])
    assert client.end() == Reason.RECEIVE_MAXIMUM


def test_before_version_5_more_are_simply_not_read(desk: Desk) -> None:
    desk.start(receive_maximum=10)
    open_gate = desk.gate()
    client = desk.client(version=4)
    client.connect()
    client.send(*[publish(TELEMETRY, b'{"a":1}', one, version=4) for one in range(1, 31)])
    assert client.is_silent()
    assert len(desk.kept()) == 10
    open_gate()
    assert client.read_ids(30) == list(range(1, 31))


@VERSIONS
def test_messages_of_qos_0_are_not_read_without_end_either(desk: Desk, version: int) -> None:
    desk.start(receive_maximum=10)
    open_gate = desk.gate()
    client = desk.client(version=version)
    client.connect()
    client.send(*[publish(TELEMETRY, b'{"a":1}', version=version) for _ in range(30)])
    assert client.is_silent()
    assert len(desk.kept()) == 10
    open_gate()
    desk.kept(30)


def test_without_room_nothing_is_read_until_there_is_room_again(desk: Desk) -> None:
    client = desk.client()
    client.connect()
    desk.port.free = 0.05
    client.publish(TELEMETRY, b'{"a":1}', 1)
    client.publish(TELEMETRY, b'{"a":2}', 2)
    assert client.is_silent()
    desk.port.free = 0.2
    assert client.is_silent()
    assert desk.kept() == []
    desk.port.free = 0.9
    assert client.read_ids(2) == [1, 2]


@pytest.mark.parametrize(("version", "reason"), [(4, None), (5, Reason.QOS)])
def test_qos_2_is_not_offered(desk: Desk, version: int, reason: Reason | None) -> None:
    client = desk.client(version=version)
    client.connect()
    client.publish(TELEMETRY, b"{}", 1, qos=2)
    assert client.end() == reason


# --- questions ----------------------------------------------------------------------------------


@VERSIONS
def test_the_limits_of_a_session_are_told(desk: Desk, version: int) -> None:
    client = desk.client(version=version)
    client.connect("G1")
    client.subscribe("v1/devices/me/rpc/response/+")
    call = {"method": "getSessionLimits", "params": {"timeout": 5000}}
    client.publish("v1/devices/me/rpc/request/1", json.dumps(call).encode(), 1)
    topic, body = client.read_message()
    assert topic == "v1/devices/me/rpc/response/1"
    assert json.loads(body) == {
        "maxPayloadSize": 65536,
        "maxInflightMessages": 100,
        "payloadType": "JSON",
        "rateLimits": {},
        "gatewayRateLimits": {},
    }
    assert client.read_ids(1) == [1]


def test_a_device_asks_for_its_attributes(desk: Desk) -> None:
    desk.port.client["pump-1"] = {"a": 1, "b": 2, "x": 3}
    desk.port.shared["pump-1"] = {"c": 4, "d": 5}
    client = desk.client()
    client.connect()
    client.subscribe("v1/devices/me/attributes/response/+")
    for asked, client_part, shared_part in (
        ({"clientKeys": "a,b", "sharedKeys": "c"}, {"a": 1, "b": 2}, {"c": 4}),
        ({"sharedKeys": "d"}, {}, {"d": 5}),
        ({}, {"a": 1, "b": 2, "x": 3}, {"c": 4, "d": 5}),
    ):
        client.publish("v1/devices/me/attributes/request/8", json.dumps(asked).encode())
        topic, body = client.read_message()
        assert topic == "v1/devices/me/attributes/response/8"
        assert json.loads(body) == {"client": client_part, "shared": shared_part}


def test_a_gateway_asks_for_attributes_of_its_devices(desk: Desk) -> None:
    desk.port.client["A"] = {"x": 1, "y": 2}
    desk.port.shared["A"] = {"limit": 5}
    client = desk.client()
    client.connect("G1")
    client.subscribe("v1/gateway/attributes/response")
    topic = "v1/gateway/attributes/request"
    client.publish(topic, b'{"id":1,"device":"A","client":true,"keys":["x"]}')
    assert json.loads(client.read_message()[1]) == {"id": 1, "device": "A", "values": {"x": 1}}
    client.publish(topic, b'{"id":2,"device":"A","client":false,"key":"limit"}')
    assert json.loads(client.read_message()[1]) == {"id": 2, "device": "A", "value": 5}


def test_answers_go_only_to_those_who_subscribed_them(desk: Desk) -> None:
    client = desk.client()
    client.connect()
    client.publish("v1/devices/me/rpc/request/1", b'{"method":"x"}', 1)
    assert client.read_ids(1) == [1]
    assert desk.port.counted["mqtt", "unsent"] == 1


def test_an_answer_larger_than_the_client_takes_is_not_sent(desk: Desk) -> None:
    client = desk.client()
    client.connect(values={Property.MAXIMUM_PACKET: 20})
    client.subscribe("#")
    client.publish("v1/devices/me/rpc/request/1", b'{"method":"getSessionLimits"}', 1)
    assert client.read_ids(1) == [1]


@VERSIONS
def test_subscriptions_are_recorded_and_answered_filter_by_filter(desk: Desk, version: int) -> None:
    client = desk.client(version=version)
    client.connect()
    got = client.subscribe("v1/devices/me/attributes", "v1/#", "bad#", "$share/g/x")
    granted = got.body[3:] if version == 5 else got.body[2:]
    assert struct.unpack_from("!H", got.body)[0] == 9
    assert granted == (b"\1\1\x8f\x9e" if version == 5 else b"\1\1\x80\1")


def test_changes_of_shared_attributes_reach_who_subscribed_them(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.iot.mqtt.shared.ROUND_SECONDS", 0.05)
    desk.port.shared["gateway-1"] = {"on": True, "old": 1}
    desk.port.shared["A"] = {"limit": 1}
    client = desk.client()
    client.connect("G1")
    client.publish("v1/gateway/connect", b'{"device":"A"}', 1)
    assert client.read_ids(1) == [1]
    client.subscribe("v1/devices/me/attributes", "v1/gateway/attributes")
    assert client.is_silent(0.3)
    desk.port.shared["gateway-1"] = {"on": False}
    assert client.read_message() == ("v1/devices/me/attributes", b'{"on":false}')
    assert client.read_message() == ("v1/devices/me/attributes", b'{"deleted":["old"]}')
    desk.port.shared["A"] = {"limit": 2}
    expected = ("v1/gateway/attributes", b'{"device":"A","data":{"limit":2}}')
    assert client.read_message() == expected
