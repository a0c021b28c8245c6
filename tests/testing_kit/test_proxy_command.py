"""The proxy as a process of its own, ordered over HTTP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from hub.sdk.testing import FakeServer, Response

COMMAND = [sys.executable, "-W", "error", "-m", "hub.sdk.testing.proxy"]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        fake.route("GET", "/x", lambda _: Response(json={"total": 2}))
        yield fake


@pytest.fixture(scope="module")
def proxy(fake: FakeServer) -> Iterator[str]:
    with subprocess.Popen(
        [*COMMAND, "--upstream", fake.url, "--seed", "5"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("", timeout=10)
        assert process.returncode == 0


@pytest.fixture
def client(proxy: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy, timeout=5, trust_env=False) as client:
        yield client
        client.post("/_proxy/behave")


def test_everything_can_be_ordered_over_http(client: httpx.Client, fake: FakeServer) -> None:
    order = {"fault": "status", "path": "/*", "chance": 1.0, "options": {"status": 503}}
    assert client.post("/_proxy/misbehave", json=order).json()["ok"] is True
    assert client.get("/x").status_code == 503
    order = {"name": "put", "path": "/x", "options": {"at": "total", "value": 5}}
    client.post("/_proxy/alter", json=order)
    assert client.get("/x").json() == {"total": 5}
    client.post("/_proxy/misbehave", json={"fault": "silence", "times": None})
    client.post("/_proxy/behave")
    assert client.get("/x").json() == {"total": 2}
    assert client.get("/_proxy/state").json() == {"upstream": fake.url, "connections": 1}
    log = client.get("/_proxy/log", params={"path": "/x"}).json()
    assert [one["method"] for one in log["requests"]][-3:] == ["GET"] * 3


def test_the_control_of_a_fake_behind_it_stays_in_reach(client: httpx.Client) -> None:
    client.post("/_fake/misbehave", json={"fault": "status", "options": {"status": 418}})
    assert client.get("/x").status_code == 418


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({"fault": "explode"}, "'explode' is not a valid Fault"),
        ({"fault": "drip", "options": {"speed": 1}}, "no option 'speed'"),
        ({"fault": "drip", "times": 0}, "times 0"),
        ({"fault": "drip", "times": "two"}, "TypeError"),
        ({"fault": "drip", "after": -1}, "after -1"),
        ({"fault": "drip", "chance": 0}, "chance 0"),
        ({"fault": "reset", "path": 5}, "path 5"),
        ({"fault": "status", "status": 503}, "misbehave has no 'status'"),
        ({"fault": "status", "options": {"status": 99}}, "status 99"),
        ({"fault": "status", "options": {"status": "no"}}, "status 'no'"),
        ({"fault": "status", "options": [503]}, "JSON objects"),
        ([], "JSON objects"),
    ],
)
def test_a_wrong_order_is_refused_with_a_reason(
    client: httpx.Client, order: object, reason: str
) -> None:
    answer = client.post("/_proxy/misbehave", json=order)
    assert answer.status_code == 400
    assert reason in answer.json()["reason"]
    assert client.get("/x").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--upstream"),
        (["--upstream", "https://example.com"], "is not of the form"),
        (["--upstream", "http://127.0.0.1:1", "--port", "70000"], "port"),
    ],
)
def test_wrong_usage_is_one_clear_line_and_exit_code_2(arguments: list[str], words: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000])
def test_an_order_that_is_no_json_is_refused_and_breaks_nothing(
    client: httpx.Client, body: bytes
) -> None:
    answer = client.post("/_proxy/misbehave", content=body)
    assert (answer.status_code, answer.json()["ok"]) == (400, False)
