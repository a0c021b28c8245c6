from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import httpx
import pytest

from hub.sdk.testing import FakeClock, FakeServer, Request, Response


class Counting(FakeServer):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.route("POST", "/add/{name}/{number}", self.add)
        self.route("GET", "/rows", lambda _: Response(json={"total": 2, "rows": [{"id": 1}] * 2}))
        self.route("GET", "/price", lambda _: Response(json={"price": Decimal("0.10")}))
        self.commands["reset"] = self.reset

    def add(self, request: Request) -> Response:
        before = self.total
        time.sleep(0)
        self.total = before + int(request.params["number"])
        return Response(201, json={"name": request.params["name"], "total": self.total})

    def reset(self, to: int = 0) -> int:
        self.total = to
        return to

    def state(self) -> dict[str, object]:
        return {"total": self.total}


@pytest.fixture
def server() -> Iterator[Counting]:
    with Counting() as server:
        yield server


@pytest.fixture
def client(server: Counting) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=5, trust_env=False) as client:
        yield client


def test_parts_of_the_path_reach_the_handler(client: httpx.Client) -> None:
    answer = client.post("/add/%E4%B8%8A%2F%E6%B5%B7/3")
    assert answer.status_code == 201
    assert answer.json() == {"name": "上/海", "total": 3}


def test_an_unknown_path_is_404(client: httpx.Client) -> None:
    assert client.get("/add/a/1").status_code == 404
    assert client.get("/nothing").json()["path"] == "/nothing"


def test_decimals_travel_as_plain_numbers(client: httpx.Client) -> None:
    assert client.get("/price").content == b'{"price":0.10}'


def test_every_request_is_logged_and_counted(server: Counting, client: httpx.Client) -> None:
    client.get("/rows", params={"page": "2"}, headers={"X-Mark": "a"})
    client.post("/add/a/1", content=iter([b"two ", b"chunks"]))
    first, second = server.requests
    assert (first.method, first.path, dict(first.query)) == ("GET", "/rows", {"page": "2"})
    assert "x-mark" in first.headers
    assert second.body == b"two chunks"
    assert second.time >= first.time
    assert (server.count(), server.count("/rows"), server.count(method="POST")) == (2, 1, 1)
    assert server.busiest(1.0) == 2
    server.forget()
    assert (server.count(), server.requests) == (0, [])


def test_parallel_requests_see_a_consistent_state(server: Counting) -> None:
    def work(_: int) -> None:
        with httpx.Client(base_url=server.url, timeout=10, trust_env=False) as client:
            for _ in range(20):
                client.post("/add/a/1")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert server.total == server.count() == 160


def test_answers_can_be_altered_by_function_or_name(server: Counting, client: httpx.Client) -> None:
    server.alter("/rows", lambda body, request: {**body, "asked": request.query["a"]}, after=1)
    server.alter("/rows", "put", times=2, at="total", value="99")
    server.alter("/rows", "drop_row", at="rows")
    assert client.get("/rows?a=1").json() == {"total": "99", "rows": [{"id": 1}]}
    assert client.get("/rows?a=2").json()["asked"] == "2"
    assert client.get("/rows?a=3").json() == {"total": 2, "rows": [{"id": 1}, {"id": 1}]}
    with pytest.raises(ValueError, match="no alteration 'wrong'"):
        server.alter("/rows", "wrong")


@pytest.mark.parametrize(
    ("name", "options", "seen"),
    [
        ("empty_rows", {"at": "rows"}, {"total": 2, "rows": []}),
        ("drop", {"at": "rows"}, {"total": 2}),
        ("replace_body", {"body": {"errcode": "40001"}}, {"errcode": "40001"}),
        (
            "change_row",
            {"at": "rows", "values": {"x": 1}},
            {"total": 2, "rows": [{"id": 1, "x": 1}, {"id": 1}]},
        ),
        ("bad_row", {"at": "rows", "index": 1}, {"total": 2, "rows": [{"id": 1}, "not an object"]}),
        (
            "insert_row",
            {"at": "rows", "row": {"id": 9}},
            {"total": 2, "rows": [{"id": 9}, {"id": 1}, {"id": 1}]},
        ),
        ("put", {"at": "rows.1.id", "value": 7}, {"total": 2, "rows": [{"id": 1}, {"id": 7}]}),
    ],
)
def test_common_alterations(
    server: Counting,
    client: httpx.Client,
    name: str,
    options: dict[str, object],
    seen: dict[str, object],
) -> None:
    server.alter("/rows", name, **options)
    assert client.get("/rows").json() == seen


def test_a_repeated_page_is_the_first_one_again(server: Counting, client: httpx.Client) -> None:
    server.alter("/add/{name}/{number}", "repeat_previous", times=None)
    totals = [client.post("/add/a/1").json()["total"] for _ in range(3)]
    assert totals == [1, 1, 1]
    assert server.total == 3


def test_everything_can_be_ordered_over_http(server: Counting, client: httpx.Client) -> None:
    order = {"fault": "status", "path": "/rows", "times": 1, "options": {"status": 503}}
    assert client.post("/_fake/misbehave", json=order).json()["ok"] is True
    assert client.get("/rows").status_code == 503
    order = {"name": "put", "path": "/rows", "options": {"at": "total", "value": 5}}
    client.post("/_fake/alter", json=order)
    assert client.get("/rows").json()["total"] == 5
    assert client.post("/_fake/do", json={"name": "reset", "options": {"to": 7}}).json() == {
        "ok": True,
        "result": 7,
    }
    assert client.get("/_fake/state").json() == {"total": 7}
    log = client.get("/_fake/log", params={"path": "/rows"}).json()
    assert log["count"] == 2
    assert log["requests"][0]["method"] == "GET"
    client.post("/_fake/misbehave", json={"fault": "silence", "times": None})
    client.post("/_fake/behave")
    assert client.get("/rows").status_code == 200


@pytest.mark.parametrize(
    ("path", "order"),
    [
        ("misbehave", {"fault": "explode"}),
        ("misbehave", {}),
        ("alter", {"name": "put", "options": {"on": "x"}}),
        ("do", {"name": "unknown"}),
        ("dance", {}),
    ],
)
def test_a_wrong_order_is_refused_with_a_reason(
    client: httpx.Client, path: str, order: dict[str, object]
) -> None:
    answer = client.post(f"/_fake/{path}", json=order)
    assert answer.status_code == 400
    assert answer.json()["reason"]


def test_a_connection_is_kept_and_nonsense_closes_it(
    server: Counting, client: httpx.Client
) -> None:
    for _ in range(5):
        client.get("/rows")
    assert len(server._links) == 1


def test_500_requests_take_less_than_a_second_or_so(client: httpx.Client) -> None:
    began = time.monotonic()
    for _ in range(500):
        client.get("/rows")
    assert time.monotonic() - began < 5  # generous: the client is most of it


def test_a_server_can_be_started_again_on_its_port() -> None:
    server = FakeServer().start()
    url = server.url
    server.stop()
    server.start()
    assert server.url == url
    assert httpx.get(url + "/x", trust_env=False).status_code == 404
    server.stop()


def test_a_separate_process_prints_its_url_and_ends_with_its_stdin() -> None:
    code = "from hub.sdk.testing import FakeServer, serve; serve(FakeServer())"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(url + "/_fake/state", trust_env=False).json() == {}
        process.communicate("", timeout=10)
        assert process.returncode == 0


def test_the_fake_clock_moves_only_when_told() -> None:
    clock = FakeClock()
    start = clock.now()
    assert start.utcoffset() == timedelta(0)
    clock.sleep(2.5)
    clock.sleep(0)
    clock.advance(1)
    assert clock.now() - start == timedelta(seconds=3.5)
    assert clock.monotonic() == 3.5
    assert clock.slept == [2.5]


def test_a_handler_that_breaks_is_the_tests_problem() -> None:
    def broken(request: Request) -> Response:
        raise KeyError(request.path)

    server = FakeServer()
    server.route("GET", "/x", broken)
    server.route("POST", "/x", lambda request: Response(json=request.json()))
    server.start()
    assert httpx.post(server.url + "/x", content=b"{", trust_env=False).status_code == 400
    assert server.failures == []
    assert httpx.get(server.url + "/x", trust_env=False).status_code == 500
    with pytest.raises(RuntimeError, match="GET /x: KeyError"):
        server.__exit__(None, None, None)


@pytest.mark.parametrize("name", ["drop", "empty_rows", "change_row", "bad_row", "drop_row"])
def test_alterations_leave_answers_alone_that_lack_the_place(
    server: Counting, client: httpx.Client, name: str
) -> None:
    options = {"values": {"a": 1}} if name == "change_row" else {}
    server.alter("/price", name, at="data.rows", **options)
    assert client.get("/price").json() == {"price": 0.1}


def test_the_log_keeps_the_newest_64_mb(server: Counting, client: httpx.Client) -> None:
    for letter in "abc":
        client.post("/add/a/1", content=letter.encode() * 25_000_000)
    assert [request.body[:1] for request in server.requests] == [b"b", b"c"]
    assert server.count() == 3
