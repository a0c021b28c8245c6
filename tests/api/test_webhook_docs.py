"""The programs of docs/webhooks.md do what the page says."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from hub.api.app import create_app
from hub.engine.hub import Hub
from hub.engine.webhooks.job import send_webhooks
from hub.engine.webhooks.waits import SCHEDULE
from hub.sdk.clock import SystemClock
from tests.engine.webhook_rig import Desk, Receiver, change, delete, subscribe

PAGE = Path(__file__).resolve().parents[2] / "docs/webhooks.md"


def program(name: str) -> str:
    found = re.search(rf"```python {name}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def function(name: str) -> Callable[..., Any]:
    space: dict[str, Any] = {}
    exec(program(name), space)  # noqa: S102 (our own page)
    made: Callable[..., Any] = space[name]
    return made


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Desk(tmp_path / "hub").open(SystemClock()) as opened:
        yield opened


@contextmanager
def served(hub: Hub) -> Iterator[str]:
    config = uvicorn.Config(create_app(hub), port=0, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def test_the_page_verifies_a_real_message_and_refuses_others(hub: Hub) -> None:
    verify = function("verify")
    body_lines = [line for line in program("verify").splitlines()[3:] if line.strip()]
    assert len(body_lines) <= 10
    with Receiver() as receiver:
        one = subscribe(hub, receiver)
        change(hub, "C-1")
        send_webhooks(hub, one)
    request, secret = receiver.requests[0], receiver.secrets[0]
    verify(secret, request.headers, request.body)
    stale = {**request.headers, "webhook-timestamp": str(int(time.time()) - 301)}
    for wrong in (
        (secret, request.headers, request.body + b" "),
        ("whsec_" + "A" * 43 + "=", request.headers, request.body),
        (secret, {**request.headers, "webhook-id": "msg_other"}, request.body),
        (secret, stale, request.body),
    ):
        with pytest.raises(ValueError, match="genuine"):
            verify(*wrong)


def test_the_page_pulls_everything_and_goes_on_from_its_cursor(hub: Hub) -> None:
    pull = function("pull")
    token = (hub.deployment.private_folder / "api.token").read_text(encoding="ascii")
    change(hub, *[f"C-{number}" for number in range(1_100)])
    kept: dict[str, Any] = {}
    with served(hub) as url:

        def read_on(since: int) -> int:
            cursor: int = pull(url, token, "customer", since, lambda r: kept.update({r["key"]: r}))
            return cursor

        cursor = read_on(0)
        assert (cursor, len(kept)) == (1_100, 1_100)
        change(hub, "C-7", revision=2)
        delete(hub, "C-8", 2)
        assert read_on(cursor) == 1_102
    assert kept["C-7"]["revision"] == 2
    assert kept["C-8"]["deleted"] is True


def test_the_page_names_the_schedule_as_it_is() -> None:
    assert "5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h" in PAGE.read_text(encoding="utf-8")
    assert SCHEDULE == (5, 300, 1800, 7200, 18000, 36000, 36000)
