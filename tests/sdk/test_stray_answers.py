"""An answer is credited to the request it belongs to, also when the other side says it twice."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from hub.sdk.manifest import Request
from hub.sdk.session import Session
from hub.sdk.testing import FakeServer, Fault, Response

OpenSession = Callable[..., Session]


@pytest.fixture(autouse=True)
def echo(fake: FakeServer) -> None:
    for method in ("GET", "POST"):
        fake.route(method, "/echo/{n}", lambda r: Response(json={"code": 0, "n": r.params["n"]}))


@pytest.mark.parametrize("read", [True, False])
def test_an_answer_given_twice_is_not_taken_for_the_next_one(
    fake: FakeServer, open_session: OpenSession, read: bool
) -> None:
    fake.misbehave(Fault.DUPLICATE_ANSWER, times=3)
    session = open_session()
    for n in range(5):
        path = f"/echo/{n}"
        request = Request(get=path) if read else Request(post=path, body={"a": 1})
        assert session.client.call(request, read=read).body["n"] == str(n)
    assert fake.count() == 5


def test_no_thread_gets_a_connection_on_which_an_answer_is_left(
    fake: FakeServer, open_session: OpenSession
) -> None:
    fake.misbehave(Fault.DUPLICATE_ANSWER, times=None, chance=0.5)
    session = open_session(limits={"concurrent": 8, "deadline": 20})

    def call(n: int) -> bool:
        request = Request(post=f"/echo/{n}", body={"a": n})
        return bool(session.client.call(request, read=False).body["n"] == str(n))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(600)))


def test_a_connection_is_kept_while_nothing_follows_an_answer(
    fake: FakeServer, open_session: OpenSession
) -> None:
    session = open_session()
    for n in range(5):
        session.client.call(Request(get=f"/echo/{n}"), read=True)
    assert len(fake._links) == 1


@pytest.fixture
def chunky() -> Iterator[str]:
    """Answers each connection's requests in chunks, the first of them twice."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(n: int) -> bytes:
        body = b'{"code": 0, "n": %d}' % n
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    def serve() -> None:
        n = 0
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link:
                while link.recv(65536):
                    link.sendall(answer(n) * (2 if n == 0 else 1))
                    n += 1

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_chunks_given_twice_are_not_taken_for_the_next_answer(
    open_session: OpenSession, chunky: str
) -> None:
    session = open_session({"config": {"base_url": chunky, "secret": "store"}})
    found = [session.client.call(Request(get="/"), read=True).body["n"] for _ in range(3)]
    session.close()
    assert found == [0, 1, 2]


def test_the_http_library_still_needs_our_look(fake: FakeServer) -> None:
    """When this fails the library looks for itself: `drop_what_follows` can go."""
    fake.misbehave(Fault.DUPLICATE_ANSWER)
    with httpx.Client(base_url=fake.url, trust_env=False) as client:
        client.get("/echo/1")
        assert client.get("/echo/2").json()["n"] == "1"
