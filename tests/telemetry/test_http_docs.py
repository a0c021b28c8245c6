"""The programs of docs/telemetry-http.md do what the page says, against a real hub."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from connectors.iot.decoders import DECODERS
from hub.api.app import create_app
from hub.api.front import open_front
from hub.api.server import listen, server_config
from hub.engine.deployment import create_deployment
from hub.engine.hub import open_hub
from hub.sdk.telemetry import Sender
from hub.store.telemetry.credentials import add_token
from hub.store.telemetry.inbox import StoredMessage, last_seqs, read_after

PAGE = Path(__file__).parents[2] / "docs/telemetry-http.md"
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
TOKEN = "token-of-a-gateway"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


class Site:
    """A hub that listens, with what the page declares; `run` runs a program of the page."""

    def __init__(self, folder: Path) -> None:
        create_deployment(folder)
        (folder / "hub.toml").write_text("[telemetry]\nprojectors = 0\n", encoding="utf-8")
        self.blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
        (declared,) = (text for kind, text in self.blocks if kind == "yaml")
        source = folder / "mappings" / "telemetry" / "iot.yaml"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(declared, encoding="utf-8")
        self.port = 0

    def run(self, program: str) -> str:
        here = program.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{self.port}")
        environment = {**os.environ, "TOKEN": TOKEN, "no_proxy": "127.0.0.1"}
        done = subprocess.run(
            ["bash", "-ec", here],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    def programs(self, address: str) -> list[str]:
        return [text for kind, text in self.blocks if kind == "bash" and address in text]

    def answer_after(self, program: str) -> str:
        return str(self.blocks[self.blocks.index(("bash", program)) + 1][1])

    def kept(self) -> list[StoredMessage]:
        with self.hub.telemetry.inbox.reading() as connection:
            parts = sorted(last_seqs(connection))
            found = [read_after(connection, part, 0, 10**9, 10**6) for part in parts]
        return [message for messages in found for message in messages]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "site")
    with (
        open_hub(tmp_path / "site") as hub,
        open_front(hub, listen=False) as front,
        listen("127.0.0.1", 0) as listener,
    ):
        with hub.telemetry.readings.transaction() as connection:
            add_token(connection, TOKEN, Sender("iot", "gw", gateway=True), 1)
        made.hub, made.port = hub, int(listener.getsockname()[1])
        server = uvicorn.Server(server_config(create_app(hub, front)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield made
        finally:
            server.should_exit = True
            thread.join(20)


def test_thingsboards_calls_answer_with_nothing_but_200(site: Site) -> None:
    (program,) = site.programs("/api/v1/")
    said = site.run(program)
    assert said.count("HTTP/1.1 200 OK") == 2
    assert said.count("content-length: 0") == 2
    assert [one.format for one in site.kept()] == ["iot.thingsboard"] * 2


@pytest.mark.parametrize("address", ["/v1/readings", "/v1/events"])
def test_readings_and_events_answer_as_the_page_says(site: Site, address: str) -> None:
    (program,) = site.programs(address)
    said = json.loads(site.run(program))
    said.pop("pending", None)  # no projector runs here
    assert said == json.loads(site.answer_after(program))


def test_what_was_kept_is_read_the_same_way_by_the_projector(site: Site) -> None:
    (program,) = site.programs("/v1/mapped/")
    assert json.loads(site.run(program))["accepted"] == 2
    (message,) = site.kept()
    details = json.loads(message.details)
    decoded = DECODERS[message.format](message.body, details, message.received_at)
    assert decoded.refused == []
    assert decoded.samples == [
        ("L1/7", "temperature", 1_795_593_600_000, 3.5),
        ("L1/7", "pressure", 1_795_593_600_000, 1.2),
    ]
