"""InfluxDB's HTTP API: who is let in, what is kept, and what a sender is told."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any

import orjson
import pytest

from connectors.iot import influx, line_protocol
from connectors.iot.decoders import DECODERS
from connectors.iot.influx import InfluxFace
from hub.sdk.errors import HubError, TransientError
from hub.sdk.telemetry import HttpAnswer, HttpRequest, Sender
from hub.sdk.telemetry_source import LineProtocol, TelemetrySource
from hub.sdk.testing.telemetry import MemoryPort

PUMP = Sender("iot", "pump-1")
PLANT = Sender("iot", "telegraf", gateway=True)
TOKEN = {"authorization": "Token t1"}
WRITES = ["/write", "/api/v2/write"]


@pytest.fixture
def port() -> MemoryPort:
    made = MemoryPort()
    made.tokens = {"t1": PUMP, "t2": PLANT}
    made.passwords = {"ada:secret": PUMP}
    return made


def ask(
    port: MemoryPort,
    path: str,
    body: str | bytes = b"",
    method: str = "POST",
    headers: dict[str, str] | None = None,
    **query: str,
) -> HttpAnswer:
    """The face's answer, as the hub asks for it."""
    face = InfluxFace(port)
    request = HttpRequest(method, path, query, TOKEN if headers is None else headers)

    async def answered() -> HttpAnswer:
        raw = body.encode() if isinstance(body, str) else body
        try:
            sender = await face.admit(request)
            return await face.answer(replace(request, body=raw), sender)
        except HubError as error:
            return face.refuse(request, error)

    assert face.takes(method, path)
    return asyncio.run(answered())


def said(answer: HttpAnswer) -> Any:
    return orjson.loads(answer.body)


def basic(text: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


# --- writing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WRITES)
def test_good_lines_are_kept_as_they_came(port: MemoryPort, path: str) -> None:
    more = {"db": "x", "rp": "r", "consistency": "all", "org": "o", "bucket": "b"}
    answer = ask(port, path, "m,sn=pump-1 f=1 5\n# c\n", precision="ms", **more)
    assert (answer.status, answer.body) == (204, b"")
    [kept] = port.kept
    assert (kept.sender, kept.format, kept.body) == (
        PUMP,
        "iot.line_protocol",
        b"m,sn=pump-1 f=1 5\n# c\n",
    )
    decoded = DECODERS[kept.format](kept.body, kept.details, kept.received_at)
    assert decoded.samples == [("pump-1", "m_f", 5, 1.0)]


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("body", ["", "\n", "# only a comment\n", " \r\n"])
def test_a_body_without_lines_is_fine_and_not_kept(port: MemoryPort, path: str, body: str) -> None:
    assert ask(port, path, body).status == 204
    assert port.kept == []
    assert port.quarantined == []


def test_bad_lines_are_told_and_the_good_ones_kept(port: MemoryPort) -> None:
    body = "m f=1\nm f=nan\nm f=2\nbad\n"
    answer = ask(port, "/write", body)
    text = "partial write: line 2: invalid: a value is no number, boolean or quoted text dropped=2"
    assert (answer.status, said(answer)) == (400, {"error": text})
    assert answer.headers["X-Influxdb-Error"] == text
    assert [one.body for one in port.kept] == [body.encode()]
    answer = ask(port, "/api/v2/write", body)
    assert (answer.status, said(answer)) == (400, {"code": "invalid", "message": text})
    assert answer.headers["X-Influxdb-Error"] == text


@pytest.mark.parametrize("path", WRITES)
def test_a_body_with_nothing_good_goes_to_quarantine(port: MemoryPort, path: str) -> None:
    answer = ask(port, path, "nonsense\n<html>\n")
    assert answer.status == 400
    assert "unable to parse: line 1: malformed" in answer.body.decode()
    [(message, refused)] = port.quarantined
    assert message.body == b"nonsense\n<html>\n"
    assert [one.place for one in refused] == [0, 1]
    assert port.kept == []


def test_an_answer_never_repeats_words_of_the_body(port: MemoryPort) -> None:
    answer = ask(port, "/write", "database not found\n")
    assert b"not found" not in answer.body  # Telegraf would send such a batch for ever


@pytest.mark.parametrize(
    ("path", "precision", "status"),
    [
        *[("/write", one, 204) for one in ("", "ns", "n", "us", "u", "ms", "s", "m", "h")],
        *[("/api/v2/write", one, 204) for one in ("", "ns", "us", "ms", "s")],
        *[("/api/v2/write", one, 400) for one in ("n", "u", "m", "h")],
        *[(path, "fortnight", 400) for path in WRITES],
    ],
)
def test_precisions(port: MemoryPort, path: str, precision: str, status: int) -> None:
    answer = ask(port, path, "m f=1 1\n", precision=precision)
    assert answer.status == status
    assert len(port.kept) == (status == 204)
    assert len(port.quarantined) == (status != 204)


def test_the_policy_of_the_source_travels_with_the_message(port: MemoryPort) -> None:
    policy = LineProtocol(device_tags=["machine"], measurement="vib", metric_tags=["axis"])
    port.sources["iot"] = TelemetrySource(line_protocol=policy)
    body = "vib,machine=A,axis=x rms=1\nvib,sn=B rms=2\n"
    assert ask(port, "/write", body, headers={"authorization": "Token t2"}).status == 400
    [kept] = port.kept
    decoded = DECODERS[kept.format](kept.body, kept.details, kept.received_at)
    assert [one[:2] for one in decoded.samples] == [("A", "x_rms")]
    assert [(one.place, one.code) for one in decoded.refused] == [(1, "no_device")]


def test_a_body_of_many_readings_is_kept_in_parts_cut_between_lines(
    port: MemoryPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(influx, "PART_READINGS", 1000)
    lines = [f'm,sn=pump-1 f={number},s="a\nb" {number}000000\n' for number in range(5000)]
    lines[2500:2500] = ["bad\n"] * 3
    answer = ask(port, "/write", "".join(lines))
    assert "partial write: line 5001: malformed" in said(answer)["error"]
    assert said(answer)["error"].endswith("dropped=3")
    assert len(port.kept) == 10
    assert b"".join(one.body for one in port.kept).decode() == "".join(lines)
    found = [line_protocol.decode(one.body, one.details, 0) for one in port.kept]
    assert [one[2] for part in found for one in part.samples] == list(range(5000))
    assert sum(len(part.refused) for part in found) == 3


# --- who may ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"authorization": "Token t1"}, {}),
        ({"authorization": "token  t1"}, {}),
        ({"authorization": "Bearer t1"}, {}),
        ({"authorization": "Token ada:secret"}, {}),
        (basic("ada:secret"), {}),
        (basic("anyone:t1"), {}),
        (basic(":t1"), {}),
        ({}, {"u": "ada", "p": "secret"}),
        ({}, {"u": "anyone", "p": "t1"}),
        ({}, {"p": "t1"}),
    ],
)
@pytest.mark.parametrize("path", WRITES)
def test_ways_to_say_who_one_is(
    port: MemoryPort, path: str, headers: dict[str, str], query: dict[str, str]
) -> None:
    assert ask(port, path, "m f=1", headers=headers, **query).status == 204
    assert port.kept[0].sender == PUMP


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Token"},
        {"authorization": "Token nobody"},
        {"authorization": "Token ada:wrong"},
        {"authorization": "Basic !!!"},
        {"authorization": "Basic /w=="},
        {"authorization": "Digest x"},
        basic("ada"),
        basic("ada:"),
        basic("ada:wrong"),
    ],
)
def test_nobody_is_503_in_v1_and_401_in_v2(port: MemoryPort, headers: dict[str, str]) -> None:
    answer = ask(port, "/write", "m f=1", headers=headers)
    assert (answer.status, "error" in said(answer)) == (503, True)
    assert int(answer.headers["Retry-After"]) >= 1
    answer = ask(port, "/api/v2/write", "m f=1", headers=headers)
    assert (answer.status, said(answer)["code"]) == (401, "unauthorized")
    assert port.kept == []
    assert port.counted["influx", "unknown_sender"] == 2


def test_a_device_speaks_for_itself_only(port: MemoryPort) -> None:
    body = "m,host=pump-1 f=1\nm,host=pump-2 f=1\n"
    answer = ask(port, "/write", body)
    assert (answer.status, "gateway" in said(answer)["error"]) == (503, True)
    assert ask(port, "/api/v2/write", body).status == 403
    assert port.kept == []
    assert ask(port, "/api/v2/write", body, headers={"authorization": "Token t2"}).status == 204


# --- trouble ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("code", ["overload", "disk_full", "store"])
def test_what_may_pass_is_503_with_a_time_to_wait(port: MemoryPort, path: str, code: str) -> None:
    port.trouble = TransientError(f"telemetry.{code}", retry_after=2.5)
    answer = ask(port, path, "m f=1")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "3")
    assert port.kept == []


@pytest.mark.parametrize("path", WRITES)
def test_a_full_queue_is_told_before_the_body_is_read(port: MemoryPort, path: str) -> None:
    port.free = 0.0
    answer = ask(port, path, "m f=1")
    assert (answer.status, port.kept) == (503, [])


@pytest.mark.parametrize(
    ("error", "v1", "v2"),
    [
        (HubError("telemetry.too_large", path="/x", limit=1), 413, 413),
        (HubError("telemetry.gzip", path="/x", ratio=100), 400, 400),
        (HubError("telemetry.slow", path="/x", seconds=30), 503, 503),
        (HubError("telemetry.encoding", path="/x", encoding="br"), 415, 415),
        (HubError("telemetry.headers", path="/x", most=1, limit=1), 431, 431),
        (HubError("telemetry.failed", kind="X"), 500, 500),
        (TransientError("telemetry.rate", retry_after=7), 503, 429),
        (ValueError("secret of ours"), 500, 500),
    ],
)
def test_refusals_of_the_hub_in_the_words_of_each_api(
    port: MemoryPort, error: Exception, v1: int, v2: int
) -> None:
    face = InfluxFace(port)
    old = face.refuse(HttpRequest("POST", "/write", {}, {}), error)
    new = face.refuse(HttpRequest("POST", "/api/v2/write", {}, {}), error)
    assert (old.status, new.status) == (v1, v2)
    assert set(said(old)) == {"error"}
    assert set(said(new)) == {"code", "message"}
    assert b"secret" not in old.body + new.body
    assert ("Retry-After" in new.headers) == (v2 in (429, 503))


@pytest.mark.parametrize("path", [*WRITES, "/query", "/ping", "/health"])
def test_another_method_is_405(port: MemoryPort, path: str) -> None:
    answer = ask(port, path, method="DELETE", headers={})
    assert (answer.status, "Allow" in answer.headers) == (405, True)


# --- the rest of the API ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping(port: MemoryPort, method: str) -> None:
    answer = ask(port, "/ping", method=method, headers={})
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["X-Influxdb-Version"] == "1.8.10"


def test_ping_that_asks_for_words(port: MemoryPort) -> None:
    answer = ask(port, "/ping", method="GET", headers={}, verbose="true")
    assert (answer.status, said(answer)) == (200, {"version": "1.8.10"})


def test_health(port: MemoryPort) -> None:
    answer = ask(port, "/health", method="GET", headers={})
    assert (answer.status, said(answer)["status"]) == (200, "pass")


@pytest.mark.parametrize(
    "statement",
    [
        'CREATE DATABASE "telegraf"',
        "create database plant;",
        r'CREATE DATABASE "a \"b\""',
        "CREATE DATABASE x WITH DURATION 3d REPLICATION 1",
        "SHOW DATABASES",
        " show  databases ; ",
    ],
)
def test_databases_are_there_whatever_they_are_called(port: MemoryPort, statement: str) -> None:
    done = {"results": [{"statement_id": 0}]}
    for method in ("GET", "POST"):
        answer = ask(port, "/query", method=method, headers={}, q=statement)
        assert (answer.status, said(answer)) == (200, done)
    form = "q=" + statement.replace(" ", "+").replace('"', "%22").replace(";", "%3B")
    assert ask(port, "/query", form, headers={}).status == 200


@pytest.mark.parametrize(
    "statement",
    [
        "",
        "SELECT * FROM m",
        "DROP DATABASE x",
        "SHOW DATABASES; DROP DATABASE x",
        "CREATE DATABASE",
    ],
)
def test_any_other_query_is_refused(port: MemoryPort, statement: str) -> None:
    answer = ask(port, "/query", method="GET", q=statement)
    assert (answer.status, set(said(answer))) == (400, {"error"})
    assert ask(port, "/query", b"\xff\xfe&&==").status == 400


def test_wrong_credentials_show_as_early_as_the_first_query(port: MemoryPort) -> None:
    answer = ask(port, "/query", headers={"authorization": "Token no"}, q="SHOW DATABASES")
    assert (answer.status, set(said(answer))) == (401, {"error"})


def test_other_addresses_are_not_taken(port: MemoryPort) -> None:
    face = InfluxFace(port)
    paths = ("/", "/write/", "/api/v2/query", "/writes", "/v1/ping")
    assert not any(face.takes("POST", path) for path in paths)
