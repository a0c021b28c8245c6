"""Every way in which a sender is refused: the status, what it should do next, and nothing kept."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hub.api import hooks
from hub.engine import intake
from tests.intake.rig import Desk, Edge, Sender, edge, new_id, raw, send, signed, wait_for

BODY = b'{"id": 1}'
DAY = 86_400


def pieces(size: int, piece: int = 10_000) -> Iterator[bytes]:
    """A body that does not say how long it is."""
    for _ in range(size // piece):
        yield b"x" * piece


# --- 401 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"X-Signature": ""},
        {"X-Signature": "0" * 64},
        {"X-Signature": "not hex"},
        {"X-Event": "another"},
        {"X-Timestamp": str(int(time.time()) - 1)},
        {"X-Timestamp": "now"},
    ],
    ids=lambda changed: "-".join(f"{k}={v[:8]}" for k, v in changed.items()),
)
def test_what_is_not_signed_by_the_sender_is_refused(
    here: Edge, sender: Sender, changed: dict[str, str]
) -> None:
    answer = sender.ask("POST", BODY, {**signed(BODY, new_id()), **changed})
    assert (answer.status, answer.code) == (401, "hook.signature")
    assert here.kept() == {}


@pytest.mark.parametrize("missing", ["X-Signature", "X-Event", "X-Timestamp"])
def test_an_event_without_one_of_its_headers_is_refused(
    here: Edge, sender: Sender, missing: str
) -> None:
    headers = signed(BODY, new_id())
    del headers[missing]
    assert sender.ask("POST", BODY, headers).status == 401
    assert here.kept() == {}


def test_a_changed_byte_is_refused(here: Edge, sender: Sender) -> None:
    headers = signed(BODY, new_id())
    assert sender.ask("POST", b'{"id": 2}', headers).status == 401
    assert sender.ask("POST", BODY + b" ", headers).status == 401
    assert here.kept() == {}


@pytest.mark.parametrize("seconds", [-DAY, -310, 310, DAY])
def test_an_event_from_outside_the_window_is_refused(
    here: Edge, sender: Sender, seconds: float
) -> None:
    answer = sender.send(BODY, stamp=time.time() + seconds)
    assert (answer.status, answer.code) == (401, "hook.stale")
    assert here.kept() == {}


@pytest.mark.parametrize("seconds", [-290, 290])
def test_an_event_from_within_the_window_is_kept(
    here: Edge, sender: Sender, seconds: float
) -> None:
    assert sender.send(BODY, stamp=time.time() + seconds).status == 200
    assert len(here.kept()) == 1


# --- 400, 404, 405 ----------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"id": NaN}', b"<html>"])
def test_a_signed_body_that_is_no_json_is_refused(here: Edge, sender: Sender, body: bytes) -> None:
    answer = sender.send(body)
    assert answer.status == 400
    assert here.kept() == {}


def test_an_unknown_address_is_not_found(here: Edge) -> None:
    for path in ("/hooks/nobody", "/hooks/", "/hooks/desk/more", "/hooks/%00"):
        answer = send(here.port, path=path)
        assert (answer.status, answer.code) == (404, "intake.unknown"), path


def test_a_connection_without_a_webhook_is_not_found(plain: Desk) -> None:
    del plain.connections["other"]["hook"]
    plain.write()
    with edge(plain) as here:
        assert send(here.port, path="/hooks/other").code == "intake.unknown"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_post_is_taken(sender: Sender, method: str) -> None:
    answer = sender.ask(method, b"", {})
    assert (answer.status, answer.code, answer.headers["allow"]) == (405, "intake.method", "POST")


# --- 408, 413, 431 ----------------------------------------------------------------------------


def test_a_body_that_does_not_come_is_not_waited_for(
    here: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "_BODY_SECONDS", 0.3)
    head = "\r\n".join(f"{k}: {v}" for k, v in signed(BODY, new_id()).items())
    request = f"POST /hooks/desk HTTP/1.1\r\nHost: hub\r\nContent-Length: 9\r\n{head}\r\n\r\n{{"
    answer = raw(here.port, request.encode())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"intake.slow" in answer
    assert here.kept() == {}


def test_a_body_is_too_large_by_what_it_says_or_by_what_it_is(here: Edge, sender: Sender) -> None:
    limit = 100_000
    said = sender.send(b"x" * (limit + 1))
    assert (said.status, said.code) == (413, "intake.too_large")
    unsaid = sender.ask("POST", pieces(3 * limit), signed(BODY, new_id()))
    assert (unsaid.status, unsaid.code) == (413, "intake.too_large")
    assert sender.send(b'"' + b"x" * (limit - 2) + b'"').status == 200
    assert len(here.kept()) == 1


def test_a_body_of_many_gigabytes_is_refused_before_it_is_sent(here: Edge) -> None:
    head = "POST /hooks/desk HTTP/1.1\r\nHost: hub\r\nContent-Length: 9000000000\r\n\r\n"
    answer = raw(here.port, head.encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    "headers", [{f"X-H{n}": "1" for n in range(101)}, {"X-Long": "x" * 17_000}]
)
def test_too_many_headers_are_refused(here: Edge, sender: Sender, headers: dict[str, str]) -> None:
    answer = sender.ask("POST", BODY, {**signed(BODY, new_id()), **headers})
    assert (answer.status, answer.code) == (431, "intake.headers")
    assert here.kept() == {}


def test_headers_without_end_are_refused(here: Edge) -> None:
    answer = raw(here.port, b"POST /hooks/desk HTTP/1.1\r\nHost: hub\r\nX-Long: " + b"x" * 500_000)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"api.headers" in answer


# --- 429, 503 ---------------------------------------------------------------------------------


def test_a_burst_of_one_connection_starves_no_other(plain: Desk) -> None:
    plain.connect("desk", rate=5)
    with edge(plain) as here, Sender(here.port) as noisy, Sender(here.port, "/hooks/other") as calm:
        answers = [noisy.send(BODY) for _ in range(30)]
        assert calm.send(BODY).status == 200
        refused = [one for one in answers if one.status != 200]
        assert {(one.status, one.code) for one in refused} == {(429, "intake.rate")}
        assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
        assert len(here.kept()) == len(answers) - len(refused) >= 5
        time.sleep(int(refused[-1].headers["retry-after"]))
        assert noisy.send(BODY).status == 200


def test_too_many_waiting_events_are_refused_and_those_that_wait_are_kept(
    here: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MOST_WAITING", 3)
    answers: list[Any] = []
    with here.hub.store.transaction():  # the writer waits for its turn
        links = [socket.create_connection(("127.0.0.1", here.port)) for _ in range(12)]
        for link in links:
            link.settimeout(20)
            link.sendall(request(new_id()))
        wait_for(lambda: here.hub.intake.counts["desk", "overload"] > 0)
    for link in links:
        answers.append(link.recv(65_536))
        link.close()
    kept = [one for one in answers if one.startswith(b"HTTP/1.1 200 ")]
    refused = [one for one in answers if one.startswith(b"HTTP/1.1 503 ")]
    assert len(kept) + len(refused) == 12
    assert len(here.kept()) == len(kept) >= 3
    assert all(b"retry-after: 1" in one.lower() and b"intake.overload" in one for one in refused)
    assert send(here.port).status == 200


def test_too_many_held_bytes_are_refused(here: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "MOST_HELD", 50_000)
    answer = send(here.port, b'"' + b"x" * 60_000 + b'"')
    assert (answer.status, answer.code) == (503, "intake.overload")
    assert answer.headers["retry-after"] == "1"
    assert send(here.port).status == 200


def test_without_its_secret_a_webhook_is_closed_until_it_is_set(plain: Desk) -> None:
    plain.connections["desk"]["config"]["hook_secret"] = "store"
    plain.write()
    with edge(plain) as here:
        answer = send(here.port)
        assert (answer.status, answer.code) == (503, "intake.closed")
        assert int(answer.headers["retry-after"]) >= 1
        assert here.kept() == {}


def test_a_refusal_names_no_secret_and_speaks_the_language_of_its_sender(sender: Sender) -> None:
    headers = {**signed(BODY, new_id()), "X-Signature": "0" * 64, "Accept-Language": "zh-CN"}
    problem = json.loads(sender.ask("POST", BODY, headers).body)
    assert problem["code"] == "hook.signature"
    assert "签名" in problem["detail"]
    assert "secret" not in json.dumps(problem)


def request(event_id: str, body: bytes = BODY) -> bytes:
    """A whole signed request."""
    head = "".join(f"{k}: {v}\r\n" for k, v in signed(body, event_id).items())
    first = f"POST /hooks/desk HTTP/1.1\r\nHost: hub\r\nContent-Length: {len(body)}\r\n"
    return (first + head + "\r\n").encode() + body
