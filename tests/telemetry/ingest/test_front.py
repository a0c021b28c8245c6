"""What connectors add to the ways in, and what a broken one takes away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub.api.front import open_front
from hub.engine.deployment import create_deployment
from hub.engine.hub import open_hub
from hub.sdk.errors import ConfigError
from hub.sdk.registry import Connector


def faces_that_raise(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(_port: Any, _settings: Any) -> Any:
        raise error

    monkeypatch.setattr(Connector, "telemetry_code", lambda *_: make)


def test_a_connector_with_a_mistake_adds_no_face_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    create_deployment(tmp_path / "hub")
    faces_that_raise(TypeError("a mistake"), monkeypatch)
    with open_hub(tmp_path / "hub") as hub, open_front(hub) as front:
        assert front.http == []
    assert "no telemetry by iot" in caplog.text


def test_what_is_declared_and_cannot_be_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_deployment(tmp_path / "hub")
    faces_that_raise(ConfigError("server.no_token", file="x"), monkeypatch)
    with open_hub(tmp_path / "hub") as hub, pytest.raises(ConfigError), open_front(hub):
        pass
