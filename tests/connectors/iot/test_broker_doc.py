from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from connectors.iot.broker.topics import Topics
from connectors.iot.decoders import DECODERS
from hub.sdk.connection import resolve_connection
from hub.sdk.loading import parse_yaml, validate
from hub.sdk.registry import discover
from hub.sdk.telemetry_source import TelemetrySource
from hub.sdk.testing.telemetry import MemoryPort

PAGE = Path(__file__).parents[3] / "docs" / "telemetry-brokers.md"
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SOURCES = [one for one in BLOCKS if "\nbroker:" in one]


@pytest.mark.parametrize("text", SOURCES)
def test_the_sources_on_the_page_are_right(text: str) -> None:
    source = validate(TelemetrySource, parse_yaml(text, PAGE), PAGE)
    assert source.broker is not None
    Topics(MemoryPort(), source, source.broker)
    later = {"iot.line_protocol"}  # read by another module of this connector
    for topic in source.broker.topics:
        assert f"iot.{topic.format}" in {*DECODERS, *later}


def test_the_connection_on_the_page_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", "secret")
    (text,) = [one for one in BLOCKS if "connector: iot" in one]
    entry: dict[str, Any] = parse_yaml(text, PAGE)["site_broker"]
    connector = discover().get("iot")
    found = resolve_connection("site_broker", entry, connector, lambda name, key: None)
    assert found.config["password"] == "secret"


def test_the_page_shows_all_kinds() -> None:
    assert len(SOURCES) == 3


@pytest.mark.parametrize(
    "broker",
    [
        {"slots": 2},
        {"slots": 2, "share": "a/b"},
        {"client_id": "线"},
        {"topics": [{"filter": "a"}]},
        {"topics": [{"filter": "a", "format": "readings", "mapping": {"device": "x"}}]},
    ],
)
def test_a_broker_that_cannot_work_is_refused(broker: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        TelemetrySource.model_validate(
            {"broker": {"connection": "c", "client_id": "hub", **broker}}
        )
