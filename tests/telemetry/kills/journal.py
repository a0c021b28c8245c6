"""What a sender knows: which readings it made, and which of them were acknowledged."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from hub.store.database import Store
from hub.store.tables.telemetry import device, series, telemetry_part
from hub.store.telemetry.chunks import read_points
from hub.store.telemetry.positions import part_name, positions

METRIC = "n"
_STEP_MS = 7
_ALL = (0, 1 << 50)
_STALLED_SECONDS = 40.0


class Reading(NamedTuple):
    """The value is the serial number; its time belongs to no other reading of the device."""

    serial: int
    ts: int


@dataclass(frozen=True, slots=True)
class Found:
    """A journal compared with the store; each as serial numbers, or times where none fits."""

    acknowledged: int
    lost: list[int]
    doubled: list[int]
    invented: list[int]
    miscounted: int

    @property
    def is_right(self) -> bool:
        return not (self.lost or self.doubled or self.invented or self.miscounted)


class Journal:
    """Readings of one device, numbered from 1."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.made: dict[int, int] = {}
        self.acknowledged: set[int] = set()
        self._begin = int(time.time() * 1000) - 3_000_000
        self._lock = threading.Lock()

    def take(self, number: int) -> list[Reading]:
        """New readings."""
        return self._note([self._begin + self._next(i) * _STEP_MS for i in range(number)])

    def _next(self, offset: int) -> int:
        return len(self.made) + 1 + offset

    def _note(self, times: Sequence[int]) -> list[Reading]:
        with self._lock:
            found = [Reading(self._next(i), ts) for i, ts in enumerate(times)]
            self.made.update(found)
            return found

    def acknowledge(self, readings: Iterable[Reading]) -> None:
        with self._lock:
            self.acknowledged.update(one.serial for one in readings)

    def compare(self, store: Store) -> Found:
        """With what is stored. `miscounted`: the device's counter minus its readings."""
        counted, points = _stored(store, self.name)
        values = Counter(int(value) for _, value in points)
        fitting = [value for ts, value in points if self.made.get(int(value)) == ts]
        return Found(
            len(self.acknowledged),
            sorted(self.acknowledged - set(map(int, fitting)))[:20],
            [serial for serial, times in values.items() if times > 1][:20],
            [ts for ts, value in points if self.made.get(int(value)) != ts][:20],
            counted - len(points),
        )


class Backlog(Journal):
    """Of a gateway that takes a reading every `pause_ms`, whether the hub is there or not."""

    def __init__(self, name: str, pause_ms: int = 10) -> None:
        super().__init__(name)
        self._pause = pause_ms
        self._last = int(time.time() * 1000)

    def take(self, number: int) -> list[Reading]:
        """Those not sent yet, oldest first; at most `number`, maybe none."""
        now = int(time.time() * 1000)
        due = list(range(self._last + self._pause, now + 1, self._pause))[:number]
        self._last = due[-1] if due else self._last
        return self._note(due)


def _stored(store: Store, name: str) -> tuple[int, list[tuple[int, float]]]:
    with store.reading() as connection:
        found = connection.execute(
            sa.select(device.c.device_id, device.c.readings).where(device.c.name == name)
        ).one_or_none()
        if found is None:
            return 0, []
        query = sa.select(series.c.series_id, series.c.metric)
        points: list[tuple[int, float]] = []
        others = 0  # an edge node has readings of its own besides
        for one in connection.execute(query.where(series.c.device_id == found.device_id)).all():
            times, values = read_points(connection, one.series_id, *_ALL)
            if one.metric == METRIC:
                points = list(zip(times.tolist(), values.tolist(), strict=True))
            else:
                others += len(times)
    return found.readings - others, points


def waiting(readings: Store, inbox: Store) -> int:
    """Messages that the projector has not got to."""
    with readings.reading() as connection:
        reached = positions(connection)
    with inbox.reading() as connection:
        parts = connection.execute(sa.select(telemetry_part)).all()
    return sum(last - reached.get(part_name(part), 0) for part, last in parts)


def wait_projected(readings: Store, inbox: Store) -> None:
    """Until nothing waits any more; nothing may stand still."""
    before, moved = -1, time.monotonic()
    while left := waiting(readings, inbox):
        if left != before:
            before, moved = left, time.monotonic()
        assert time.monotonic() - moved < _STALLED_SECONDS, f"{left} messages wait and wait"
        time.sleep(0.05)


def integrity(store: Store) -> str:
    """`ok`, or what SQLite finds wrong in the file; PostgreSQL is not asked."""
    if not store.embedded:
        return "ok"
    with store.reading() as connection:
        return str(connection.exec_driver_sql("PRAGMA integrity_check").scalar_one())
