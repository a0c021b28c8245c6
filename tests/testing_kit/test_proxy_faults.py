"""Each fault of the proxy as httpx and as a bare socket see it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import httpx
import pytest

from hub.sdk.testing import Fault, FaultProxy, Response
from tests.testing_kit.things import BODY, GET, Things

Raw = Callable[..., tuple[bytes, str]]
NETWORK = (httpx.ReadError, httpx.RemoteProtocolError)


@pytest.mark.parametrize(
    ("fault", "error", "handled"),
    [
        (Fault.RESET, NETWORK, 0),
        (Fault.EARLY_CLOSE, httpx.RemoteProtocolError, 0),
        (Fault.CUT_BODY, httpx.RemoteProtocolError, 1),
        (Fault.CUT_CHUNK, httpx.RemoteProtocolError, 1),
        (Fault.GARBAGE, httpx.RemoteProtocolError, 0),
        (Fault.HUGE_HEADER, NETWORK, 0),
        (Fault.SILENCE, httpx.ReadTimeout, 0),
        (Fault.SLOW_HEADERS, httpx.ReadTimeout, 1),
        (Fault.LOST_ANSWER, NETWORK, 1),
        (Fault.TIMEOUT_AFTER, httpx.ReadTimeout, 1),
    ],
)
def test_a_broken_exchange_is_an_httpx_error_and_the_next_one_is_not(
    proxy: FaultProxy,
    client: httpx.Client,
    things: Things,
    fault: Fault,
    error: type[Exception],
    handled: int,
) -> None:
    proxy.misbehave(fault)
    with pytest.raises(error):
        client.post("/things", json={})
    assert len(things.done) == handled
    assert client.post("/things", json={}).json() == BODY
    assert (proxy.count("/things"), things.count()) == (2, handled + 1)


@pytest.mark.parametrize(
    ("fault", "begins", "ends", "how"),
    [
        (Fault.RESET, b"", b"", "reset"),
        (Fault.EARLY_CLOSE, b"", b"", "closed"),
        (Fault.GARBAGE, b"\x16\x03\x01", b"\r\n\r\n", "closed"),
        (Fault.SILENCE, b"", b"", "silent"),
        (Fault.LOST_ANSWER, b"", b"", "reset"),
        (Fault.TIMEOUT_AFTER, b"", b"", "silent"),
        (Fault.REDIRECT_LOOP, b"HTTP/1.1 302 Found\r\nContent-Type", b"\r\n\r\n", "closed"),
        (Fault.STATUS, b"HTTP/1.1 503 Service Unavailable\r\n", b"\r\n\r\n", "closed"),
        (Fault.STATUS_AFTER, b"HTTP/1.1 500 Internal", b"\r\n\r\n", "closed"),
        (Fault.TOO_MANY_REQUESTS, b"HTTP/1.1 429 Too Many", b"\r\n\r\n", "closed"),
        (Fault.EMPTY_BODY, b"HTTP/1.1 200 OK\r\n", b"Content-Length: 0\r\n\r\n", "closed"),
        (Fault.HTML_200, b"HTTP/1.1 200 OK\r\nContent-Type: text/html", b"</html>", "closed"),
        (Fault.SLOW_HEADERS, b"HTTP/1.1 200 OK\r\n", b"]}", "closed"),
    ],
)
def test_a_fault_as_a_bare_socket_sees_it(
    proxy: FaultProxy, raw: Raw, fault: Fault, begins: bytes, ends: bytes, how: str
) -> None:
    slow = {"interval": 0.002} if fault is Fault.SLOW_HEADERS else {}
    proxy.misbehave(fault, **slow)
    received, ended = raw(proxy.url, GET, 0.4 if how == "silent" else 5.0)
    assert ended == how
    assert received.startswith(begins)
    assert received.endswith(ends)
    assert bool(received) is bool(begins)


def test_a_cut_body_promises_more_than_it_holds(proxy: FaultProxy, raw: Raw) -> None:
    proxy.misbehave(Fault.CUT_BODY, keep=0.25)
    received, how = raw(proxy.url, GET)
    head, _, body = received.partition(b"\r\n\r\n")
    whole = json.dumps(BODY, ensure_ascii=False, separators=(",", ":")).encode()
    assert f"Content-Length: {len(whole)}".encode() in head
    assert (body, how) == (whole[: len(whole) // 4], "closed")


def test_a_cut_chunk_promises_more_than_it_holds(proxy: FaultProxy, raw: Raw) -> None:
    proxy.misbehave(Fault.CUT_CHUNK)
    received, how = raw(proxy.url, GET)
    head, _, body = received.partition(b"\r\n\r\n")
    size, _, rest = body.partition(b"\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert (int(size, 16) // 2, how) == (len(rest), "closed")


def test_a_huge_header_is_2_mb(proxy: FaultProxy, raw: Raw) -> None:
    proxy.misbehave(Fault.HUGE_HEADER)
    received, how = raw(proxy.url, GET)
    assert len(received) > 2_000_000
    assert how == "closed"


def test_a_drip_is_no_httpx_error_however_long_it_takes(
    proxy: FaultProxy, client: httpx.Client, raw: Raw
) -> None:
    proxy.misbehave(Fault.DRIP, times=2, interval=0.01)
    began = time.monotonic()
    assert client.get("/things", timeout=httpx.Timeout(5, read=0.2)).json() == BODY
    assert time.monotonic() - began > 0.3
    received, how = raw(proxy.url, GET)
    assert (received.endswith(b"]}"), how) == (True, "closed")


def test_a_small_gzip_answer_inflates_to_200_mb(proxy: FaultProxy, client: httpx.Client) -> None:
    proxy.misbehave(Fault.GZIP_BOMB)
    with client.stream("GET", "/things", timeout=30) as answer:
        size = sum(len(part) for part in answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
    assert 150_000 < size < 250_000


def test_gbk_is_announced_as_json(proxy: FaultProxy, client: httpx.Client) -> None:
    proxy.misbehave(Fault.GBK_JSON)
    answer = client.get("/things")
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.content.decode("gbk")) == BODY


def test_a_redirect_loop_ends_in_too_many_redirects_when_followed(
    proxy: FaultProxy, client: httpx.Client
) -> None:
    proxy.misbehave(Fault.REDIRECT_LOOP, times=None)
    assert client.get("/things?a=1").headers["location"] == "/things?a=1"
    with pytest.raises(httpx.TooManyRedirects):
        client.get("/things?a=1", follow_redirects=True)


@pytest.mark.parametrize("after", [None, 3])
@pytest.mark.parametrize(("fault", "status"), [(Fault.TOO_MANY_REQUESTS, 429), (Fault.STATUS, 503)])
def test_a_refusal_may_name_a_time(
    proxy: FaultProxy, client: httpx.Client, fault: Fault, status: int, after: int | None
) -> None:
    proxy.misbehave(fault, retry_after=after)
    answer = client.get("/things")
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == (None if after is None else "3")


def test_status_before_changes_nothing_and_status_after_has_happened(
    proxy: FaultProxy, client: httpx.Client, things: Things
) -> None:
    proxy.misbehave(Fault.STATUS, method="POST", status=502)
    proxy.misbehave(Fault.STATUS_AFTER, method="POST")
    assert client.post("/things").status_code == 502
    assert things.done == []
    assert client.post("/things", content=b"x").status_code == 500
    assert things.done == [b"x"]


def test_a_request_can_be_done_twice_and_an_answer_given_twice(
    proxy: FaultProxy, client: httpx.Client, things: Things, raw: Raw
) -> None:
    proxy.misbehave(Fault.DUPLICATE_REQUEST)
    proxy.misbehave(Fault.DUPLICATE_ANSWER)
    assert client.post("/things", content=iter([b"on", b"ce"])).json() == BODY
    assert things.done == [b"once", b"once"]
    received, _ = raw(proxy.url, GET)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert len(things.done) == 3


def test_a_delay_and_a_slow_body_give_the_right_answer_late(
    proxy: FaultProxy, client: httpx.Client
) -> None:
    proxy.misbehave(Fault.DELAY, seconds=0.1)
    proxy.misbehave(Fault.SLOW_BODY, rate=200)
    for least in (0.1, 0.2):
        began = time.monotonic()
        answer = client.get("/things")
        assert answer.json() == BODY
        assert answer.headers["x-mark"] == "Ä"
        assert time.monotonic() - began >= least


def test_where_and_how_often_is_ordered_as_for_a_fake(
    proxy: FaultProxy, client: httpx.Client
) -> None:
    proxy.misbehave(Fault.STATUS, "/th*", "POST", times=2, after=1)
    assert client.get("/things").status_code == 200
    found = [client.post("/things").status_code for _ in range(4)]
    assert found == [200, 503, 503, 200]
    proxy.misbehave(Fault.STATUS, times=None)
    proxy.behave()
    assert client.get("/things").status_code == 200


def test_the_same_seed_breaks_the_same_requests(things: Things) -> None:
    seen = []
    for seed in (3, 3, 4):
        with FaultProxy(things.url, seed=seed) as proxy:
            proxy.misbehave(Fault.STATUS, chance=0.5, times=None)
            with httpx.Client(base_url=proxy.url, trust_env=False) as client:
                seen.append([client.get("/things").status_code for _ in range(30)])
    assert seen[0] == seen[1] != seen[2]
    assert {200, 503} == set(seen[0])


def test_answers_can_be_altered_by_name(proxy: FaultProxy, client: httpx.Client) -> None:
    proxy.alter("/things", "put", at="code", value=42900)
    proxy.alter("/things", "repeat_previous", times=3)
    assert client.get("/things").json() == {**BODY, "code": 42900}
    assert client.get("/things").json() == {**BODY, "code": 42900}
    proxy.behave()
    assert client.get("/things").json() == BODY


def test_an_order_that_does_not_fit_the_answer_is_the_tests_problem(things: Things) -> None:
    things.route("GET", "/text", lambda _: Response(body=b"plain", media_type="text/plain"))
    proxy = FaultProxy(things.url).start()
    proxy.misbehave(Fault.GBK_JSON)
    answer = httpx.get(proxy.url + "/text", trust_env=False)
    assert answer.status_code == 500
    assert "no gbk_json of this answer" in answer.json()["error"]
    proxy.alter(None, "put", at="x", value=1)
    assert "cannot be altered" in httpx.get(proxy.url + "/text", trust_env=False).text
    with pytest.raises(RuntimeError, match="GET /text: no gbk_json"):
        proxy.__exit__(None, None, None)
