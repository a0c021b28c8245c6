from __future__ import annotations

import orjson
import pytest

from connectors.iot.session_limits import rpc_answer
from connectors.iot.thingsboard import (
    decode_attributes,
    decode_connect,
    decode_disconnect,
    decode_gateway_attributes,
    decode_gateway_telemetry,
    decode_telemetry,
)
from hub.sdk.telemetry import Decoded, Refused, State

NOW = 1_795_329_338_228


def device(value: object) -> Decoded:
    return decode_telemetry(orjson.dumps(value), {}, NOW)


def gateway(value: object) -> Decoded:
    return decode_gateway_telemetry(orjson.dumps(value), {}, NOW)


def test_a_plain_object_has_the_time_of_its_receipt() -> None:
    decoded = device({"temperature": 21.5, "on": True})
    assert decoded.samples == [("", "temperature", NOW, 21.5), ("", "on", NOW, 1.0)]
    assert decoded.texts == [("", "on", NOW, "true")]


def test_timed_and_plain_objects_may_be_mixed_in_an_array() -> None:
    decoded = device([{"ts": 1_700_000_000_000.9, "values": {"a": 1}}, {"a": 2}])
    assert decoded.samples == [("", "a", 1_700_000_000_000, 1.0), ("", "a", NOW, 2.0)]


@pytest.mark.parametrize("entry", [{"ts": 5}, {"values": 5}])
def test_only_ts_and_values_together_make_an_object_timed(entry: dict[str, int]) -> None:
    (name,) = entry
    assert device(entry).samples == [("", name, NOW, 5.0)]


def test_a_time_that_says_nothing_is_the_receipt() -> None:
    assert device({"ts": None, "values": {"a": 1}}).samples == [("", "a", NOW, 1.0)]


def test_one_bad_entry_does_not_spoil_the_others() -> None:
    entries = [{"a": 1}, 5, {"ts": "soon", "values": {}}, {"ts": 1, "values": [1]}, {"a": 2}]
    decoded = device(entries)
    assert [one[3] for one in decoded.samples] == [1.0, 2.0]
    assert [(one.place, one.code) for one in decoded.refused] == [
        (1, "malformed"),
        (2, "bad_time"),
        (3, "malformed"),
    ]


@pytest.mark.parametrize("body", [b"5", b'"a"', b"null", b"", b"{", b"\xff"])
def test_what_is_neither_object_nor_array_is_malformed(body: bytes) -> None:
    for decode in (decode_telemetry, decode_gateway_telemetry, decode_attributes, decode_connect):
        (refused,) = decode(body, {}, NOW).refused
        assert (refused.place, refused.code) == (-1, "malformed")


def test_a_gateway_speaks_for_many_devices() -> None:
    entry = {"ts": 1_700_000_000_000, "values": {"t": 1}, "metadata": {"publishedTs": 5}}
    decoded = gateway({"A": [entry, {"t": 2}], "B": [{"t": "3.3"}], "C": []})
    assert decoded.samples == [
        ("A", "t", 1_700_000_000_000, 1.0),
        ("A", "t", NOW, 2.0),
        ("B", "t", NOW, 3.3),
    ]
    assert decoded.refused == []


def test_refusals_in_a_gateways_message_name_device_and_position() -> None:
    decoded = gateway({"A": [{"t": 1}, 7], "": [{"t": 1}], "B": [{"ts": [], "values": {}}]})
    assert [(one.place, one.code, one.device) for one in decoded.refused] == [
        (1, "malformed", "A"),
        (-1, "name", ""),
        (2, "bad_time", "B"),
    ]
    assert len(decoded.samples) == 1


def test_attributes_are_of_the_sender_or_of_a_gateways_devices() -> None:
    decoded = decode_attributes(b'{"fw":"1.2","serial":"007"}', {}, NOW)
    assert decoded.attributes == {"": {"fw": "1.2", "serial": "007"}}
    decoded = decode_gateway_attributes(b'{"A":{"x":1},"B":5}', {}, NOW)
    assert decoded.attributes == {"A": {"x": 1}}
    assert [(one.place, one.code, one.device) for one in decoded.refused] == [(1, "malformed", "B")]


def test_connect_and_disconnect_say_where_a_device_is() -> None:
    decoded = decode_connect(b'{"device":"A","type":"pump"}', {}, NOW)
    assert decoded.states == [State("A", "online", NOW)]
    assert decoded.kinds == {"A": "pump"}
    decoded = decode_disconnect(b'{"device":"A"}', {}, NOW)
    assert decoded.states == [State("A", "offline", NOW)]
    assert decoded.kinds == {}


def test_connect_needs_a_device() -> None:
    assert decode_connect(b"{}", {}, NOW).refused == [Refused(-1, "no_device", "NoneType")]
    assert decode_connect(b'{"device":""}', {}, NOW).refused == [Refused(-1, "name", "")]


def test_session_limits_are_answered() -> None:
    body = rpc_answer(b'{"method":"getSessionLimits","params":{"timeout":5000}}')
    assert body is not None
    assert orjson.loads(body) == {
        "maxPayloadSize": 65536,
        "maxInflightMessages": 100,
        "payloadType": "JSON",
        "rateLimits": {},
        "gatewayRateLimits": {},
    }


@pytest.mark.parametrize("body", [b"", b"5", b"{}", b'{"method":5}'])
def test_what_is_no_call_has_no_answer(body: bytes) -> None:
    assert rpc_answer(body) is None
    assert rpc_answer(b'{"method":"other"}') == b"{}"
