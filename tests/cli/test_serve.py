"""While `hub serve` owns the store, the commands ask it and print the same."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import TOTAL, Hub, Result, Shop, edit, hub_process

_URL = re.compile(r"http://[\d.]+:\d+")


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A `hub serve` process and its address."""
    command = [sys.executable, "-m", "hub.cli", "--dir", str(folder), "serve", "--port", "0"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        yield process, _address(process)
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if found := _URL.search(line):
            return found[0]
    raise AssertionError(f"hub serve did not start: {said}")


def steady(result: Result) -> tuple[int, str, str]:
    """A result without what changes from call to call."""
    moment = r"\d{4}-\d\d-\d\dT[\d:.]+Z"
    return result.code, re.sub(moment, "T", result.out), re.sub(moment, "T", result.err)


COMMANDS = [
    "connector list --json",
    "connector check shop --json",
    "connector check nothing",
    "connection list --json",
    "connection list",
    "flow list --json",
    "flow run nothing",
    "flow verify shop_items --json",
    "flow verify shop_items",
    "flow verify nothing",
    "runs --json",
    "runs 1 --json",
    "runs show 1",
    "runs",
    "runs 99",
    "runs --flow shop_items --limit 1 --json",
    "records count shop_item --json",
    "records count nothing --json",
    "records list shop_item --since 240 --json",
    "dead-letters list --json",
    "dead-letters show nothing",
    "doctor --json",
    "doctor",
    "connection set-secret shop nothing",
]


def test_every_command_prints_the_same_with_and_without_a_server(
    hub: Hub, deployment: Path
) -> None:
    assert hub("flow", "run", "shop_items").code == 0
    alone = {command: steady(hub(*command.split())) for command in COMMANDS}
    with serving(deployment):
        beside = {command: steady(hub(*command.split())) for command in COMMANDS}
    assert beside == alone


def test_a_run_through_the_server_reads_everything(hub: Hub, deployment: Path, shop: Shop) -> None:
    with serving(deployment) as (_, url):
        assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        first = hub("flow", "run", "shop_items", "--json")
        assert first.code == 0, first.err
        assert first.json["counts"]["written"] == TOTAL
        assert hub("records", "count", "shop_item", "--json").json["count"] == TOTAL
        assert hub("flow", "run", "shop_items", "--dry-run", "--json").json["counts"]["read"] == 100
    assert hub("flow", "run", "shop_items", "--json").json["counts"]["unchanged"] == TOTAL


def test_a_server_that_is_stopped_in_a_run_leaves_it_to_be_finished(
    hub: Hub, deployment: Path, shop: Shop
) -> None:
    edit("connectors/shop/connector.yaml", "deadline: 3s", "deadline: 60s")
    shop.misbehave("delay", path="/items", times=1, after=1, seconds=30)
    with serving(deployment) as (process, _):
        waited = hub("flow", "run", "shop_items", "--wait", "3", "--json")
        assert waited.json["state"] == "reading"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 5
    assert not Path(".hub/serve.json").exists()
    result = hub("flow", "run", "shop_items", "--json")
    assert result.code == 0, result.err
    assert result.json["id"] == waited.json["id"]
    assert result.json["counts"]["written"] == TOTAL


def test_a_running_server_notices_edited_files(hub: Hub, deployment: Path) -> None:
    flow = "mappings/flows/shop_items.yaml"
    with serving(deployment):
        assert hub("flow", "run", "shop_items").code == 0
        edit(flow, "name: name | trim", "title: name | trim")
        assert hub("flow", "run", "shop_items", "--json").json["counts"]["written"] == TOTAL
        edit(flow, "mapping:", "maping:")
        broken = hub("flow", "run", "shop_items")
        assert (broken.code, len(broken.errors)) == (1, 1)
        assert "did you mean 'mapping'" in broken.errors[0]
        edit("connections.yaml", "connector: shop", "conector: shop")
        assert "conector" in hub("connection", "list").out
    assert hub("flow", "list", "--json").code == 0


def test_a_busy_port_is_one_clear_line(hub: Hub, deployment: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = hub_process("serve", "--port", port)
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert port in result.errors[0]
    assert "--port" in result.errors[0]


def test_a_second_server_on_the_same_store_is_refused(hub: Hub, deployment: Path) -> None:
    with serving(deployment) as (process, _):
        result = hub_process("serve", "--port", "0")
    assert result.code == 1
    assert str(process.pid) in result.errors[0]


def test_workers_need_postgresql(hub: Hub, deployment: Path) -> None:
    result = hub_process("serve", "--workers", "2")
    assert (result.code, len(result.errors)) == (1, 1)
    assert "PostgreSQL" in result.errors[0]
    result = hub_process("worker")
    assert (result.code, len(result.errors)) == (1, 1)
    assert "PostgreSQL" in result.errors[0]


def test_a_stale_server_file_does_not_mislead(hub: Hub, deployment: Path) -> None:
    told = f'{{"host": "127.0.0.1", "port": 9, "pid": {os.getpid()}}}'
    Path(".hub/serve.json").write_text(told, encoding="utf-8")
    assert hub("runs", "--json").json == []


@pytest.mark.postgres
def test_workers_share_one_postgresql(
    hub: Hub, deployment: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_STORE_URL", postgres_url)
    assert hub("migrate").code == 0
    with serving(deployment, "--workers", "2"):
        result = hub("flow", "run", "shop_items", "--json")
        assert result.code == 0, result.err
        assert hub("records", "count", "shop_item", "--json").json["count"] == TOTAL
