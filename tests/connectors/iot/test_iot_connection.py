from __future__ import annotations

from typing import Any

import pytest

from hub.sdk.connection import Connection, resolve_connection
from hub.sdk.errors import ConfigError
from hub.sdk.registry import discover


def resolved(**config: Any) -> Connection:
    iot = discover().connectors["iot"]
    return resolve_connection("site", {"connector": "iot", "config": config}, iot, _no_secrets)


def _no_secrets(connection: str, key: str) -> str | None:
    return None


@pytest.mark.parametrize("url", ["mqtt://broker.example", "mqtts://broker.example:8884"])
def test_a_broker_is_a_connection_like_others(url: str) -> None:
    found = resolved(url=url, username="hub")
    assert found.config["url"] == url
    assert found.config["password"] is None


def test_a_broker_is_not_reached_over_http() -> None:
    with pytest.raises(ConfigError) as raised:
        resolved(url="https://broker.example")
    assert raised.value.code == "connection.bad_broker_url"
