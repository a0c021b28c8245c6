"""Pulling records: the cursor, waiting for a change, one record by its key, and wrong questions."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from hub.engine.deployment import create_deployment
from hub.engine.hub import Hub, open_hub
from hub.store.records import Change, put_records
from tests.api.test_api import Client, is_problem

PATH = "/v1/records/customer"
ODD_KEYS = ["C-1", "count", "keys", "a/b", "a?b#c", "100%", "客户 一", ".."]


@contextmanager
def opened_hub(folder: Path, store_url: str | None = None) -> Iterator[Hub]:
    create_deployment(folder)
    if store_url is not None:
        (folder / "hub.toml").write_text(f'[store]\nurl = "{store_url}"\n', encoding="utf-8")
    with open_hub(folder) as opened:
        put(opened, *[Change(key, '{"name":"甲"}', 1) for key in ODD_KEYS])
        put(opened, Change("C-1", None, 2, deleted=1))
        yield opened


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with opened_hub(tmp_path) as opened:
        yield opened


@pytest.fixture
def call(hub: Hub) -> Client:
    return Client(hub)


def put(hub: Hub, *changes: Change) -> None:
    with hub.store.transaction() as connection:
        put_records(connection, "customer", changes, 1_000)


def pages(call: Client, limit: int) -> list[dict[str, Any]]:
    since, rows, more = 0, [], True
    while more:
        page = call("GET", f"{PATH}?since={since}&limit={limit}").json()
        rows += page["records"]
        since, more = page["next"], page["more"]
    return rows


def test_pages_of_any_size_hold_the_last_version_of_every_key(call: Client) -> None:
    rows = pages(call, 1000)
    assert [pages(call, limit) for limit in (1, 3, 8)] == [rows] * 3
    assert [row["key"] for row in rows] == [*ODD_KEYS[1:], "C-1"]
    assert rows[-1] == {
        "key": "C-1",
        "revision": 2,
        "change_no": 9,
        "changed_at": "1970-01-01T00:00:01Z",
        "deleted": True,
        "data": None,
    }
    assert rows[0]["data"] == {"name": "甲"}


def test_the_end_gives_the_same_cursor_back(call: Client) -> None:
    assert call("GET", f"{PATH}?since=9").json() == {
        "entity": "customer",
        "records": [],
        "next": 9,
        "more": False,
    }


WRONG = (
    "since=-1",
    "since=ten",
    "since=1.5",
    "since=",
    "since=9223372036854775808",
    "since=1e3",
    "limit=0",
    "limit=x",
    "wait=-1",
    "wait=61",
    "wait=nan",
    "wait=inf",
)


def test_a_question_in_the_wrong_form_is_told_so(call: Client) -> None:
    for query in WRONG:
        is_problem(call("GET", f"{PATH}?{query}"), 422, "api.invalid")


@pytest.mark.parametrize("since", [10, 2**63 - 1])
def test_a_cursor_of_another_database_is_refused(call: Client, since: int) -> None:
    body = is_problem(call("GET", f"{PATH}?since={since}"), 422, "records.ahead")
    assert body["params"] == {"entity": "customer", "since": since, "last": 9}
    assert "since=0" in body["detail"]


def check_names(call: Client) -> None:
    """Names nobody uses, also such that a database cannot hold, are unknown and nothing worse."""
    for entity in ("custmer", "a%00b", "%ED%A0%80"):
        for path in ("", "?since=7", "/count", "/keys/x"):
            is_problem(call("GET", f"/v1/records/{entity}{path}"), 404, "entity.unknown")
    for key in ("C-2", "a%00b"):
        is_problem(call("GET", f"{PATH}/keys/{key}"), 404, "record.unknown")
    is_problem(call("GET", f"{PATH}?since={2**63 - 1}"), 422, "records.ahead")


def test_what_is_not_there_is_unknown(call: Client) -> None:
    check_names(call)


@pytest.mark.postgres
def test_what_is_not_there_is_unknown_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    with opened_hub(tmp_path, postgres_url) as hub:
        check_names(Client(hub))


def test_one_record_is_found_by_any_key(call: Client) -> None:
    for key in ODD_KEYS[:-1]:
        found = call("GET", f"{PATH}/keys/{quote(key, safe='')}").json()
        assert (found["entity"], found["key"]) == ("customer", key)
        assert found["deleted"] is (key == "C-1")


def test_waiting_ends_with_the_change(call: Client, hub: Hub) -> None:
    writer = threading.Timer(0.3, put, (hub, Change("new", "{}", 1)))
    writer.start()
    began = time.monotonic()
    page = call("GET", f"{PATH}?since=9&wait=20").json()
    writer.join()
    assert [row["key"] for row in page["records"]] == ["new"]
    assert time.monotonic() - began < 5


def test_waiting_in_vain_ends_when_it_was_said(call: Client) -> None:
    began = time.monotonic()
    page = call("GET", f"{PATH}?since=9&wait=0.7").json()
    assert (page["records"], page["next"]) == ([], 9)
    assert 0.7 <= time.monotonic() - began < 3
