"""Each fault as httpx sees it (read timeout well below the fault's own times)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from hub.sdk.testing import FakeServer, Fault, Request, Response


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        server.handled = []  # type: ignore[attr-defined]

        def add(request: Request) -> Response:
            server.handled.append(request.body)  # type: ignore[attr-defined]
            return Response(json={"code": 0, "name": "上海", "rows": [{"id": 1}, {"id": 2}]})

        server.route("POST", "/things", add)
        server.route("GET", "/things", add)
        yield server


@pytest.fixture
def client(server: FakeServer) -> Iterator[httpx.Client]:
    timeout = httpx.Timeout(5, read=0.3)
    with httpx.Client(base_url=server.url, timeout=timeout, trust_env=False) as client:
        yield client


NETWORK = (httpx.ReadError, httpx.RemoteProtocolError)


@pytest.mark.parametrize(
    ("fault", "error", "handled"),
    [
        (Fault.RESET, NETWORK, False),
        (Fault.EARLY_CLOSE, httpx.RemoteProtocolError, False),
        (Fault.CUT_BODY, httpx.RemoteProtocolError, True),
        (Fault.CUT_CHUNK, httpx.RemoteProtocolError, True),
        (Fault.GARBAGE, httpx.RemoteProtocolError, False),
        (Fault.HUGE_HEADER, NETWORK, False),
        (Fault.SILENCE, httpx.ReadTimeout, False),
        (Fault.SLOW_HEADERS, httpx.ReadTimeout, True),
        (Fault.LOST_ANSWER, NETWORK, True),
        (Fault.TIMEOUT_AFTER, httpx.ReadTimeout, True),
    ],
)
def test_a_broken_exchange_is_an_httpx_error_and_only_once(
    server: FakeServer,
    client: httpx.Client,
    fault: Fault,
    error: type[Exception],
    handled: bool,
) -> None:
    server.misbehave(fault)
    with pytest.raises(error):
        client.post("/things", json={})
    assert len(server.handled) == int(handled)  # type: ignore[attr-defined]
    assert client.post("/things", json={}).json()["code"] == 0
    assert server.count("/things") == 2


def test_a_drip_is_no_httpx_error_however_long_it_takes(
    server: FakeServer, client: httpx.Client
) -> None:
    server.misbehave(Fault.DRIP, interval=0.01)
    began = time.monotonic()
    answer = client.get("/things", timeout=httpx.Timeout(5, read=0.2))
    assert answer.json()["name"] == "上海"
    assert time.monotonic() - began > 0.3


def test_a_small_gzip_answer_inflates_to_200_mb(server: FakeServer, client: httpx.Client) -> None:
    server.misbehave(Fault.GZIP_BOMB)
    with client.stream("GET", "/things", timeout=30) as answer:
        raw = sum(len(part) for part in answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
    assert 150_000 < raw < 250_000


def test_a_web_page_with_status_200_is_not_json(server: FakeServer, client: httpx.Client) -> None:
    server.misbehave(Fault.HTML_200)
    answer = client.get("/things")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    with pytest.raises(ValueError, match="Expecting value"):
        answer.json()


def test_gbk_is_announced_as_json_and_cannot_be_decoded(
    server: FakeServer, client: httpx.Client
) -> None:
    server.misbehave(Fault.GBK_JSON)
    answer = client.get("/things")
    with pytest.raises(UnicodeDecodeError):
        answer.content.decode("utf-8")
    assert "上海" in answer.content.decode("gbk")


def test_a_redirect_loop_ends_in_too_many_redirects_when_followed(
    server: FakeServer, client: httpx.Client
) -> None:
    server.misbehave(Fault.REDIRECT_LOOP, times=None)
    assert client.get("/things").status_code == 302
    with pytest.raises(httpx.TooManyRedirects):
        client.get("/things?a=1", follow_redirects=True)


@pytest.mark.parametrize("after", [None, 3])
def test_too_many_requests_may_name_a_time(
    server: FakeServer, client: httpx.Client, after: int | None
) -> None:
    server.misbehave(Fault.TOO_MANY_REQUESTS, retry_after=after)
    answer = client.get("/things")
    assert answer.status_code == 429
    assert answer.headers.get("retry-after") == (None if after is None else "3")


def test_status_before_changes_nothing_and_status_after_has_happened(
    server: FakeServer, client: httpx.Client
) -> None:
    server.misbehave(Fault.STATUS, method="POST", status=502)
    server.misbehave(Fault.STATUS_AFTER, method="POST", after=1)
    assert client.post("/things").status_code == 502
    assert server.handled == []  # type: ignore[attr-defined]
    assert client.post("/things").status_code == 200
    assert client.post("/things", content=b"x").status_code == 500
    assert server.handled == [b"", b"x"]  # type: ignore[attr-defined]


def test_other_bodies_and_waits(server: FakeServer, client: httpx.Client) -> None:
    server.misbehave(Fault.EMPTY_BODY)
    server.misbehave(Fault.DELAY, seconds=0.1)
    server.misbehave(Fault.DUPLICATE_REQUEST)
    assert client.get("/things").content == b""
    began = time.monotonic()
    assert client.get("/things").json()["code"] == 0
    assert time.monotonic() - began >= 0.1
    client.get("/things")
    assert len(server.handled) == 3  # type: ignore[attr-defined]


def test_an_unknown_option_is_refused(server: FakeServer) -> None:
    with pytest.raises(ValueError, match="no option 'secnods'"):
        server.misbehave(Fault.DELAY, secnods=3)


@pytest.mark.parametrize("fault", [Fault.SILENCE, Fault.DRIP, Fault.SLOW_HEADERS, Fault.DELAY])
def test_stop_is_quick_with_slow_answers_under_way(fault: Fault) -> None:
    server = FakeServer().start()
    server.route("GET", "/x", lambda _: Response(json=["x" * 100]))
    server.misbehave(fault, times=None, **({"seconds": 60} if fault is Fault.DELAY else {}))
    timeout = httpx.Timeout(5, read=0.05)
    with httpx.Client(base_url=server.url, timeout=timeout, trust_env=False) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.get("/x")
        with pytest.raises(httpx.ReadTimeout):
            client.get("/x")
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 1
