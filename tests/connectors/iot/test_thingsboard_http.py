from __future__ import annotations

import asyncio

import pytest

from connectors.iot.thingsboard_http import ThingsBoardFace
from hub.sdk.errors import AuthError, ContractBroken, TransientError
from hub.sdk.telemetry import HttpRequest
from tests.connectors.iot.asking import PUMP, StillPort, ask, ask_async, port_with, told

API = "/api/v1/PUMP/"
REQUEST = HttpRequest("POST", API + "telemetry", {}, {})


@pytest.fixture
def port() -> StillPort:
    return port_with()


@pytest.fixture
def face(port: StillPort) -> ThingsBoardFace:
    return ThingsBoardFace(port, look_seconds=0.01)


def test_telemetry_is_kept_as_it_was_sent(face: ThingsBoardFace, port: StillPort) -> None:
    answer = ask(face, API + "telemetry", b'{"a": 1}', headers={"content-type": "text/plain"})
    assert (answer.status, answer.body) == (200, b"")
    (kept,) = port.kept
    assert (kept.sender, kept.format, kept.body) == (PUMP, "iot.thingsboard", b'{"a": 1}')


def test_attributes_are_an_object(face: ThingsBoardFace, port: StillPort) -> None:
    assert ask(face, API + "attributes", {"fw": "1.2"}).status == 200
    assert ask(face, API + "attributes", [{"fw": "1.2"}]).status == 400
    assert [one.format for one in port.kept] == ["iot.thingsboard_attributes"]
    assert len(port.quarantined) == 1


def test_what_cannot_be_read_is_refused_for_good_and_put_aside(
    face: ThingsBoardFace, port: StillPort
) -> None:
    answer = ask(face, API + "telemetry", b'{"a":')
    assert answer.status == 400
    assert answer.media_type == "application/problem+json"
    assert told(answer)["code"] == "telemetry.malformed"
    assert port.kept == []
    assert [one[1][0].code for one in port.quarantined] == ["malformed"]


def test_a_broken_entry_is_told_though_the_others_are_kept(
    face: ThingsBoardFace, port: StillPort
) -> None:
    answer = ask(face, API + "telemetry", [{"a": 1}, 5])
    assert answer.status == 400
    assert "malformed at 1" in told(answer)["detail"]
    assert len(port.kept) == 1


def test_a_value_that_cannot_be_kept_does_not_refuse_the_others(
    face: ThingsBoardFace, port: StillPort
) -> None:
    assert ask(face, API + "telemetry", b'{"a":1,"b":NaN}').status == 200
    assert ask(face, API + "telemetry", b'{"b":NaN}').status == 400
    assert len(port.kept) == len(port.quarantined) == 1


def test_an_unknown_token_is_401(face: ThingsBoardFace) -> None:
    answer = ask(face, "/api/v1/NOBODY/telemetry", {"a": 1})
    assert (answer.status, told(answer)["code"]) == (401, "telemetry.unknown_sender")


@pytest.mark.parametrize(
    ("code", "status"),
    [("telemetry.overload", 503), ("telemetry.store", 503), ("telemetry.disk_full", 507)],
)
def test_what_is_not_kept_is_to_be_sent_again(
    face: ThingsBoardFace, port: StillPort, code: str, status: int
) -> None:
    async def run() -> None:
        port.trouble = TransientError(code, retry_after=2.2)
        answer = await ask_async(face, API + "telemetry", b"{}")
        assert (answer.status, answer.headers["Retry-After"]) == (status, "3")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("code", "status"),
    [("telemetry.too_large", 413), ("telemetry.slow", 503), ("telemetry.gzip", 400)],
)
def test_refusals_of_the_hub_have_their_status(
    face: ThingsBoardFace, code: str, status: int
) -> None:
    answer = face.refuse(REQUEST, ContractBroken(code))
    assert answer.status == status
    assert answer.headers.get("Retry-After") == ("1" if status == 503 else None)
    assert face.refuse(REQUEST, ZeroDivisionError()).status == 500


def test_a_device_reads_its_attributes(face: ThingsBoardFace, port: StillPort) -> None:
    port.client["pump-7"] = {"a": 1, "b": 2}
    port.shared["pump-7"] = {"c": "x"}
    get = {"method": "GET"}
    address = API + "attributes"
    both = told(ask(face, address + "?clientKeys=a,zz&sharedKeys=c", **get))
    assert both == {"client": {"a": 1}, "shared": {"c": "x"}}
    assert told(ask(face, address + "?sharedKeys=zz", **get)) == {"client": {}, "shared": {}}
    everything = {"client": {"a": 1, "b": 2}, "shared": {"c": "x"}}
    assert told(ask(face, address, **get)) == everything


@pytest.mark.parametrize("place", ["attributes/updates", "rpc"])
def test_a_poll_without_news_ends_with_408(face: ThingsBoardFace, place: str) -> None:
    answer = ask(face, API + place + "?timeout=30", method="GET")
    assert (answer.status, answer.body) == (408, b"")


def test_a_poll_tells_which_shared_attributes_have_changed(
    face: ThingsBoardFace, port: StillPort
) -> None:
    port.shared["pump-7"] = {"limit": 5, "old": 1, "same": 1}

    async def run() -> dict[str, object]:
        poll = asyncio.create_task(
            ask_async(face, API + "attributes/updates?timeout=5000", method="GET")
        )
        await asyncio.sleep(0.03)
        port.shared["pump-7"] = {"limit": 6, "same": 1}
        answer = await poll
        assert answer.status == 200
        return dict(told(answer))

    assert asyncio.run(run()) == {"limit": 6, "deleted": ["old"]}


def test_calls_of_the_device_are_answered(face: ThingsBoardFace, port: StillPort) -> None:
    limits = ask(face, API + "rpc", {"method": "getSessionLimits", "params": {}})
    assert told(limits)["payloadType"] == "JSON"
    assert ask(face, API + "rpc", {"method": "getTime", "params": {}}).body == b"{}"
    assert ask(face, API + "rpc", b"no").status == 400
    assert ask(face, API + "rpc/7", {"done": True}).status == 200
    assert ask(face, API + "claim").status == 200
    assert ask(face, API + "claim", b"{").status == 400
    assert port.kept == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/T/telemetry"),
        ("POST", "/api/v1/T/rpc/x"),
        ("POST", "/api/v1/T"),
        ("POST", "/api/v1/T/telemetry/x"),
        ("DELETE", "/api/v1/T/attributes"),
    ],
)
def test_calls_there_are_not_name_no_token(face: ThingsBoardFace, method: str, path: str) -> None:
    assert face.takes(method, path)
    sent = HttpRequest(method, path.replace("/T", "/PUMP"), {}, {})
    with pytest.raises(ContractBroken) as refused:
        asyncio.run(face.answer(sent, PUMP))
    answer = face.refuse(sent, refused.value)
    assert (answer.status, told(answer)["code"]) == (404, "telemetry.no_call")
    assert b"PUMP" not in answer.body


def test_an_address_without_a_token_is_nobodys(face: ThingsBoardFace) -> None:
    with pytest.raises(AuthError):
        asyncio.run(face.admit(HttpRequest("POST", "/api/v1//telemetry", {}, {})))
    assert not face.takes("POST", "/api/v2/write")


def test_what_the_edge_says_of_an_address_names_no_token(face: ThingsBoardFace) -> None:
    wrong = ContractBroken("telemetry.gzip", path=REQUEST.path, ratio=100)
    answer = face.refuse(REQUEST, wrong)
    assert b"PUMP" not in answer.body
    assert "/api/v1/…/telemetry" in told(answer)["detail"]
