"""A raw look at what a server sends; a proxy before a server."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import httpx
import pytest

from hub.sdk.testing import FaultProxy
from tests.testing_kit.things import Things

Raw = Callable[..., tuple[bytes, str]]


def _ask(url: str, request: bytes, wait: float = 5.0) -> tuple[bytes, str]:
    """Everything a server sends, and how that ends: `closed`, `reset` or `silent`."""
    host, port = url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=wait) as link:
        link.sendall(request)
        try:
            while part := link.recv(65536):
                received += part
        except ConnectionResetError:
            return received, "reset"
        except TimeoutError:
            return received, "silent"
    return received, "closed"


@pytest.fixture
def raw() -> Raw:
    return _ask


@pytest.fixture
def things() -> Iterator[Things]:
    with Things() as server:
        yield server


@pytest.fixture
def proxy(things: Things) -> Iterator[FaultProxy]:
    with FaultProxy(things.url, patience=5) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[httpx.Client]:
    timeout = httpx.Timeout(5, read=0.3)
    with httpx.Client(base_url=proxy.url, timeout=timeout, trust_env=False) as client:
        yield client
