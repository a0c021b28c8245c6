"""The connector of docs/telemetry-extending.md works as the page says, and beside a real hub."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.api.front import Front, open_front
from hub.engine.deployment import create_deployment
from hub.engine.hub import open_hub
from hub.sdk import registry
from hub.sdk.manifest import read_manifest
from hub.sdk.telemetry import Sender
from hub.store.telemetry.credentials import add_token
from hub.store.telemetry.inbox import read_after

PAGE = Path(__file__).parents[2] / "docs" / "telemetry-extending.md"
BLOCK = re.compile(r"```\w+\n# (\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "acme_beeper"
    folder.mkdir()
    (folder / "__init__.py").touch()
    for name, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("acme_beeper")]:
        del sys.modules[name]


def test_its_own_test_passes(package: Path) -> None:
    importlib.import_module("acme_beeper.test_beeper")


def test_the_manifest_names_what_there_is(package: Path) -> None:
    manifest = read_manifest(package)
    assert manifest.telemetry is not None
    connector = registry.Connector("beeper", manifest, package, "acme_beeper")
    assert list(connector.telemetry_code(manifest.telemetry.decoders)) == ["beeper.lines"]
    assert callable(connector.telemetry_code(manifest.telemetry.faces))


async def _elsewhere(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body"})


async def _post(front: Front, *paths: str) -> list[httpx.Response]:
    transport = httpx.ASGITransport(front.edge(_elsewhere))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
        return [await client.post(path, content=b"volume 3.5") for path in paths]


def test_a_hub_with_it_takes_its_messages(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = registry._installed

    def with_beeper(found: registry.Discovery) -> Iterator[tuple[str, Path, str | None]]:
        yield from installed(found)
        yield "beeper", package, "acme_beeper"

    monkeypatch.setattr(registry, "_installed", with_beeper)
    create_deployment(tmp_path / "hub")
    with open_hub(tmp_path / "hub") as hub, open_front(hub, listen=False) as front:
        with hub.telemetry.readings.transaction() as connection:
            add_token(connection, "s3cret", Sender("iot", "beeper-1"), 0)
        answers = asyncio.run(_post(front, "/beeper/s3cret", "/beeper/other"))
        assert [answer.status_code for answer in answers] == [200, 401]
        with hub.telemetry.inbox.reading() as connection:
            (message,) = read_after(connection, 0, 0, 10**6, 10)
    assert (message.format, message.body) == ("beeper.lines", b"volume 3.5")
