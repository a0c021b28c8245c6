from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from connectors.iot.cloud_events_http import BATCH, STRUCTURED, CloudEventsFace
from connectors.iot.decoders import DECODERS
from hub.sdk.errors import TransientError
from hub.sdk.telemetry import Decoded, HttpAnswer
from tests.connectors.iot.asking import NOW, StillPort, ask, port_with, told

EVENTS = "/telemetry/v1/events"
GATE = {"authorization": "Bearer GW"}
TIME = "2026-11-25T08:00:00Z"


def event(**given: Any) -> dict[str, Any]:
    base = {
        "specversion": "1.0",
        "id": "1",
        "source": "/press",
        "type": "reading",
        "subject": "A",
        "time": TIME,
        "data": {"t": 1.5},
    }
    return {name: value for name, value in {**base, **given}.items() if value is not None}


def send(port: StillPort, body: Any, media: str = STRUCTURED, **headers: str) -> HttpAnswer:
    given = {**GATE, "content-type": media, **headers}
    return ask(CloudEventsFace(port), EVENTS, body, headers=given)


def send_binary(port: StillPort, body: Any, **attributes: str) -> HttpAnswer:
    given = {"specversion": "1.0", "id": "1", "source": "/p", "type": "r", **attributes}
    headers = {"ce-" + name: value for name, value in given.items() if value}
    media = headers.pop("ce-media", "application/json")
    return send(port, body, media, **headers)


def kept(port: StillPort) -> Decoded:
    message = port.kept[-1]
    return DECODERS[message.format](message.body, message.details, message.received_at)


@pytest.mark.parametrize(
    "data",
    [
        {"t": 1.5},
        {"values": {"t": 1.5}},
        {"readings": [{"device": "A", "ts": NOW, "values": {"t": 1.5}}]},
        [{"values": {"t": "1.5"}}],
    ],
)
def test_subject_and_time_stand_for_what_the_data_does_not_say(data: Any) -> None:
    port = port_with()
    answer = send(port, event(data=data))
    assert (answer.status, told(answer)) == (200, {"accepted": 1, "duplicates": 0, "rejected": []})
    assert kept(port).samples == [("A", "t", NOW, 1.5)]


def test_the_data_of_a_structured_event_may_be_packed() -> None:
    port = port_with()
    packed = base64.b64encode(b'{"t": 1.5}').decode()
    assert send(port, event(data=None, data_base64=packed)).status == 200
    assert kept(port).samples == [("A", "t", NOW, 1.5)]


def test_a_binary_event_has_its_attributes_in_headers() -> None:
    port = port_with()
    answer = send_binary(port, {"t": 1.5}, subject="%E6%B3%B5%201", time=TIME)
    assert answer.status == 200
    assert kept(port).samples == [("泵 1", "t", NOW, 1.5)]
    assert send_binary(port, {"t": 1}, id="2", subject='"a \\" b"').status == 200
    assert [one[0] for one in kept(port).samples] == ['a " b']


def test_an_event_without_data_is_an_event() -> None:
    port = port_with()
    assert send(port, event(data=None)).status == 200
    assert send_binary(port, b"", id="2").status == 200
    assert len(port.kept) == 2


def test_source_and_id_recognise_an_event() -> None:
    port = port_with()
    send(port, event())
    assert told(send(port, event(data={"t": 9})))["duplicates"] == 1
    assert told(send_binary(port, {"t": 9}, source="/press", subject="A"))["duplicates"] == 1
    for other in (event(id="2"), event(source="/other")):
        assert told(send(port, other))["accepted"] == 1
    assert len(port.kept) == 3


def test_a_repeated_batch_with_a_new_event_loses_and_doubles_nothing() -> None:
    port = port_with()
    first = [event(id="1"), event(id="2")]
    assert told(send(port, first, BATCH))["accepted"] == 2
    again = send(port, [*first, event(id="3", data={"t": 3})], BATCH)
    assert told(again) == {"accepted": 1, "duplicates": 2, "rejected": []}
    assert kept(port).samples == [("A", "t", NOW, 3.0)]
    assert len(port.kept) == 3
    assert send(port, [], BATCH).status == 200


def test_bad_events_of_a_batch_are_put_aside_and_the_others_kept() -> None:
    port = port_with()
    late = event(id="6", time="2027-01-01T00:00:00Z")
    body = [event(), event(id=None), 5, event(id="4", data={"t": "NaN", "u": 1}), late]
    answer = send(port, body, BATCH)
    assert answer.status == 200
    assert told(answer)["accepted"] == 3
    assert [(one["index"], one["code"]) for one in told(answer)["rejected"]] == [
        (1, "malformed"),
        (2, "malformed"),
        (3, "invalid"),
        (4, "future"),
    ]
    ((_, refused),) = port.quarantined
    assert [one.place for one in refused] == [1, 2]


def test_a_batch_larger_than_the_queue_is_kept_in_turns() -> None:
    port = port_with()
    answer = send(port, [event(id=str(at)) for at in range(1000)], BATCH)
    assert told(answer)["accepted"] == 1000
    assert send(port, [5] * 10_001, BATCH).status == 413


def test_what_is_not_kept_is_to_be_sent_again() -> None:
    port = port_with()

    class Full(type(port)):  # type: ignore[misc]
        def keep(self, message: Any) -> Any:
            if len(self.kept) == 2:
                raise TransientError("telemetry.overload", retry_after=1)
            return super().keep(message)

    full = Full()
    full.tokens = port.tokens
    events = [event(id=str(at)) for at in range(4)]
    answer = send(full, events, BATCH)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    port.kept = full.kept
    assert told(send(port, events, BATCH)) == {"accepted": 2, "duplicates": 2, "rejected": []}


@pytest.mark.parametrize(
    "given",
    [
        {"id": None},
        {"id": ""},
        {"id": 5},
        {"source": None},
        {"type": None},
        {"specversion": None},
        {"specversion": "0.3"},
        {"subject": 5},
        {"subject": ""},
        {"time": "yesterday"},
        {"time": "2026-11-25T08:00:00"},
        {"time": 5},
        {"data": "text"},
        {"data": 5},
        {"data_base64": "e30="},
        {"data": None, "data_base64": "?"},
        {"data": None, "data_base64": 5},
        {"datacontenttype": "text/plain"},
        {"subject": None},
    ],
)
def test_an_event_that_is_none_is_refused_for_good(given: dict[str, Any]) -> None:
    port = port_with()
    assert send(port, event(**given)).status == 400
    assert port.kept == []
    assert len(port.quarantined) == 1


@pytest.mark.parametrize(
    "attributes",
    [{"id": ""}, {"specversion": "0.3"}, {"subject": "%FF"}, {"media": "text/csv"}, {"time": "x"}],
)
def test_a_binary_event_that_is_none_is_refused_for_good(attributes: dict[str, str]) -> None:
    port = port_with()
    assert send_binary(port, {"t": 1}, **attributes).status == 400
    assert len(port.quarantined) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"5", b"\xff"])
@pytest.mark.parametrize("media", [STRUCTURED, BATCH])
def test_what_is_no_json_is_refused_and_put_aside(body: bytes, media: str) -> None:
    port = port_with()
    assert send(port, body, media).status == 400
    assert [one.body for one, _ in port.quarantined] == [body]


def test_other_formats_are_not_taken_and_put_aside() -> None:
    port = port_with()
    assert send(port, b"x", "application/cloudevents+avro").status == 415
    assert send(port, event(), "application/json").status == 400
    assert [refused[0].code for _, refused in port.quarantined] == ["unsupported", "malformed"]
    assert port.kept == []


def test_more_than_ten_thousand_events_are_too_many() -> None:
    port = port_with()
    assert send(port, b"[" + b"{}," * 10_000 + b"{}]", BATCH).status == 413
    assert [refused[0].code for _, refused in port.quarantined] == ["too_many"]


def test_a_device_speaks_for_itself_alone() -> None:
    port = port_with()
    device = {"authorization": "Bearer PUMP"}
    assert send(port, event(subject=None), **device).status == 200
    assert [one[0] for one in kept(port).samples] == [""]
    assert send(port, event(id="2"), **device).status == 400


def test_a_time_without_offset_is_in_the_zone_of_the_source() -> None:
    port = port_with(zone="Asia/Shanghai")
    assert send(port, event(time="2026-11-25T16:00:00")).status == 200
    assert kept(port).samples[0][2] == NOW


def test_the_handshake_of_webhooks_is_answered() -> None:
    asked = {"webhook-request-origin": "events.example.com", "webhook-request-rate": "120"}
    answer = ask(CloudEventsFace(port_with()), EVENTS, method="OPTIONS", headers=asked)
    assert answer.status == 200
    assert answer.headers["WebHook-Allowed-Origin"] == "events.example.com"
    assert answer.headers["WebHook-Allowed-Rate"] == "*"
    assert "POST" in answer.headers["Allow"]
    plain = ask(CloudEventsFace(port_with()), EVENTS, method="OPTIONS", headers={})
    assert "WebHook-Allowed-Origin" not in plain.headers


def test_numbers_that_are_none_spoil_only_themselves_in_a_batch() -> None:
    port = port_with()
    raw = orjson.dumps([event(data={"t": 1, "u": 0})]).replace(b'"u":0', b'"u":NaN')
    assert told(send(port, raw, BATCH))["rejected"] == [{"index": 0, "code": "invalid"}]
    assert kept(port).samples == [("A", "t", NOW, 1.0)]
    assert [one.metric for one in kept(port).refused] == ["u"]
