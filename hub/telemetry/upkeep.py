"""Beside the projecting: roll-ups, zones that changed, and once a day what has become old."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from hub.sdk.errors import HubError
from hub.store.database import Store
from hub.store.telemetry.positions import release, take_lease
from hub.store.telemetry.quarantine import trim_quarantine
from hub.telemetry.archive_places import open_place
from hub.telemetry.calendar import Zones
from hub.telemetry.retention import keep_house
from hub.telemetry.rollups import follow_zones, roll_up

TURN_SECONDS = 1.0
_LEASE, _LEASE_SECONDS = "upkeep", 30.0
_ZONES_SECONDS = 60.0
_HOUSE_SECONDS = 86_400.0
_HOUSE_FIRST_SECONDS = 300.0
_HOUSE_AGAIN_SECONDS = 900.0
_END_SECONDS = 10.0
_DAY_MS = 86_400_000
_ROWS = 1_000

log = logging.getLogger("hub.telemetry")


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long readings stay (`days`, 0: for ever) and where the archive is (none: nowhere).

    `quarantine_days`: how long what was refused stays.
    """

    zones: Zones
    days: int = 0
    archive: str | None = None
    endpoint: str | None = None
    folder: Path = Path()
    quarantine_days: int = 30


class Upkeep:
    """A thread of the projector's process. Of several processes one does the work."""

    def __init__(self, store: Store, keeping: Keeping, owner: str) -> None:
        self._store = store
        self._keeping = keeping
        self._owner = owner
        self._stop = threading.Event()
        self._ours, self._asked_at = False, -_LEASE_SECONDS
        self._zones_at = 0.0
        self._house_at = time.monotonic() + _HOUSE_FIRST_SECONDS
        self._trouble = ""
        self._thread = threading.Thread(target=self._work, name="hub-upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the transaction under way end; another process may go on."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_END_SECONDS)

    def _work(self) -> None:
        while not self._stop.wait(TURN_SECONDS):
            try:
                if self._is_ours():
                    self._turn()
                self._trouble = ""
            except Exception as error:  # noqa: BLE001 (whatever it is, the next turn tries again)
                self._tell(error)
        try:
            with self._store.transaction() as connection:
                release(connection, [_LEASE], self._owner)
        except sa.exc.SQLAlchemyError as error:
            self._tell(error)

    def _is_ours(self) -> bool:
        if time.monotonic() >= self._asked_at + _LEASE_SECONDS / 3:
            with self._store.transaction() as connection:
                held = take_lease(connection, _LEASE, self._owner, _LEASE_SECONDS)
            self._ours, self._asked_at = held, time.monotonic()
        return self._ours

    def _turn(self) -> None:
        begun = time.monotonic()
        while not self._stop.is_set() and time.monotonic() - begun < _LEASE_SECONDS / 2:
            if not roll_up(self._store, _now_ms(), self._keeping.zones):
                break
            self._stop.wait(0.005)  # the projector's turn
        if time.monotonic() >= self._zones_at:
            self._zones_at = time.monotonic() + _ZONES_SECONDS
            follow_zones(self._store, _now_ms(), self._keeping.zones)
        if self._keeping.days and time.monotonic() >= self._house_at:
            self._house_at = time.monotonic() + _HOUSE_AGAIN_SECONDS
            self._trim_quarantine()
            self._keep_house()
            self._house_at = time.monotonic() + _HOUSE_SECONDS

    def _trim_quarantine(self) -> None:
        before = _now_ms() - self._keeping.quarantine_days * _DAY_MS
        gone = _ROWS
        while gone == _ROWS and not self._stop.wait(0.005):
            with self._store.transaction() as connection:
                gone = trim_quarantine(connection, before, _ROWS)

    def _keep_house(self) -> None:
        keeping = self._keeping
        place = None
        if keeping.archive is not None:
            place = open_place(keeping.archive, keeping.endpoint, keeping.folder)
        done = keep_house(
            self._store,
            keeping.days,
            place,
            _now_ms(),
            owner=self._owner,
            zones=keeping.zones,
            stopping=self._stop.is_set,
        )
        if done.days:
            log.info(
                "telemetry: %d old days dropped (%d readings); %d archive files of %d bytes",
                done.days, done.readings, done.files, done.bytes,
            )  # fmt: skip

    def _tell(self, error: Exception) -> None:
        kind = str(error) if isinstance(error, HubError) else type(error).__name__
        if kind != self._trouble:
            expected = isinstance(error, HubError | sa.exc.SQLAlchemyError | OSError)
            mistake = None if expected else error
            log.warning("telemetry: roll-ups and archive wait: %s", kind, exc_info=mistake)
        self._trouble = kind


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
