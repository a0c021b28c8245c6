"""Deleting raw messages that are projected and old enough, in small transactions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa

from hub.sdk.errors import HubError
from hub.store.database import Store
from hub.store.telemetry.dropping import shrink
from hub.store.telemetry.inbox import last_seqs, trim, trim_seen
from hub.store.telemetry.positions import part_name, positions

KEYS_HOURS = 48.0
"""How long a message is recognised when it is sent again."""

_EVERY_SECONDS = 30.0
_ROWS = 500
_BREATH_SECONDS = 0.01
_HOUR_MS = 3_600_000
_ANY_AGE = 2**62  # of a time when the clock was wrong, too
_ROOM_ROWS = 5_000
_ROOM_SECONDS = 1.0
_SPARE_PAGES = 2_000

log = logging.getLogger("hub.telemetry.trimming")


class Trimmer:
    """Keeps the inbox small. `hours`: how long messages stay although they are projected."""

    def __init__(
        self,
        inbox: Callable[[], Store],
        readings: Callable[[], Store],
        hours: float,
        now_ms: Callable[[], int],
    ) -> None:
        self._inbox = inbox
        self._readings = readings
        self._keep_ms = int(hours * _HOUR_MS)
        self._now_ms = now_ms
        self._made_room_at = float("-inf")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Trim now and then, on a thread of its own."""
        self._thread = threading.Thread(target=self._loop, name="hub-trim", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; what is being deleted is deleted."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def trim_once(self) -> int:
        """Delete all that is due; how many messages it was."""
        before, gone = self._now_ms() - self._keep_ms, 0
        for part, position in self._projected().items():
            while number := self._trim(part, position, before):
                gone += number
                if self._stop.wait(_BREATH_SECONDS):
                    return gone
        while self._forget() and not self._stop.wait(_BREATH_SECONDS):
            pass
        self._give_back()
        return gone

    def make_room(self) -> bool:
        """For a full disk: delete projected messages of any age; whether there were some.

        At most once a second: while nothing is projected there is nothing to find.
        """
        if time.monotonic() - self._made_room_at < _ROOM_SECONDS:
            return False
        self._made_room_at = time.monotonic()
        gone = 0
        try:
            for part, position in self._projected().items():
                number = self._trim(part, position, _ANY_AGE, _ROOM_ROWS)
                gone += number
        except (sa.exc.SQLAlchemyError, HubError) as error:
            log.warning("no room could be made: %s", type(error).__name__)
        return gone > 0

    def _loop(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            try:
                self.trim_once()
            except Exception as error:  # the next round tries again
                log.warning("raw messages could not be trimmed: %s", error, exc_info=error)

    def _projected(self) -> dict[int, int]:
        """How far the projector is, by part."""
        with self._inbox().reading() as connection:
            parts = last_seqs(connection)
        with self._readings().reading() as connection:
            known = positions(connection)
        return {part: known.get(part_name(part), 0) for part in sorted(parts)}

    def _trim(self, part: int, position: int, before: int, most: int = _ROWS) -> int:
        with self._inbox().transaction() as connection:
            return trim(connection, part, position, before, most)

    def _forget(self) -> int:
        before = self._now_ms() - int(KEYS_HOURS * _HOUR_MS)
        with self._inbox().transaction() as connection:
            return trim_seen(connection, before, _ROWS)

    def _give_back(self) -> None:
        """Free pages of an SQLite file beyond what the next messages fill again."""
        store, gone = self._inbox(), int(self._inbox().embedded)
        while gone and not self._stop.wait(_BREATH_SECONDS):
            with store.transaction() as connection:
                gone = shrink(connection, _SPARE_PAGES)
