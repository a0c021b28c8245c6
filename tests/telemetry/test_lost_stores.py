"""One of the two stores is lost, or comes back from a backup, and the other one is not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hub.engine.deployment import open_deployment
from hub.engine.telemetry_status import lag_of_parts
from hub.engine.telemetry_stores import TelemetryStores
from hub.store.telemetry.inbox import NewMessage, append, trim
from hub.store.telemetry.positions import advance, part_name
from hub.telemetry.feed import TableFeed
from hub.telemetry.trimming import Trimmer

NOW = 1_795_629_600_000
INBOX = "telemetry-inbox.db*"
READINGS = "telemetry.db*"


@contextmanager
def stores(folder: Path) -> Iterator[TelemetryStores]:
    opened = TelemetryStores(open_deployment(folder, required=False))
    try:
        yield opened
    finally:
        opened.close()


def keep(opened: TelemetryStores, number: int) -> list[int]:
    """Keep so many messages; their numbers."""
    new = NewMessage(0, NOW, "iot", "D1", 0, "plain", "", 0, b"{}")
    with opened.inbox.transaction() as connection:
        return [seq for seq, _known in append(connection, [new] * number)]


def projected(opened: TelemetryStores, seq: int) -> None:
    with opened.readings.transaction() as connection:
        advance(connection, part_name(0), seq, NOW)


def waiting(opened: TelemetryStores, seq: int) -> list[int]:
    taken = TableFeed(opened.inbox).take({0: seq}, 10**6, 100)
    return [message.seq for message in taken.messages]


def lose(folder: Path, pattern: str) -> None:
    found = list(folder.glob(pattern))
    assert found
    for path in found:
        path.unlink()


def test_an_inbox_that_was_lost_gives_numbers_behind_those_that_are_projected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with stores(tmp_path) as opened:
        keep(opened, 5)
        projected(opened, 5)
    assert not caplog.records
    lose(tmp_path, INBOX)
    with stores(tmp_path) as opened:
        assert keep(opened, 3) == [6, 7, 8]
        assert waiting(opened, 5) == [6, 7, 8]
        trimmer = Trimmer(lambda: opened.inbox, lambda: opened.readings, 0, lambda: NOW + 1)
        assert trimmer.trim_once() == 0
    assert "the inbox was lost" in caplog.text


def test_an_inbox_from_a_backup_goes_on_behind_what_is_projected(tmp_path: Path) -> None:
    with stores(tmp_path) as opened:
        keep(opened, 2)
        projected(opened, 9)
    with stores(tmp_path) as opened:
        assert keep(opened, 1) == [10]
        assert waiting(opened, 9) == [10]
    with stores(tmp_path) as opened:
        assert keep(opened, 1) == [11]


def test_without_the_readings_the_oldest_message_there_is_comes_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with stores(tmp_path) as opened:
        keep(opened, 5)
        projected(opened, 3)
        with opened.inbox.transaction() as connection:
            assert trim(connection, 0, 3, NOW + 1, 100) == 3
    lose(tmp_path, READINGS)
    with stores(tmp_path) as opened, caplog.at_level(logging.ERROR):
        assert waiting(opened, 0) == [4, 5]
        assert keep(opened, 1) == [6]
        hub: Any = SimpleNamespace(telemetry=opened)
        (part,) = lag_of_parts(hub)
        assert (part["messages"], part["waiting"], part["oldest_at"]) == (6, 3, NOW)
        projected(opened, 6)
        (part,) = lag_of_parts(hub)
        assert (part["messages"], part["waiting"], part["oldest_at"]) == (6, 0, None)
    assert "messages 1 to 3 are gone" in caplog.text


def test_room_of_messages_that_are_gone_is_given_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with stores(tmp_path) as opened:
        new = NewMessage(0, NOW, "iot", "D1", 0, "plain", "", 0, bytes(100_000))
        with opened.inbox.transaction() as connection:
            append(connection, [new] * 120)
        projected(opened, 120)
        trimmer = Trimmer(lambda: opened.inbox, lambda: opened.readings, 0, lambda: NOW + 1)
        assert trimmer.trim_once() == 120
        with opened.inbox.reading() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    assert free <= 2_000
    assert pages <= 2_100
    assert not caplog.records
