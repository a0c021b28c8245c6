"""What the archive must bear besides crashes: a slow place, and a store that was lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from hub.store.database import Store
from hub.store.telemetry.series_queries import snapshot
from hub.telemetry import archive
from hub.telemetry.archive_places import Place, open_place
from tests.telemetry.rig import DAY, Rig, rig
from tests.telemetry.test_archive import START, bring_back, everything, fill, house, older


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as opened:
        fill(opened)
        yield opened


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return open_place("archive", None, tmp_path)


def test_while_a_snapshot_is_open_nobody_waits_for_the_archive(
    desk: Rig, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends a transaction in which nothing happens for some seconds."""
    reading: list[bool] = []

    @contextmanager
    def noted(store: Store) -> Iterator[Connection]:
        with snapshot(store) as connection:
            reading.append(True)
            yield connection
        reading.pop()

    class Watched:
        def __getattr__(self, name: str) -> Any:
            assert not reading, name
            return getattr(place, name)

    monkeypatch.setattr(archive, "snapshot", noted)
    monkeypatch.setattr(archive, "MOST_ROWS", 100)
    late = [START + 7]
    house(desk, Watched())  # type: ignore[arg-type]
    desk.write(desk.series("pump", "vib"), late, [77.0])
    assert house(desk, Watched()).files == 1  # type: ignore[arg-type]
    assert len(place.names()) > 3


def test_a_new_store_never_writes_over_the_archive_of_the_one_that_was_lost(
    desk: Rig, place: Place, tmp_path: Path
) -> None:
    before = everything(desk)["pump", "vib"]
    house(desk, place)
    (tmp_path / "new").mkdir()
    with rig(tmp_path / "new") as new:
        new.now = desk.now
        late, changed = (START + 7, 77.0), (before[0][0], 88.0)
        new.write(new.series("pump", "vib"), [late[0], changed[0]], [late[1], changed[1]])
        assert house(new, place).readings == 2
        bring_back(new, place)
        found = everything(new)["pump", "vib"]
    assert found == sorted([*older(before[1:], START + 2 * DAY), late, changed])
