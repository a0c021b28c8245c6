"""The heartbeat of a process that runs jobs, and its watch over the others.

Every process has a new id. Who has a job and no fresh heartbeat is dead, and its jobs go back to
their queues; one process at a time decides that. A process whose own beats were interrupted judges
nobody for a while: the database may have been away for all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from hub.engine.jobs import Hand, Job
from hub.store import executors
from hub.store.database import Store
from hub.store.executors import Identity

BEAT_SECONDS = 1.0
BEAT_SECONDS_ALONE = 5.0
MOST_RETURNS = 2

_REAPER_LOCK = 7_165_001
_MOST_SHOWN = 50

log = logging.getLogger("hub.engine.heart")


@dataclass(frozen=True, slots=True)
class Duties:
    """What the heart asks the engine for."""

    running: Callable[[], Sequence[Job]]
    take_over: Callable[[set[str]], None]
    put_back: Callable[[Job], None]
    give_up: Callable[[Job], None]


class Heart:
    """Beats until stopped."""

    def __init__(
        self, store: Store, who: Identity, grace: float, hand: Hand, duties: Duties
    ) -> None:
        self._store = store
        self._who = who
        self._grace = grace
        self._hand = hand
        self._duties = duties
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="hub-heart", daemon=True)
        self._last_beat = time.monotonic()
        self._judging_from = 0.0
        self._dropped: dict[str, float] = {}
        self._returned: Counter[str] = Counter()
        self._trouble = ""

    @property
    def is_well(self) -> bool:
        """Whether the last beat reached the store in time."""
        return time.monotonic() - self._last_beat < self._grace + self._pause

    @property
    def _pause(self) -> float:
        return BEAT_SECONDS_ALONE if self._store.embedded else BEAT_SECONDS

    def beat(self) -> None:
        """One heartbeat. Must be written before this process takes its first job."""
        with self._store.side_transaction() as connection:
            executors.beat(connection, self._who, self._hand.show()[:_MOST_SHOWN])
        self._last_beat = time.monotonic()

    def start(self) -> None:
        # Others may be silent only because the database was away: let them show themselves.
        self._judging_from = time.monotonic() + 2 * BEAT_SECONDS
        self._thread.start()

    def stop(self) -> None:
        """Stop beating; `leave` says goodbye."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def leave(self) -> None:
        """Free at once what this process still has in hand."""
        try:
            with self._store.side_transaction() as connection:
                executors.leave(connection, self._who.id)
        except sa.exc.SQLAlchemyError as error:
            log.warning("the store is away, others notice our end later: %s", type(error).__name__)

    def _loop(self) -> None:
        while not self._stop.wait(self._pause):
            try:
                self._round()
                self._recovered()
            except Exception as error:  # noqa: BLE001 (a heart that stops gives our jobs away)
                self._say(error)

    def _round(self) -> None:
        before = self._last_beat
        self.beat()
        if self._last_beat - before > self._pause + 0.7 * self._grace:
            self._judging_from = self._last_beat + self._grace
            self._dropped.clear()
        running = self._duties.running()
        self._pick_up_dropped(running)
        strangers = {job.executor_id for job in running if job.executor_id} - {self._who.id}
        if not self._store.embedded and strangers and time.monotonic() >= self._judging_from:
            self._judge(strangers)

    def _judge(self, strangers: set[str]) -> None:
        lock = sa.text("SELECT pg_try_advisory_xact_lock(:lock)")
        with self._store.side_transaction() as connection:
            if not connection.execute(lock, {"lock": _REAPER_LOCK}).scalar_one():
                return
            dead = strangers - executors.living(connection, self._grace)
            if dead:
                self._duties.take_over(dead)

    def _pick_up_dropped(self, running: Sequence[Job]) -> None:
        """Jobs that are ours by the store but that nobody here works on go back to the queue.

        The engine claims a job in one transaction and starts it afterwards: an answer lost in
        between leaves it claimed for ever, and its partition blocked.
        """
        now = time.monotonic()
        ours = [job for job in running if job.executor_id == self._who.id]
        dropped = {job.id: job for job in ours if job.id not in self._hand}
        self._dropped = {name: self._dropped.get(name, now) for name in dropped}
        for name, since in list(self._dropped.items()):
            if now - since >= self._grace:
                del self._dropped[name]
                self._return(dropped[name])

    def _return(self, job: Job) -> None:
        """Back to its queue; a job that never starts is ended, its work gets another one."""
        self._returned[job.id] += 1
        if self._returned[job.id] > MOST_RETURNS:
            log.error("job %s cannot be started and is ended; the sweep queues its work", job.id)
            self._duties.give_up(job)
            del self._returned[job.id]
        else:
            log.warning("job %s was claimed and not started; back to its queue", job.id)
            self._duties.put_back(job)

    def _say(self, error: Exception) -> None:
        """A trouble is told when it begins, not at every beat."""
        kind = type(error).__name__
        if kind == self._trouble:
            return
        self._trouble = kind
        if isinstance(error, sa.exc.SQLAlchemyError):
            log.warning("heartbeat failed: %s", kind)
        else:
            log.error("heartbeat failed", exc_info=error)

    def _recovered(self) -> None:
        if self._trouble:
            log.info("heartbeat is back")
            self._trouble = ""
