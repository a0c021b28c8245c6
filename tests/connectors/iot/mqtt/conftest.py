"""The listener under test, for every test here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.connectors.iot.mqtt.desk import Desk


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()
