"""Whatever is sent to a route, the answer is a documented problem and never a 5xx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.engine.deployment import create_deployment
from hub.engine.hub import Hub, open_hub
from tests.api.test_api import CONNECTIONS, FLOW, Client, is_problem

KNOWN = {"flow": "shop_items", "entity": "shop_item", "name": "shop", "run_id": "1"}
IN_PATH = ("%00", "%ED%A0%80", "%FF", "99999999999999999999999", "9223372036854775808", "-1")
IN_QUERY = (*IN_PATH, "", "NaN", "1-%00", "999999999999999999d", "0001-01-01T00:00%2B14:00")
IN_BODY = ("\0", "\ud800", "", 10**30, 1e308, None, True, [], {}, "9" * 400 + "d")
BODIES = (b"", b"{", b"\xff", b"null", b"[]", b"[" * 5000, b'{"edit":' * 3000, b"NaN", b"1e999")
FIELDS = {
    "/v1/dead-letters/{letter_id}/replay": ("edit", "set", "decision", "target_id"),
    "/v1/dead-letters/{letter_id}/discard": ("reason",),
    "/v1/dead-letters/replays": ("per_second", "dry_run"),
    "/v1/dead-letters/discards": ("reason",),
    "/v1/subscriptions": ("url", "entities", "title", "from"),
    "/v1/subscriptions/{subscription_id}": ("url", "entities", "title", "state"),
    "/v1/subscriptions/{subscription_id}/secret": ("keep_hours",),
    "/v1/flows/{flow}/runs": ("full", "allow_deletes"),
}
FILTERS = ("flow", "connection", "sink", "kind", "state", "field", "code", "text", "since", "until")
BODY: dict[str, Any] = {"content": b"{}", "headers": {"Content-Type": "application/json"}}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hub]:
    create_deployment(tmp_path)
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        (tmp_path / "hub.toml").write_text(f'[store]\nurl = "{url}"\n', encoding="utf-8")
    (tmp_path / "connections.yaml").write_text(CONNECTIONS, encoding="utf-8")
    (tmp_path / "mappings/flows/shop_items.yaml").write_text(FLOW, encoding="utf-8")
    with open_hub(tmp_path) as opened:
        yield opened


@pytest.fixture
def call(hub: Hub) -> Client:
    return Client(hub)


Try = tuple[str, str, dict[str, Any]]


def filled(route: str, but: str = "", value: str = "") -> str:
    """The route with parameters that exist, except for one."""
    for name in ("subscription_id", "message_id", "field", "replay_id", "letter_id", "key", *KNOWN):
        wanted = value if name == but else KNOWN.get(name, "abcdef12")
        route = route.replace(f"{{{name}}}", wanted)
    return route


def with_body(value: Any) -> dict[str, Any]:
    return {**BODY, "content": value if isinstance(value, bytes) else json.dumps(value).encode()}


def tries(route: str, method: str, described: dict[str, Any]) -> Iterator[Try]:
    """Strange things in every place of a route, one at a time."""
    body = {} if method == "GET" else BODY
    for one in described.get("parameters", []):
        if one["in"] == "path":
            yield from ((method, filled(route, one["name"], text), body) for text in IN_PATH)
        elif one["in"] == "query" and one["name"] != "wait":
            for text in IN_QUERY:
                yield method, f"{filled(route)}?{one['name']}={text}", body
        elif one["in"] == "header":
            yield (
                method,
                filled(route),
                {**body, "headers": {**BODY["headers"], one["name"]: "%00"}},
            )
    if method != "GET":
        yield from ((method, filled(route), with_body(raw)) for raw in BODIES)
        for value in IN_BODY:
            for name in (*FIELDS.get(route, ()), "extra"):
                given = {"reason": "r", "url": "https://a.example/x", "filter": {"flow": "no"}}
                kept = {key: given[key] for key in given if key in FIELDS.get(route, ())}
                yield method, filled(route), with_body({**kept, name: value})


def filter_tries() -> Iterator[Try]:
    for path in ("/v1/dead-letters/replays", "/v1/dead-letters/discards"):
        for name in FILTERS:
            for value in IN_BODY[:3]:
                body = {"filter": {"flow": "shop_items", name: value}, "reason": "r"}
                if path.endswith("replays"):
                    del body["reason"]
                yield "POST", path, with_body(body)


def test_strange_input_ends_as_a_documented_answer(call: Client) -> None:
    described = call("GET", "/openapi.json").json()["paths"]
    wrong = []
    for route, methods in described.items():
        if not route.startswith("/v1"):
            continue
        for method, one in methods.items():
            for name, path, options in tries(route, method.upper(), one):
                answer = call(name, path, **options)
                known = str(answer.status_code) in one["responses"] or answer.is_error
                media = answer.headers["content-type"]
                shaped = not answer.is_error or media == "application/problem+json"
                if answer.status_code >= 500 or not known or not shaped:
                    wrong.append((name, path[:90], answer.status_code, answer.text[:200]))
    for name, path, options in filter_tries():
        answer = call(name, path, **options)
        if answer.status_code >= 500:
            wrong.append((name, path, answer.status_code, answer.text[:200]))
    assert wrong == []


def test_every_route_documents_its_problems(call: Client) -> None:
    described = call("GET", "/openapi.json").json()["paths"]
    for route, methods in described.items():
        for one in methods.values():
            content = one["responses"]["default"]["content"]
            assert list(content) == ["application/problem+json"], route
            assert "HTTPValidationError" not in json.dumps(one["responses"]), route


def test_webhooks_of_connections_are_described(call: Client) -> None:
    described = call("GET", "/openapi.json").json()["paths"]["/hooks/{connection}"]["post"]
    assert {"2XX", "401", "404", "413", "429", "503"} <= set(described["responses"])


def test_a_slash_too_many_is_no_redirect_to_the_host_header(call: Client) -> None:
    answer = call("GET", "/v1/flows/", headers={"Host": "evil.example"})
    is_problem(answer, 404, "api.not_found")
