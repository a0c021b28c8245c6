"""What arrives at a fake server is what was sent, and nonsense harms nobody."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sdk.testing import FakeServer, Request, Response


@pytest.fixture(scope="module")
def echo() -> Iterator[FakeServer]:
    def answer(request: Request) -> Response:
        headers = {"X-Name": quote(request.params["name"], safe="")}
        return Response(body=request.body, headers=headers, media_type="text/plain")

    with FakeServer() as server:
        server.route("POST", "/echo/{name}", answer)
        yield server


@given(
    parts=st.lists(st.binary(max_size=2000), max_size=5),
    name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
        lambda name: set(name) != {"."}
    ),
    chunked=st.booleans(),
)
def test_bodies_and_names_arrive_as_they_were_sent(
    echo: FakeServer, parts: list[bytes], name: str, chunked: bool
) -> None:
    content = iter(parts) if chunked else b"".join(parts)
    with httpx.Client(trust_env=False, timeout=5) as client:
        answer = client.post(f"{echo.url}/echo/{quote(name, safe='')}", content=content)
    assert answer.content == b"".join(parts)
    assert answer.headers["x-name"] == quote(name, safe="")


@given(noise=st.binary(min_size=1, max_size=300))
def test_noise_closes_its_connection_and_the_server_goes_on(echo: FakeServer, noise: bytes) -> None:
    address = ("127.0.0.1", int(echo.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=5) as link:
        link.sendall(noise)
        link.shutdown(socket.SHUT_WR)
        while True:
            try:
                if not link.recv(65536):
                    break
            except ConnectionResetError:
                break
    answer = httpx.post(f"{echo.url}/echo/x", content=b"still here", trust_env=False)
    assert answer.content == b"still here"


def test_two_requests_in_one_packet_get_two_answers(echo: FakeServer) -> None:
    address = ("127.0.0.1", int(echo.url.rpartition(":")[2]))
    one = b"POST /echo/a HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi"
    last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n").replace(b"hi", b"ho")
    with socket.create_connection(address, timeout=5) as link:
        link.sendall(one + last)
        received = b""
        while part := link.recv(65536):
            received += part
    assert received.count(b"HTTP/1.1 200") == 2
    assert received.endswith(b"ho")
