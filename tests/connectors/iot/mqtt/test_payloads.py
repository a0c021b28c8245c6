"""Whatever a client puts into a message, it is acknowledged, and the next one is served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connectors.iot.mqtt.topics import _ASKED, _IGNORED, _KEPT
from tests.connectors.iot.mqtt.client import Client, publish
from tests.connectors.iot.mqtt.desk import Desk

TOPICS = [*_KEPT, *_IGNORED, *(f"{one}1" for one in _ASKED), "v1/gateway/attributes/request", "x"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["device", "ts", "values", "key", "keys", "A"]), inner)
    ),
    max_leaves=8,
)
BODIES = st.one_of(st.binary(max_size=30), JSON.map(lambda value: str(value).encode()))


@pytest.fixture(scope="module")
def gateway() -> Iterator[Client]:
    desk = Desk()
    client = desk.client()
    client.connect("G1")
    client.subscribe("never/sent")
    yield client
    desk.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(TOPICS), BODIES), min_size=1, max_size=20))
@example([("v1/devices/me/telemetry", b"[" * 100_000)])
@example([("v1/devices/me/attributes/request/1", b'{"clientKeys":7}')])
@example([("v1/gateway/attributes/request", b'{"device":"A","key":{}}')])
@example([("v1/gateway/attributes/request", b'{"device":"A","key":["x"]}')])
@example([("v1/gateway/attributes/request", b'{"device":"A","id":"\\ud800"}')])
def test_every_message_is_acknowledged(gateway: Client, sent: list[tuple[str, bytes]]) -> None:
    ids = range(1, len(sent) + 1)
    gateway.send(*[publish(topic, body, one) for one, (topic, body) in zip(ids, sent, strict=True)])
    assert gateway.read_ids(len(sent)) == list(ids)
