"""What passes the proxy unharmed, and what it says when the upstream does not answer."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from hub.sdk.testing import Fault, FaultProxy, Response
from tests.testing_kit.things import BODY, GET, Things

Raw = Callable[..., tuple[bytes, str]]


# --- what passes ------------------------------------------------------------------------------


def test_an_exchange_without_an_order_passes_as_it_is(
    proxy: FaultProxy, client: httpx.Client, things: Things
) -> None:
    answer = client.post("/things?a=%2F&b=上", content=b"\x00\xff", headers={"X-Own": "1"})
    assert answer.json() == BODY
    assert answer.headers["x-mark"] == "Ä"
    (seen,) = things.requests
    assert (seen.method, seen.target) == ("POST", "/things?a=%2F&b=%E4%B8%8A")
    assert (seen.body, seen.headers["x-own"]) == (b"\x00\xff", "1")
    assert f"http://{seen.headers['host']}" == proxy.url
    (noted,) = proxy.requests
    assert (noted.query, noted.body) == ({"a": "/", "b": "上"}, b"")


def test_a_connection_is_kept_for_many_requests(
    proxy: FaultProxy, client: httpx.Client, things: Things
) -> None:
    for _ in range(5):
        client.post("/things", content=b"a")
    assert proxy.state() == {"upstream": things.url, "connections": 1}


def test_two_requests_in_one_packet_get_two_answers(proxy: FaultProxy, raw: Raw) -> None:
    one = b"POST /things HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi"
    received, how = raw(proxy.url, one + GET)
    assert received.count(b"HTTP/1.1 200") == 2
    assert how == "closed"


def test_chunks_pass_both_ways(proxy: FaultProxy, client: httpx.Client) -> None:
    with _upstream(_echo_in_chunks) as url, FaultProxy(url) as other:
        parts = [b"a" * 70_000, b"", b"b", "上海".encode()]
        with httpx.Client(base_url=other.url, timeout=5, trust_env=False) as through:
            for _ in range(2):
                answer = through.post("/x", content=iter(parts))
                assert answer.content == b"".join(parts)
                assert answer.headers["transfer-encoding"] == "chunked"
        assert other.state()["connections"] in (0, 1)


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body_end_at_their_head(
    proxy: FaultProxy, client: httpx.Client, things: Things, status: int
) -> None:
    things.route("GET", "/none", lambda _: Response(status, body=b"", headers={"ETag": '"1"'}))
    things.route("HEAD", "/things", lambda _: Response(json=BODY))
    for _ in range(2):
        assert client.get("/none").status_code == status
        head = client.head("/things")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 10
    assert proxy.state()["connections"] == 1


@pytest.mark.parametrize("fault", [Fault.HTML_200, Fault.DELAY, Fault.SLOW_BODY, Fault.STATUS])
def test_no_fault_gives_a_body_to_head(
    proxy: FaultProxy, client: httpx.Client, things: Things, fault: Fault
) -> None:
    things.route("HEAD", "/things", lambda _: Response(json=BODY))
    options: dict[str, Any] = {"seconds": 0.01} if fault is Fault.DELAY else {}
    proxy.misbehave(fault, **options)
    assert client.head("/things").content == b""
    assert client.get("/things").json() == BODY
    assert proxy.state()["connections"] == 1


def test_a_body_that_ends_with_its_connection_is_complete(proxy: FaultProxy, raw: Raw) -> None:
    said = b"HTTP/1.0 200 OK\r\n\r\nto the end"
    with _upstream(lambda link: link.sendall(said)) as url, FaultProxy(url) as other:
        received, how = raw(other.url, b"GET / HTTP/1.1\r\n\r\n")
        other.misbehave(Fault.DELAY, seconds=0)
        held = httpx.get(other.url, trust_env=False)
    assert received == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end"
    assert how == "closed"
    assert (held.content, held.headers["content-length"]) == (b"to the end", "10")


def test_a_client_that_waits_for_leave_to_send_gets_it(proxy: FaultProxy, things: Things) -> None:
    host, port = proxy.url.removeprefix("http://").split(":")
    head = b"POST /things HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=5) as link:
        link.sendall(head)
        assert link.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(b"hi")
        assert link.recv(100).startswith(b"HTTP/1.1 200 OK")
    assert things.done == [b"hi"]


def test_an_answer_before_the_end_of_the_request_arrives(raw: Raw) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
    with _upstream(lambda link: link.sendall(refusal)) as url, FaultProxy(url) as proxy:
        answer = httpx.post(proxy.url, content=b"x" * 5_000_000, trust_env=False)
    assert (answer.status_code, answer.content) == (413, b"no")


def test_a_large_body_is_not_held() -> None:
    size = 60_000_000
    with (
        _upstream(lambda link: _much(link, size)) as url,
        FaultProxy(url) as proxy,
        httpx.stream("GET", proxy.url, trust_env=False) as answer,
    ):
        tracemalloc.start()
        try:
            got = sum(len(part) for part in answer.iter_raw(65536))
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert got == size
    assert most < 20_000_000


def test_many_exchanges_at_once_keep_apart(proxy: FaultProxy, things: Things) -> None:
    things.route("GET", "/echo/{n}", lambda r: Response(json={"n": r.params["n"]}))
    proxy.misbehave(Fault.DELAY, "/echo/*", chance=0.3, times=None, seconds=0.05)
    proxy.misbehave(Fault.SILENCE, "/things", times=None)

    def work(worker: int) -> list[bool]:
        with httpx.Client(base_url=proxy.url, timeout=10, trust_env=False) as client:
            with pytest.raises(httpx.ReadTimeout):
                client.get("/things", timeout=0.2)
            numbers = [str(worker * 100 + step) for step in range(15)]
            return [client.get(f"/echo/{n}").json() == {"n": n} for n in numbers]

    with ThreadPoolExecutor(12) as pool:
        assert all(all(results) for results in pool.map(work, range(12)))
    assert proxy.count() == 12 * 16


# --- an upstream in trouble -------------------------------------------------------------------


def test_an_upstream_that_is_down_is_502_with_a_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with FaultProxy(f"http://127.0.0.1:{port}") as proxy:
        answer = httpx.post(proxy.url + "/x", content=b"y" * 1_000_000, trust_env=False)
        proxy.misbehave(Fault.LOST_ANSWER)
        broken = httpx.get(proxy.url, trust_env=False)
    assert (answer.status_code, broken.status_code) == (502, 502)
    assert answer.json()["error"].startswith(f"no answer from http://127.0.0.1:{port}: ")
    assert "refused" in answer.json()["error"] or "failed" in answer.json()["error"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 2", "broke off"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "is no number"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: br\r\n\r\n", "not chunked"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 5_000_000, "no end"),
    ],
)
def test_an_upstream_that_speaks_no_http_is_502(said: bytes, words: str) -> None:
    with _upstream(lambda link: link.sendall(said)) as url, FaultProxy(url) as proxy:
        answer = httpx.get(proxy.url, trust_env=False)
    assert answer.status_code == 502
    assert words in answer.json()["error"]


def test_a_silent_upstream_is_504_after_a_while() -> None:
    with _upstream(lambda link: time.sleep(0.5)) as url, FaultProxy(url, patience=0.1) as proxy:
        answer = httpx.get(proxy.url, trust_env=False)
    assert answer.status_code == 504
    assert "silent for 0.1 s" in answer.json()["error"]


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalfXX",
    ],
)
def test_an_answer_that_breaks_off_never_looks_complete(raw: Raw, said: bytes) -> None:
    with _upstream(lambda link: link.sendall(said)) as url, FaultProxy(url) as proxy:
        _, how = raw(proxy.url, GET)
    assert how == "reset"


@pytest.mark.parametrize(
    "noise",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /things HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_client_that_speaks_no_http_is_told_so(
    proxy: FaultProxy, things: Things, raw: Raw, noise: bytes
) -> None:
    received, how = raw(proxy.url, noise)
    assert received.startswith(b"HTTP/1.1 400 Bad Request")
    assert b'"no HTTP: ' in received
    assert how in ("closed", "reset")
    assert things.done == []


def test_half_a_request_never_reaches_the_upstream_as_a_whole_one(
    proxy: FaultProxy, things: Things
) -> None:
    host, port = proxy.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as link:
        link.sendall(b"POST /things HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
    assert httpx.get(proxy.url + "/things", trust_env=False).status_code == 200
    assert things.done == [b""]


# --- life -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "upstream",
    [
        "https://127.0.0.1:1",
        "http://example.com",
        "http://127.0.0.1:1/path",
        "127.0.0.1:80",
        "http://10.0.0.1:80",
        "http://127.0.0.1:99999",
        "http://[::1",
        "",
    ],
)
def test_only_plain_http_on_this_machine_can_be_the_upstream(upstream: str) -> None:
    with pytest.raises(ValueError, match="upstream "):
        FaultProxy(upstream)


def test_it_ends_at_once_with_slow_exchanges_under_way(things: Things) -> None:
    proxy = FaultProxy(things.url).start()
    proxy.misbehave(Fault.SILENCE)
    proxy.misbehave(Fault.DRIP)
    proxy.misbehave(Fault.DELAY, seconds=60)
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(proxy.url + "/things", timeout=0.1, trust_env=False)
    began = time.monotonic()
    proxy.stop()
    proxy.stop()
    assert time.monotonic() - began < 1
    url = proxy.url
    with proxy:
        assert proxy.url == url
        assert httpx.get(url + "/things", trust_env=False).json() == BODY


def test_nothing_is_left_open(things: Things) -> None:
    import gc
    import warnings

    before = threading.active_count()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with FaultProxy(things.url) as proxy:
            for fault in (Fault.SILENCE, Fault.CUT_BODY, Fault.RESET):
                proxy.misbehave(fault)
                with pytest.raises(httpx.TransportError):
                    httpx.get(proxy.url + "/things", timeout=0.1, trust_env=False)
            assert proxy.state()["connections"] in (0, 1)
        gc.collect()
    assert [str(one.message) for one in found] == []
    assert threading.active_count() <= before + 1


def _much(link: socket.socket, size: int) -> None:
    link.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
    block = b"x" * 1_000_000
    for _ in range(size // len(block)):
        link.sendall(block)


def _echo_in_chunks(link: socket.socket) -> None:
    received = link.recv(65536)
    while not received.endswith(b"\r\n0\r\n\r\n"):
        received += link.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    link.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    trailer = b"0\r\nX-Sum: 1\r\n\r\n"
    link.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body[:-5] + trailer)


@contextmanager
def _upstream(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does `answer` to each connection once something arrived, then closes it."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def serve(link: socket.socket) -> None:
        with link:
            link.recv(1, socket.MSG_PEEK)
            answer(link)
            link.settimeout(1)
            try:
                link.shutdown(socket.SHUT_WR)
                while link.recv(65536):
                    pass
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(link,)))
            threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    acceptor.join()
    for thread in threads:
        thread.join()
