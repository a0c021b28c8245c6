"""A write's way to the target, with exactly one effect per version.

    claim    the delivery becomes an intent, committed before the first network byte
    send     one call, a receipt for every record (sending.py)
    settle   links, dead letters and counts (settlement.py), in one transaction with the next claim

What a crash or a lost answer leaves open is brought to an end first (doubts.py).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from hub.engine.doubts import look_up
from hub.engine.sending import OPERATOR_WAIT, Result, Sent, send
from hub.engine.settlement import DOWN_FOR_GOOD_MS, settle
from hub.engine.wakes import wake_later
from hub.sdk.errors import AuthError, ConfigError
from hub.sdk.records import Outcome, Receipt, Safety
from hub.sdk.session import Session
from hub.store import deliveries
from hub.store.crash import crash_point
from hub.store.deliveries import Intent
from hub.store.drains import take_drain
from hub.store.runs import add_counts, finish_delivered

if TYPE_CHECKING:
    from hub.engine.hub import Hub

_SINGLES = 64
"""The most single-record writes that one job has claimed at a time."""
_AHEAD = 2
"""Calls claimed per call that may be on the wire: the next one is ready when one comes back."""
_GATHER = 0.05
"""Seconds to wait for further answers before the ones at hand are settled."""
_HOUSEKEEPING = 1.0
_LOOK_BACK = 10.0
_LINGER = 3.0
"""A wait up to this long (seconds) is spent in the job: waking another one is less exact."""
_NAP = 0.2
_EARLY = 1.0

log = logging.getLogger("hub.engine.delivery")


def drain_sink(hub: Hub, sink_ref: str, wake: int = 0) -> None:
    """The delivery job of one sink: send what is due, then ask to be woken for the rest.

    `wake` is the number of the wake-up that it was queued for; 0 when nobody queued it.
    Each job signs its intents with a name of its own: what an earlier job left behind is settled
    first, also one of this process that ended in an error.
    """
    with hub.store.transaction() as connection:
        take_drain(connection, sink_ref, wake, hub.now_ms())
    connection_name, sink_name = sink_ref.split("/", 1)
    try:
        drain = Drain(hub, sink_ref, hub.session(connection_name), sink_name)
        while not hub.stopping:
            drain.run()
            left = drain.seconds_left()
            if left is None or left > _LINGER:
                break
            _nap(hub, left)
    except (ConfigError, AuthError) as error:
        log.warning("%s: deliveries wait: %s", sink_ref, error)
        renewed = isinstance(error, AuthError) and hub.renew_if_changed(connection_name)
        left = 0.0 if renewed else OPERATOR_WAIT
    if left is not None and not hub.stopping:
        with hub.store.transaction() as connection:
            wake_later(hub, connection, sink_ref, max(left - _EARLY, _NAP))


class Drain:
    """One job's work on a sink: calls on the wire, answers to settle, what to claim next."""

    def __init__(self, hub: Hub, sink_ref: str, session: Session, sink_name: str) -> None:
        limits = session.connection.manifest.limits
        self._hub = hub
        self._ref = sink_ref
        self._sink = session.sink(sink_name)
        self._name = session.connection.name
        self._account = session.connection.account
        self._workers = limits.concurrent
        self._longest = limits.deadline + limits.connect
        self._window = self._most_claimed(limits.rate)
        self._owner = uuid.uuid4().hex
        self._calls: dict[Future[Sent], list[Intent]] = {}
        self._answers: list[Result] = []
        self._claimed_to: int | None = None
        self._looked_back_at = float("-inf")
        self._kept_at = float("-inf")
        self._hold_until = float("-inf")
        self._in_vain = 0

    def run(self) -> None:
        """Claim, send and settle until nothing is due or nothing is of use."""
        self._in_vain = 0
        with ThreadPoolExecutor(self._workers, thread_name_prefix="hub-delivery") as pool:
            try:
                while self._round(pool):
                    self._gather()
            finally:
                for call in self._calls:
                    call.cancel()
            self._leave()

    def seconds_left(self) -> float | None:
        """In how many seconds a job is of use again; None when nothing waits."""
        with self._hub.store.reading() as connection:
            due = deliveries.next_due(connection, self._ref)
            now = self._hub.now_ms()
            if deliveries.open_intents(connection, self._ref, self._owner, now, 1):
                due = now
        if due is None:
            return None
        left = (due - now) / 1000
        return max(0.0 if self._in_vain == 0 else _NAP, left, self._left_alone())

    # --- one round ----------------------------------------------------------------------------

    def _round(self, pool: ThreadPoolExecutor) -> bool:
        """Settle what is answered and claim what comes next; False when nothing is under way."""
        if self._hub.stopping:
            return False
        room = self._room()
        if self._sink.safety is Safety.LOOK_UP and room > 0:
            self._look_up_doubts(pool)
            room = self._room()
        asked_at = self._hub.clock.monotonic()
        answers, self._answers = self._answers, []
        parts: list[list[Intent]] = []
        if answers or room > 0:
            counted = self._counted(answers)
            with self._hub.store.transaction() as connection:
                deliveries.lock_sink(connection, self._ref)
                if answers:
                    settle(connection, self._hub, self._ref, self._sink, answers, counted=counted)
                if room > 0:
                    parts = self._next_parts(connection, room, asked_at)
                crash_point("delivery.before_commit")
        if answers:
            crash_point("delivery.settled")
        if parts:
            crash_point("delivery.claimed")
        for part in parts:
            self._calls[pool.submit(send, self._hub, self._sink, part, asked_at)] = part
        return bool(self._calls)

    def _gather(self) -> None:
        """Wait for an answer, and a little for those that come right behind it."""
        until, half = None, self._window // 2
        while self._calls:
            left = None if until is None else until - self._hub.clock.monotonic()
            if left is not None and (left <= 0 or len(self._answers) >= half):
                break
            done, _ = wait(self._calls, timeout=left, return_when=FIRST_COMPLETED)
            for call in done:
                self._take(call)
            until = until or self._hub.clock.monotonic() + _GATHER
        crash_point("delivery.sent")

    def _take(self, call: Future[Sent]) -> None:
        part = self._calls.pop(call)
        if call.cancelled():
            # Never begun: the wish goes back as it was.
            undone = Receipt("", Outcome.RETRY, retry_after=0.0, tried=False)
            self._answers += [(one, undone) for one in part]
            return
        if self._hub.stopping and call.exception() is not None:
            return  # its sockets were closed; the next process settles what is open
        sent = call.result()
        self._answers += sent.results
        if sent.hold > 0:
            self._hold_until = max(self._hold_until, self._hub.clock.monotonic() + sent.hold)
        in_vain = all(receipt.outcome is Outcome.RETRY for _, receipt in sent.results)
        self._in_vain = self._in_vain + 1 if in_vain else 0

    def _leave(self) -> None:
        """Settle what still comes back; nothing new is begun."""
        while self._calls:
            self._gather()
        answers, self._answers = self._answers, []
        if answers:
            counted = self._counted(answers)
            with self._hub.store.transaction() as connection:
                deliveries.lock_sink(connection, self._ref)
                settle(connection, self._hub, self._ref, self._sink, answers, counted=counted)

    def _counted(self, answers: Sequence[Result]) -> bool:
        """Whether lost answers say something about their records: not while all of it is down."""
        if all(receipt.outcome is not Outcome.UNKNOWN for _, receipt in answers):
            return True
        opened_at = self._hub.breaker.outlook(self._name).opened_at
        return opened_at is None or self._hub.now_ms() - opened_at > DOWN_FOR_GOOD_MS

    # --- what comes next ----------------------------------------------------------------------

    def _most_claimed(self, rate: float | None) -> int:
        """How many records may be claimed and not settled."""
        if self._sink.safety is Safety.LOOK_UP:
            return self._workers  # each one costs a look-up after a crash
        ahead = self._workers * _AHEAD
        if self._sink.batch > 1:
            return self._sink.batch * ahead
        # A slow account: what is not claimed can still be replaced by a newer version.
        return max(ahead, _SINGLES) if rate is None else max(ahead, min(_SINGLES, int(rate)))

    def _room(self) -> int:
        """How many more records may be claimed now."""
        if self._in_vain >= self._workers or self._left_alone() > 0:
            return 0
        if self._hub.breaker.outlook(self._name).probing:
            return 0 if self._calls else self._sink.batch
        return self._window - sum(map(len, self._calls.values()))

    def _left_alone(self) -> float:
        """For how many seconds no call is of use."""
        held = self._hold_until - self._hub.clock.monotonic()
        pause = self._hub.gate.pause_left(self._account)
        pause = pause if pause > self._hub.gate.patience else 0.0
        return max(0.0, held, pause, self._hub.breaker.outlook(self._name).wait)

    def _next_parts(self, connection: Connection, room: int, asked_at: float) -> list[list[Intent]]:
        """The next calls: what somebody died at or is in doubt first, then what is due.

        A probe is made with what was not tried yet, if there is such: a record that its target
        cannot bear must not keep a connection shut.
        """
        now = self._hub.now_ms()
        keeping = asked_at - self._kept_at >= _HOUSEKEEPING or not self._calls
        again: list[list[Intent]] = []
        claimed: list[Intent] = []
        if keeping:
            self._kept_at = asked_at
            self._release(connection, now)
        if self._hub.breaker.outlook(self._name).probing:
            claimed = self._claim(connection, room, asked_at, now)
        if keeping and not claimed:
            open_ones = deliveries.open_intents(connection, self._ref, self._owner, now, room)
            left = [one for one in open_ones if self._repeatable(one)]
            again = self._smaller(deliveries.take_over(connection, left, self._owner, now))
            room -= len(left)
        if room > 0 and not claimed:
            claimed = self._claim(connection, room, asked_at, now)
        size = self._sink.batch
        return again + [claimed[at : at + size] for at in range(0, len(claimed), size)]

    def _claim(self, connection: Connection, room: int, asked_at: float, now: int) -> list[Intent]:
        """Go on where the last claim ended; now and then, and at the end, look at all of it."""
        if asked_at - self._looked_back_at >= _LOOK_BACK:
            self._claimed_to, self._looked_back_at = None, asked_at
        begin = self._claimed_to
        found = deliveries.claim(connection, self._ref, room, self._owner, now, begin)
        if len(found) < room and begin is not None:
            more = room - len(found)
            found += deliveries.claim(connection, self._ref, more, self._owner, now)
            self._claimed_to = None
        elif found:
            self._claimed_to = found[-1].due_at
        return found

    def _smaller(self, again: Sequence[Intent]) -> list[list[Intent]]:
        """Calls that failed as a whole, in smaller ones: one bad record must not fail the rest."""
        parts: list[list[Intent]] = []
        for one in sorted(again, key=lambda intent: intent.attempts):
            size = max(1, self._sink.batch >> one.attempts)
            if parts and len(parts[-1]) < size and parts[-1][0].attempts == one.attempts:
                parts[-1].append(one)
            else:
                parts.append([one])
        return parts

    def _release(self, connection: Connection, now: int) -> None:
        for run_id, number in deliveries.release_blocked(connection, self._ref).items():
            add_counts(connection, run_id, {"pending": -number, "refused": number})
            finish_delivered(connection, run_id, now)

    def _look_up_doubts(self, pool: ThreadPoolExecutor) -> None:
        """Ask what became of the writes whose answer nobody saw."""
        now = self._hub.clock.monotonic()
        if now - self._kept_at < _HOUSEKEEPING and self._calls:
            return
        while left := self._doubts():
            answered = pool.map(self._look_up, left)
            if not all(list(answered)):
                self._in_vain = self._workers
                return

    def _doubts(self) -> list[Intent]:
        now = self._hub.now_ms()
        with self._hub.store.reading() as connection:
            left = deliveries.open_intents(connection, self._ref, self._owner, now, _SINGLES)
        return [one for one in left if not self._repeatable(one)]

    def _repeatable(self, one: Intent) -> bool:
        return self._sink.repeatable(one.op, one.target_id)

    def _look_up(self, one: Intent) -> bool:
        return look_up(self._hub, self._ref, self._sink, one, self._longest)


def _nap(hub: Hub, seconds: float) -> None:
    until = hub.clock.monotonic() + seconds
    while not hub.stopping and (left := until - hub.clock.monotonic()) > 0:
        hub.clock.sleep(min(left, _NAP))
