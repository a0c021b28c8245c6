"""The machine API: who may call it, what errors look like, what health says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import sqlalchemy as sa

from hub.api.app import create_app
from hub.api.problems import MAX_BODY
from hub.api.server import listen
from hub.engine.deployment import create_deployment
from hub.engine.hub import Hub, open_hub
from hub.engine.statistics import prometheus_text
from hub.sdk.errors import ConfigError

CONNECTIONS = """\
shop:
  connector: rest
  config: {base_url: "http://127.0.0.1:9", token: store}
  auth: {kind: bearer}
  limits: {tries: 1, deadline: 2s}
  envelope: {ok: {path: $, is: list}}
  streams:
    items: {key: [id], request: {get: /items}, data: $}
"""

FLOW = """\
flow: shop_items
from: {connection: shop, stream: items}
mapping:
  key: [id]
  fields: {id: id}
to: {entity: shop_item}
"""


class Client:
    """Calls the app without a socket; sends the token unless told otherwise."""

    def __init__(self, hub: Hub) -> None:
        self._app = create_app(hub)
        folder = hub.deployment.private_folder
        self.token = (folder / "api.token").read_text(encoding="ascii")

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self._call(method, path, options))

    async def _call(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        # Starlette raises again what a handler did not expect, after it has answered.
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
            return await client.request(method, path, headers=headers, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_deployment(tmp_path)
    (tmp_path / "connections.yaml").write_text(CONNECTIONS, encoding="utf-8")
    (tmp_path / "mappings/flows/shop_items.yaml").write_text(FLOW, encoding="utf-8")
    return tmp_path


@pytest.fixture
def hub(folder: Path) -> Iterator[Hub]:
    with open_hub(folder) as opened:
        yield opened


@pytest.fixture
def call(hub: Hub) -> Client:
    return Client(hub)


def is_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is a problem document of this kind."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"] == f"urn:hub:problem:{code}"
    assert body["detail"]
    assert isinstance(body["params"], dict)
    return body


# --- who may call -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer wrong", "Basic Zm9v", "Bearer \u00e9"],
)
def test_a_call_without_the_token_is_refused(call: Client, header: str) -> None:
    answer = call("GET", "/v1/flows", headers={"Authorization": header.encode("latin-1")})
    is_problem(answer, 401, "api.unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_answers_leave_at_once_on_a_connection_that_is_kept() -> None:
    with (
        listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert client.recv(1) == b""


def test_what_is_not_there_is_hidden_without_the_token(call: Client) -> None:
    for path in ("/v1", "/v1/", "/v1/nothing"):
        is_problem(call("GET", path, headers={"Authorization": ""}), 401, "api.unauthorized")


def test_a_deployment_without_a_token_does_not_open_its_api(hub: Hub) -> None:
    (hub.deployment.private_folder / "api.token").unlink()
    with pytest.raises(ConfigError) as caught:
        create_app(hub)
    assert caught.value.code == "server.no_token"


# --- problems ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "api.not_found"),
        ("GET", "/nothing", 404, "api.not_found"),
        ("DELETE", "/v1/flows", 405, "api.method"),
        ("GET", "/v1/runs?limit=0", 422, "api.invalid"),
        ("GET", "/v1/runs?limit=ten", 422, "api.invalid"),
        ("GET", "/v1/runs/first", 422, "api.invalid"),
        ("GET", "/v1/runs/7", 404, "run.unknown"),
        ("GET", "/v1/flows/shop_itms", 404, "flow.unknown"),
        ("POST", "/v1/flows/shop_itms/runs", 404, "flow.unknown"),
        ("POST", "/v1/connections/shp/check", 404, "connection.unknown"),
        ("GET", "/v1/records/shop_itm/count", 404, "entity.unknown"),
        ("GET", "/v1/dead-letters/0123456789", 404, "dead_letter.unknown"),
    ],
)
def test_every_error_is_a_problem_document(
    call: Client, method: str, path: str, status: int, code: str
) -> None:
    body = is_problem(call(method, path), status, code)
    assert body["instance"] == path.partition("?")[0]


def test_a_missing_secret_is_a_conflict_and_starts_nothing(call: Client) -> None:
    answer = call("POST", "/v1/flows/shop_items/runs", json={"full": True})
    body = is_problem(answer, 409, "connection.secret_store")
    assert body["params"]["key"] == "token"
    assert call("GET", "/v1/runs").json() == {"items": []}


def test_problems_speak_the_language_asked_for(call: Client) -> None:
    chinese = call("GET", "/v1/runs/7", headers={"Accept-Language": "zh-CN,en;q=0.5"}).json()
    english = call("GET", "/v1/runs/7", headers={"Accept-Language": "en"}).json()
    assert "找不到运行 7" in chinese["detail"]
    assert "run 7 not found" in english["detail"]
    assert chinese["code"] == english["code"]


def test_a_body_that_is_too_large_is_refused(call: Client) -> None:
    path = "/v1/flows/shop_items/runs"
    is_problem(call("POST", path, content=b"x" * (MAX_BODY + 1)), 413, "api.too_large")


def test_a_large_body_without_a_length_is_refused_too(call: Client) -> None:
    async def drops() -> Any:
        for _ in range(20):
            yield b"x" * (MAX_BODY // 10)

    answer = call("POST", "/v1/flows/shop_items/runs", content=drops())
    is_problem(answer, 413, "api.too_large")


def test_unknown_fields_in_a_body_are_errors(call: Client) -> None:
    answer = call("POST", "/v1/flows/shop_items/runs", json={"ful": True})
    assert is_problem(answer, 422, "api.invalid")["params"]["where"] == "body.ful"


def test_a_store_that_is_away_is_worth_another_try_and_not_an_error_of_ours(
    call: Client, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise sa.exc.OperationalError("SELECT", {}, ConnectionError("server closed"))

    monkeypatch.setattr("hub.engine.operations.flows.list_runs", away)
    answer = call("GET", "/v1/runs")
    is_problem(answer, 503, "api.store_away")
    assert answer.headers["retry-after"] == "5"


def test_a_surprise_is_a_problem_without_its_details(
    call: Client, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("hub.engine.operations.flows.list_runs", broken)
    answer = call("GET", "/v1/runs")
    is_problem(answer, 500, "api.internal")
    assert "secret detail" not in answer.text


# --- operations -------------------------------------------------------------------------------


def test_a_secret_goes_in_and_never_comes_out(call: Client, hub: Hub) -> None:
    path = "/v1/connections/shop/secrets"
    answer = call("PUT", f"{path}/token", json={"value": "pass-word-7"})
    assert answer.json() == {"connection": "shop", "field": "token", "stored": True}
    assert hub.connection("shop").config["token"] == "pass-word-7"
    is_problem(
        call("PUT", f"{path}/base_url", json={"value": "x"}), 422, "connection.no_secret_field"
    )
    is_problem(call("PUT", f"{path}/token", json={"value": ""}), 422, "connection.secret_empty")
    wrong = call("PUT", f"{path}/token", json={"value": 7, "extra": "pass-word-8"})
    assert "pass-word-8" not in wrong.text
    for listing in ("/v1/connections", "/v1/doctor"):
        assert "pass-word-7" not in call("GET", listing).text


def test_listings_hold_their_rows_under_items(call: Client) -> None:
    names = [row["name"] for row in call("GET", "/v1/connectors").json()["items"]]
    assert "rest" in names
    flows = {row["flow"]: row for row in call("GET", "/v1/flows").json()["items"]}
    assert flows["shop_items"]["to"] == "hub/shop_item"
    one = call("GET", "/v1/flows/shop_items").json()
    assert one["unfinished"] is None
    assert call("GET", "/v1/records/shop_item/count").json() == {"entity": "shop_item", "count": 0}
    page = call("GET", "/v1/records/shop_item?since=0&limit=100000").json()
    assert page == {"entity": "shop_item", "records": [], "next": 0, "more": False}


def test_the_schema_names_every_path_of_the_interface(call: Client) -> None:
    paths = call("GET", "/openapi.json").json()["paths"]
    wanted = {
        "/livez", "/readyz", "/metrics", "/v1/connectors", "/v1/connections", "/v1/flows",
        "/v1/connections/{name}/check", "/v1/connections/{name}/secrets/{field}",
        "/v1/flows/{flow}", "/v1/flows/{flow}/runs", "/v1/runs", "/v1/runs/{run_id}",
        "/v1/records/{entity}", "/v1/records/{entity}/count", "/v1/dead-letters",
    }  # fmt: skip
    assert wanted <= set(paths)


# --- health -----------------------------------------------------------------------------------


def test_health_needs_no_token(call: Client) -> None:
    assert call("GET", "/livez", headers={"Authorization": ""}).text == "ok"
    answer = call("GET", "/readyz", headers={"Authorization": ""})
    assert (answer.status_code, answer.json()) == (503, {"database": True, "engine": False})


def test_ready_means_that_jobs_are_worked_on(folder: Path) -> None:
    with open_hub(folder, jobs=True) as hub:
        answer = Client(hub)("GET", "/readyz")
    assert (answer.status_code, answer.json()) == (200, {"database": True, "engine": True})


def test_metrics_are_prometheus_text(call: Client, hub: Hub) -> None:
    answer = call("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    helps = [line.split()[2] for line in lines if line.startswith("# HELP")]
    types = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert helps == types
    assert all(name.startswith("hub_") for name in helps)
    assert answer.text == prometheus_text(hub)
    assert msgspec.json.encode(answer.text)
