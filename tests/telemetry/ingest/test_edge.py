"""What the HTTP edge of telemetry makes of strange requests."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hub.api import bodies, telemetry
from hub.api.bodies import BadGzip, TooLarge, Unzip
from tests.telemetry.ingest.rig import LARGEST, TOKEN, Device, Edge, Plant, edge, send

PATH = f"/tiny/{TOKEN}"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with edge(Plant(tmp_path_factory.mktemp("edge") / "hub")) as found:
        yield found


@pytest.fixture
def here(opened: Edge) -> Edge:
    assert opened.port
    return opened


def raw(port: int, *parts: bytes, seconds: float = 20, pause: float = 0) -> bytes:
    """Whatever comes back for these bytes until the hub closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as link:
        got = []
        with suppress(ConnectionError):
            for part in parts:
                link.sendall(part)
                time.sleep(pause)
            while piece := link.recv(65_536):
                got.append(piece)
    return b"".join(got)


def head(*lines: str, path: str = PATH) -> bytes:
    first = [f"POST {path} HTTP/1.1", "Host: hub", "Connection: close", *lines]
    return "\r\n".join([*first, "", ""]).encode()


# --- gzip -------------------------------------------------------------------------------------


def test_a_zipped_body_is_kept_unzipped(here: Edge) -> None:
    body = b'{"temperature": 21.5}' * 1000
    answer = send(here.port, gzip.compress(body), Content_Encoding="gzip")
    assert (answer.status, answer.headers["x-size"]) == (200, str(len(body)))
    assert here.kept()[-1] == body


def test_several_members_and_filling_zeros_are_one_body(here: Edge) -> None:
    zipped = gzip.compress(b"one ") + gzip.compress(b"two") + b"\0" * 100
    answer = send(here.port, zipped, Content_Encoding="GZIP")
    assert (answer.status, here.kept()[-1]) == (200, b"one two")


def test_an_empty_body_is_not_unzipped(here: Edge) -> None:
    assert send(here.port, b"", Content_Encoding="gzip").status == 200
    chunked = head("Transfer-Encoding: chunked", "Content-Encoding: gzip")
    assert raw(here.port, chunked, b"0\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"no gzip at all", id="plain"),
        pytest.param(gzip.compress(b"x" * 5000)[:-9], id="cut"),
        pytest.param(gzip.compress(b"x") + b"garbage", id="garbage"),
        pytest.param(gzip.compress(b"x") + b"\x1f\x8b", id="half a member"),
        pytest.param(gzip.compress(b"x" * 50)[:-2] + b"zz", id="checksum"),
        pytest.param(gzip.compress(b"") * 1200, id="members"),
        pytest.param(b"\x1f", id="one byte"),
    ],
)
def test_what_is_no_sound_gzip_is_refused(here: Edge, body: bytes) -> None:
    answer = send(here.port, body, Content_Encoding="gzip")
    assert (answer.status, answer.told["code"]) == (400, "telemetry.gzip")


def test_another_encoding_is_refused(here: Edge) -> None:
    answer = send(here.port, b"x", Content_Encoding="br")
    assert (answer.status, answer.told["code"]) == (415, "telemetry.encoding")


def test_a_zipped_body_that_becomes_too_large_is_refused(here: Edge) -> None:
    answer = send(here.port, gzip.compress(b"x" * (LARGEST + 1)), Content_Encoding="gzip")
    assert (answer.status, answer.told["code"]) == (413, "telemetry.too_large")


def test_a_bomb_goes_off_after_its_first_step() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000, 9)
    unzip = Unzip(limit=10**9)
    pieces: list[bytes] = []
    with pytest.raises(BadGzip):
        pieces.extend(unzip.feed(bomb))
    assert sum(map(len, pieces)) <= len(bomb) * bodies.RATIO
    small = Unzip(limit=1000)
    with pytest.raises(TooLarge):
        list(small.feed(bomb))


def test_a_bomb_in_a_bomb_is_only_bytes(here: Edge) -> None:
    inner = gzip.compress(b"\0" * 5_000_000)
    answer = send(here.port, gzip.compress(inner), Content_Encoding="gzip")
    assert (answer.status, here.kept()[-1]) == (200, inner)


@pytest.mark.parametrize("size", [1, 7, 1000, 65_536])
def test_a_gzip_unpacks_the_same_however_it_is_cut(size: int) -> None:
    content = bytes(range(256)) * 3000
    level = zlib.compressobj(0, wbits=31)
    zipped = gzip.compress(content) + level.compress(content) + level.flush()
    unzip = Unzip(limit=10**7)
    parts = [zipped[at : at + size] for at in range(0, min(len(zipped), 900 * size), size)]
    got = b"".join(piece for part in parts for piece in unzip.feed(part))
    assert (content * 2).startswith(got)
    assert len(got) > 100 or size == 1


# --- sizes, headers, speed --------------------------------------------------------------------


def test_a_body_as_large_as_allowed_is_taken_and_one_more_byte_is_not(here: Edge) -> None:
    assert send(here.port, b"x" * LARGEST).status == 200
    answer = send(here.port, b"x" * (LARGEST + 1))
    assert (answer.status, answer.told["code"]) == (413, "telemetry.too_large")


def test_a_chunked_body_is_taken_and_cut_off_at_the_limit(here: Edge) -> None:
    assert send(here.port, iter([b"a" * 70_000, b"b" * 70_000])).status == 200  # type: ignore[arg-type]
    assert here.kept()[-1] == b"a" * 70_000 + b"b" * 70_000
    with Device(here.port) as device:
        answer = device.send(iter([b"x" * 100_000] * 40))
        assert (answer.status, answer.told["code"]) == (413, "telemetry.too_large")
        assert device.send(b"next").status == 200, "the connection is still good"


def test_a_body_that_does_not_come_is_given_up(here: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_BODY_SECONDS", 0.3)
    answer = raw(here.port, head("Content-Length: 10"), b"half")
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()
    assert send(here.port).status == 200


def test_a_refused_sender_is_not_asked_to_go_on(here: Edge) -> None:
    lines = ("Content-Length: 10", "Expect: 100-continue")
    refused = raw(here.port, head(*lines, path="/tiny/guess"))
    assert refused.startswith(b"HTTP/1.1 401")
    taken = raw(here.port, head(*lines), b"0123456789", pause=0.2)
    assert taken.startswith(b"HTTP/1.1 100")
    assert b"HTTP/1.1 200" in taken


def test_too_many_headers_are_refused(here: Edge) -> None:
    answer = send(here.port, b"x", **{f"X_{at}": "y" for at in range(120)})
    assert (answer.status, answer.told["code"]) == (431, "telemetry.headers")


@pytest.mark.parametrize("length", ["-1", "99999999999999999999", "1e3"])
def test_a_strange_length_breaks_nothing(here: Edge, length: str) -> None:
    answer = raw(here.port, head(f"Content-Length: {length}"), b"x")
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))
    assert send(here.port).status == 200


def test_more_held_bytes_than_bearable_are_refused_and_given_back(
    here: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "MOST_HELD", 50_000)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", here.port)) as link:
            link.sendall(head("Content-Length: 45000") + b"x" * 40_000)
    deadline = time.monotonic() + 10
    while send(here.port, b"x" * 45_000).status != 200:
        assert time.monotonic() < deadline
    zipped = send(here.port, gzip.compress(b"x" * 60_000), Content_Encoding="gzip")
    assert (zipped.status, zipped.told["code"]) == (503, "telemetry.overload")
    assert send(here.port, b"x" * 45_000).status == 200


# --- faces ------------------------------------------------------------------------------------


def test_a_face_that_breaks_is_a_clear_error_of_that_request(here: Edge) -> None:
    answer = send(here.port, b"break")
    assert (answer.status, answer.told["code"]) == (500, "telemetry.failed")
    twice = send(here.port, b"break", path=f"{PATH}?refuse-breaks=1")
    assert (twice.status, twice.body) == (500, b"")
    assert send(here.port).status == 200


def test_a_long_poll_holds_nobody_up(here: Edge) -> None:
    answers: list[int] = []

    def poll() -> None:
        with Device(here.port) as device:
            answers.append(device.send(b"", "GET").status)

    threads = [threading.Thread(target=poll) for _ in range(30)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    assert send(here.port).status == 200
    assert time.monotonic() - began < 0.9
    for thread in threads:
        thread.join(20)
    assert answers == [204] * 30


def test_a_path_that_no_face_takes_is_the_apis(here: Edge) -> None:
    assert send(here.port, path="/livez", method="GET").status == 200


def test_a_path_reaches_the_face_as_it_was_sent(tmp_path: Path, here: Edge) -> None:
    assert send(here.port, path="/tiny/a%2Fb%00").status == 401
