"""Dead letters, replays and the audit over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.engine.hub import Hub, open_hub
from hub.store.dead_letters import DeadLetter, DeadLetterKind, put_dead_letters
from hub.store.ledger import LinkState, NewLink, insert_links
from tests.api.test_api import Client, folder, is_problem  # noqa: F401 (a fixture)

FLOW = "shop_items"


@pytest.fixture
def hub(folder: Path) -> Iterator[Hub]:  # noqa: F811 (the fixture)
    """Three letters; nobody works."""
    with open_hub(folder) as opened:
        with opened.store.transaction() as connection:
            state = LinkState.REJECTED.value
            insert_links(
                connection,
                [NewLink(FLOW, k, None, None, None, None, 0, 0, state, 1) for k in "ABC"],
            )
            problem = {"field": "id", "value": None, "code": "mapping.required", "message": "?"}
            letters = [
                DeadLetter(DeadLetterKind.RECORD, FLOW, 1, k, None, [problem],
                           f'{{"id": "{k}", "price": 12.10}}', sink_ref="hub/shop_item")
                for k in "ABC"
            ]  # fmt: skip
            put_dead_letters(connection, letters, 1_000)
        with opened.store.transaction() as connection:
            opened.vault().put(connection, "shop", "token", "x", 1)
        yield opened


@pytest.fixture
def call(hub: Hub) -> Client:
    return Client(hub)


def first(call: Client) -> dict[str, Any]:
    found: dict[str, Any] = call("GET", "/v1/dead-letters").json()["items"][0]
    return found


def test_letters_are_listed_page_by_page(call: Client) -> None:
    page = call("GET", "/v1/dead-letters?limit=2").json()
    rest = call("GET", f"/v1/dead-letters?limit=2&after={page['next']}").json()
    keys = [one["source_key"] for one in [*page["items"], *rest["items"]]]
    assert (sorted(keys), rest["next"]) == (["A", "B", "C"], None)
    assert call("GET", "/v1/dead-letters/summary").json()["total"] == 3
    assert call("GET", "/v1/dead-letters?text=b").json()["items"][0]["source_key"] == "B"
    assert call("GET", "/v1/dead-letters?state=discarded").json()["items"] == []


def test_a_payload_comes_as_it_was_written(call: Client) -> None:
    assert '"price":12.10' in call("GET", f"/v1/dead-letters/{first(call)['id']}").text


def test_a_replay_is_accepted_once(call: Client) -> None:
    path = f"/v1/dead-letters/{first(call)['id']}/replay"
    answer = call("POST", path, content=b'{"set": {"price": 12.30}}')
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "running"
    assert "12.3" not in answer.text
    is_problem(call("POST", path), 409, "dead_letter.not_open")
    replay = answer.json()["id"]
    assert call("GET", f"/v1/dead-letters/replays/{replay}").json()["total"] == 1
    assert len(call("GET", "/v1/dead-letters/replays").json()["items"]) == 1
    assert call("POST", f"/v1/dead-letters/replays/{replay}/cancel").json()["state"] == "cancelled"
    assert len(call("GET", "/v1/dead-letters").json()["items"]) == 3, "open as before"


def test_all_letters_of_a_filter(call: Client) -> None:
    body: dict[str, Any] = {"filter": {"flow": FLOW}, "dry_run": True}
    dry = call("POST", "/v1/dead-letters/replays", json=body)
    assert (dry.status_code, dry.json()["total"]) == (200, 3)
    body |= {"dry_run": False, "per_second": 5}
    asked = call("POST", "/v1/dead-letters/replays", json=body)
    assert (asked.status_code, asked.json()["total"], asked.json()["per_second"]) == (202, 3, 5)
    body = {"filter": {"flow": FLOW, "text": "A"}, "reason": "obsolete"}
    assert call("POST", "/v1/dead-letters/discards", json=body).json() == {"discarded": 1}


def test_who_asked_is_named_by_a_header_and_is_else_the_token(call: Client) -> None:
    path = f"/v1/dead-letters/{first(call)['id']}/discard"
    body = {"reason": "obsolete"}
    call("POST", path, json=body, headers={"X-Hub-Actor": "%E7%8E%8B%0A%E4%BA%94"})
    path = f"/v1/dead-letters/{first(call)['id']}/discard"
    call("POST", path, json=body)
    page = call("GET", "/v1/audit?limit=1").json()
    rest = call("GET", f"/v1/audit?after={page['next']}").json()
    assert [one["actor"] for one in [*page["items"], *rest["items"]]] == ["api", "王 五"]
    assert call("GET", "/v1/audit/verify").json()["ok"] is True


def test_a_changed_secret_is_in_the_audit_without_its_value(call: Client) -> None:
    call("PUT", "/v1/connections/shop/secrets/token", json={"value": "pass-word-9"})
    answer = call("GET", "/v1/audit?action=secret.set")
    assert [one["subject"] for one in answer.json()["items"]] == ["shop/token"]
    assert "pass-word-9" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/dead-letters?state=lost", None, 422, "dead_letter.choice"),
        ("GET", "/v1/dead-letters?kind=lost", None, 422, "dead_letter.choice"),
        ("GET", "/v1/dead-letters?since=soon", None, 422, "dead_letter.time"),
        ("GET", "/v1/dead-letters?after=x", None, 422, "dead_letter.after"),
        ("GET", "/v1/dead-letters/replays/123456", None, 404, "replay.unknown"),
        ("POST", "/v1/dead-letters/123456/replay", b"{}", 404, "dead_letter.unknown"),
        ("POST", "/v1/dead-letters/123456/discard", b"{}", 422, "api.invalid"),
        ("POST", "/v1/dead-letters/ID/discard", b'{"reason": " "}', 422, "dead_letter.no_reason"),
        ("POST", "/v1/dead-letters/ID/replay", b"{", 422, "api.invalid"),
        ("POST", "/v1/dead-letters/ID/replay", b"[]", 422, "api.invalid"),
        ("POST", "/v1/dead-letters/ID/replay", b'{"edit": 7}', 422, "dead_letter.edit_form"),
        ("POST", "/v1/dead-letters/ID/replay", b'{"edits": {}}', 422, "api.invalid"),
        ("POST", "/v1/dead-letters/ID/replay", b'{"set": {"id": "Z"}}', 422,
         "dead_letter.edit_key"),
        ("POST", "/v1/dead-letters/ID/replay", b'{"set": {"a.b": 1}}', 422,
         "dead_letter.set_path"),
        ("POST", "/v1/dead-letters/ID/replay", b'{"decision": "landed"}', 409,
         "dead_letter.no_decision"),
        ("POST", "/v1/dead-letters/replays", b'{"filter": {}}', 422, "dead_letter.needs_flow"),
        ("POST", "/v1/dead-letters/replays", b'{"filter": {"flow": "x"}}', 404, "flow.unknown"),
        ("POST", "/v1/dead-letters/replays",
         b'{"filter": {"flow": "shop_items"}, "per_second": 0}', 422, "dead_letter.per_second"),
        ("POST", "/v1/dead-letters/discards", b'{"filter": {}, "reason": "x"}', 422,
         "dead_letter.needs_filter"),
        ("GET", "/v1/audit?after=0", None, 422, "api.invalid"),
    ],
)  # fmt: skip
def test_bad_input_is_a_problem_that_names_it(
    call: Client, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/json"}
    path = path.replace("/ID/", f"/{first(call)['id']}/")
    is_problem(call(method, path, content=body, headers=headers), status, code)
    assert len(call("GET", "/v1/dead-letters").json()["items"]) == 3
