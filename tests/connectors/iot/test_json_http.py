from __future__ import annotations

import base64
from typing import Any

import pytest

from connectors.iot.cloud_events_http import EVENTS, CloudEventsFace
from connectors.iot.decoders import DECODERS
from connectors.iot.json_http import MappedFace, ReadingsFace
from hub.sdk.telemetry import Counts, Decoded
from hub.sdk.telemetry_source import ClockPolicy, JsonMapping
from tests.connectors.iot.asking import NOW, StillPort, ask, port_with, told

READINGS = "/telemetry/v1/readings"
DEVICE = {"authorization": "Bearer PUMP"}
GATE = {"authorization": "Bearer GW"}


def reading(device: str | None = "A", ts: Any = NOW, **values: Any) -> dict[str, Any]:
    found = {"ts": ts, "values": values or {"t": 1.5}}
    return found if device is None else {"device": device, **found}


def push(port: StillPort, body: Any, address: str = READINGS, **how: Any) -> tuple[int, Any]:
    answer = ask(ReadingsFace(port), address, body, **how)
    return answer.status, told(answer)


def kept(port: StillPort, at: int = -1) -> Decoded:
    """What the projector will read of a message."""
    message = port.kept[at]
    return DECODERS[message.format](message.body, message.details, message.received_at)


@pytest.mark.parametrize("wrap", [lambda one: {"readings": one}, lambda one: one])
def test_a_list_of_readings_is_kept_in_an_object_or_bare(wrap: Any) -> None:
    port = port_with()
    status, answer = push(port, wrap([reading(), reading("B", "2026-11-25T16:00:00+08:00", n=2)]))
    assert (status, answer["accepted"], answer["rejected"]) == (200, 2, [])
    assert kept(port).samples == [("A", "t", NOW, 1.5), ("B", "n", NOW, 2.0)]


def test_a_reading_per_line_is_told_by_its_media_type() -> None:
    port = port_with()
    body = b'{"device":"A","values":{"t":1}}\r\n\n{"device":\n{"device":"B","values":{"t":2}}'
    headers = {**GATE, "content-type": "application/x-ndjson; charset=utf-8"}
    status, answer = push(port, body, headers=headers)
    assert (status, answer["accepted"]) == (200, 2)
    assert answer["rejected"] == [{"index": 1, "code": "malformed"}]
    assert kept(port).samples == [("A", "t", NOW, 1.0), ("B", "t", NOW, 2.0)]


def test_messages_and_refusals_are_counted_for_the_operator() -> None:
    port = port_with()
    push(port, [reading()])
    push(port, b"{")
    assert port.counted == {("readings", "messages"): 1, ("readings", "refused"): 1}


def test_the_projectors_counts_are_told_when_they_come_in_time() -> None:
    port = port_with()
    port.answer = Counts(accepted=3, duplicates=2, restated=1, refused=4)
    _, answer = push(port, [reading()])
    assert answer == {"accepted": 3, "duplicates": 2, "restated": 1, "rejected": []}
    assert port.kept[0].counted


def test_without_them_the_answer_is_what_was_kept() -> None:
    port = port_with()
    _, answer = push(port, [reading(a=1, b=True, c="x", d=None, e="true")])
    assert answer == {
        "accepted": 4,
        "duplicates": 0,
        "restated": 0,
        "pending": True,
        "rejected": [],
    }


def test_bad_readings_are_told_by_position_and_the_others_kept() -> None:
    port = port_with()
    body = [
        reading(),
        5,
        reading(ts="2026-11-25T16:00:00"),
        reading(ts="soon"),
        reading(None),
        reading(""),
        reading(t="NaN", u="NaN"),
        reading(ts=NOW + 301_000),
        reading(ts=5),
        reading("B"),
    ]
    status, answer = push(port, body)
    assert (status, answer["accepted"]) == (200, 2)
    assert [(one["index"], one["code"]) for one in answer["rejected"]] == [
        (1, "malformed"),
        (2, "no_zone"),
        (3, "bad_time"),
        (4, "no_device"),
        (5, "name"),
        (6, "invalid"),
        (7, "future"),
        (8, "clock_unset"),
    ]


def test_a_future_that_the_source_takes_is_not_rejected() -> None:
    port = port_with(clock=ClockPolicy(future_policy="receive_time"))
    assert push(port, [reading(ts=NOW + 10**9)])[1]["rejected"] == []


def test_text_without_offset_is_in_the_zone_of_the_source() -> None:
    port = port_with(zone="Asia/Shanghai")
    assert push(port, [reading(ts="2026-11-25T16:00:00")])[1]["rejected"] == []
    assert kept(port).samples == [("A", "t", NOW, 1.5)]


def test_strict_keeps_all_or_nothing() -> None:
    port = port_with()
    status, answer = push(port, [reading(), reading(ts="soon")], READINGS + "?strict=1")
    assert (status, answer["accepted"]) == (422, 0)
    assert answer["rejected"] == [{"index": 1, "code": "bad_time"}]
    assert port.kept == []
    assert len(port.quarantined) == 1
    assert push(port, [reading()], READINGS + "?strict=1")[0] == 200


def test_a_device_speaks_for_itself_alone() -> None:
    port = port_with()
    body = [reading(None), reading("pump-7"), reading("pump-8")]
    _, answer = push(port, body, headers=DEVICE)
    assert answer["rejected"] == [{"index": 2, "code": "unknown_device"}]
    assert [one[0] for one in kept(port).samples] == ["", ""]


def test_a_gateway_that_names_itself_is_the_sender() -> None:
    port = port_with()
    push(port, [reading("gw"), reading("A")])
    assert [one[0] for one in kept(port).samples] == ["", "A"]


@pytest.mark.parametrize("body", [b"", b"5", b'{"a":1}', b'{"readings":5}', b"{", b"\xff\xfe[]"])
def test_what_holds_no_readings_is_refused_and_put_aside(body: bytes) -> None:
    port = port_with()
    status, answer = push(port, body)
    assert (status, answer["code"]) == (400, "telemetry.malformed")
    assert port.kept == []
    assert len(port.quarantined) == 1


def test_more_than_ten_thousand_readings_are_too_many() -> None:
    port = port_with()
    assert push(port, [reading()] * 10_000)[0] == 200
    assert push(port, [reading()] * 10_001)[0] == 413
    ndjson = {**GATE, "content-type": "application/x-ndjson"}
    assert push(port, b"\n" * 10_001, headers=ndjson)[0] == 413
    assert push(port, b'{"device":"A","values":{}}\n' * 10_000, headers=ndjson)[0] == 200


def test_a_repeated_key_keeps_a_body_once() -> None:
    port = port_with()
    headers = {**GATE, "idempotency-key": "k-1"}
    push(port, [reading()], headers=headers)
    _, answer = push(port, [reading()], headers=headers)
    assert (answer["accepted"], answer["duplicates"]) == (0, 1)
    push(port, [reading("B")], headers=headers)
    push(port, [reading(None)], headers={**DEVICE, "idempotency-key": "k-1"})
    assert len(port.kept) == 3
    assert len({one.key for one in port.kept}) == 3


def test_what_strict_refused_may_be_sent_again_without_it() -> None:
    port = port_with()
    headers = {**GATE, "idempotency-key": "k-1"}
    body = [reading(), 5]
    assert push(port, body, READINGS + "?strict=1", headers=headers)[0] == 422
    ((aside, _),) = port.quarantined
    assert push(port, body, headers=headers)[1]["accepted"] == 1
    assert aside.key not in ("", port.kept[0].key)


def test_credentials_come_in_several_forms() -> None:
    port = port_with()
    basic = base64.b64encode(b"gw:se:cret").decode()
    for header in ("Bearer GW", "bearer  GW", "Token GW", "GW", f"Basic {basic}"):
        assert push(port, [reading()], headers={"authorization": header})[0] == 200
        assert push(port, [reading()], headers={"x-authorization": header})[0] == 200


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer nobody", "Basic", "Basic !", "Basic Zw==", "B\udcff", "é"]
)
def test_other_credentials_are_401(header: str) -> None:
    answer = ask(ReadingsFace(port_with()), READINGS, [], headers={"authorization": header})
    assert answer.status == 401
    assert "WWW-Authenticate" in answer.headers


def test_the_refusal_speaks_the_senders_language() -> None:
    headers = {**GATE, "accept-language": "zh-CN,en"}
    assert "消息" in push(port_with(), b"{", headers=headers)[1]["detail"]


# --- mapped -----------------------------------------------------------------------------------


def test_mapped_json_is_read_by_the_sources_mapping() -> None:
    mapping = JsonMapping(
        each="rows", device="{line}/{$.sn}", metrics={"t": "v.temp"}, time={"path": "at"}
    )
    port = port_with(http={"press": mapping})
    face = MappedFace(port)
    body = {"rows": [{"sn": 7, "at": NOW, "v": {"temp": "3.5"}}, {"at": NOW}, {"sn": 8}]}
    answer = ask(face, "/telemetry/v1/mapped/press?line=L1", body)
    assert answer.status == 200
    assert told(answer)["accepted"] == 1
    assert told(answer)["rejected"] == [
        {"index": 1, "code": "no_device"},
        {"index": 2, "code": "malformed"},
    ]
    assert kept(port).samples == [("L1/7", "t", NOW, 3.5)]


def test_an_unknown_mapping_is_404() -> None:
    answer = ask(MappedFace(port_with()), "/telemetry/v1/mapped/press", {})
    assert (answer.status, told(answer)["code"]) == (404, "telemetry.no_mapping")


@pytest.mark.parametrize(
    ("face", "address", "allowed"),
    [
        (ReadingsFace, READINGS, "POST"),
        (MappedFace, "/telemetry/v1/mapped/press", "POST"),
        (CloudEventsFace, EVENTS, "OPTIONS, POST"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_method_is_405_and_told_which_to_use(
    face: Any, address: str, allowed: str, method: str
) -> None:
    port = port_with()
    for headers in ({}, GATE):
        answer = ask(face(port), address, [reading()], method=method, headers=headers)
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)
        assert told(answer)["code"] == "telemetry.method"
    assert port.kept == port.quarantined == []
