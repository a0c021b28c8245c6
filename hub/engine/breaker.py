"""The circuit breaker of each connection, shared by all processes through the store.

    closed   calls are made; MOST_FAILURES in a row open it
    open     no call before a moment that lies further ahead after every failed probe
    probing  then one call at a time over all processes; one answer closes it

Failures are calls that got no answer, or one that says that the system is in trouble. A refused
record is none, and neither is a request to slow down. Refused credentials open it at once.
"""

from __future__ import annotations

import logging
import math
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import sqlalchemy as sa

from hub.sdk.breaker import Attempt
from hub.sdk.clock import Clock
from hub.sdk.errors import TransientError
from hub.store.breakers import (
    Standing,
    load_standing,
    lock_standing,
    open_standings,
    save_standing,
)
from hub.store.database import Store, database_time
from hub.store.rows import plain_text

MOST_FAILURES = 5
FIRST_WAIT = 2.0
LONGEST_WAIT = 300.0
REFUSED_WAIT = 300.0
"""Seconds until refused credentials are tried again by themselves."""

_FRESH = 0.5
"""Seconds for which a process believes what it read of a breaker."""
_PROBE_SLACK = 2.0
_LOOK_AGAIN = 2.0
"""Seconds after which to ask again while somebody else's probe is under way."""

log = logging.getLogger("hub.engine.breaker")


class Outlook(NamedTuple):
    """Whether calls are of use now: in `wait` seconds; `probing`: then only one at a time."""

    wait: float
    probing: bool
    opened_at: int | None


class StoreBreaker:
    """A `Breaker` whose state stands in the store. Safe for threads."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._fresh = math.inf if store.embedded else _FRESH
        self._known: dict[str, tuple[float, Standing]] = {}

    @contextmanager
    def attempt(self, connection: str, longest: float) -> Iterator[Attempt]:
        """Around one call. Raises TransientError while the connection is left alone."""
        probe = None
        if self._standing(connection).opened_at is not None:
            probe = self._take_probe(connection, longest)
        attempt = Attempt()
        try:
            yield attempt
        finally:
            self._ended(connection, attempt, probe)

    def refused(self, connection: str, reason: str) -> None:
        """Leave the connection alone until its credentials are renewed, or for a while."""

        def shut(old: Standing, now: int) -> Standing:
            return replace(
                _opened(old, now, REFUSED_WAIT),
                failures=max(old.failures, MOST_FAILURES),
                reason_text=plain_text(reason),
            )

        self._change(connection, shut)

    def forgive(self, connection: str) -> None:
        """Call again at once: somebody renewed or repaired something."""
        if not self._standing(connection).faultless:
            self._change(connection, lambda old, _now: Standing(old.connection_id))

    def forget_probes(self) -> None:
        """No process but this one works on the store: probes under way died with theirs."""
        with self._store.transaction() as connection:
            for standing in open_standings(connection):
                save_standing(connection, replace(standing, probe_holder=None, probe_until=0))

    def outlook(self, connection: str) -> Outlook:
        """Whether calls are of use now."""
        standing = self._standing(connection)
        if standing.opened_at is None:
            return Outlook(0.0, probing=False, opened_at=None)
        now = self._now()
        wait = max(_wait_ms(standing, now), 0) / 1000
        return Outlook(wait, probing=True, opened_at=standing.opened_at)

    def _take_probe(self, name: str, longest: float) -> str | None:
        """The name of our probe, None when the breaker has closed meanwhile; else raises."""
        holder = uuid.uuid4().hex
        lease = int((longest + _PROBE_SLACK) * 1000)

        def taken(old: Standing, now: int) -> Standing:
            if old.opened_at is None or _wait_ms(old, now) > 0:
                return old
            return replace(old, probe_holder=holder, probe_until=now + lease)

        standing, now = self._change(name, taken)
        if standing.opened_at is None:
            return None
        if standing.probe_holder == holder:
            return holder
        wait = _wait_ms(standing, now) / 1000
        reason = standing.reason_text or ""
        raise TransientError(
            "http.breaker_open", retry_after=wait, connection=name, seconds=round(wait),
            reason=reason,
        )  # fmt: skip

    def _ended(self, name: str, attempt: Attempt, probe: str | None) -> None:
        try:
            if attempt.trouble is not None:
                self._change(name, lambda old, now: _failed(old, now, probe, attempt.trouble))
            elif attempt.answered:
                self.forgive(name)
            elif probe is not None:
                self._change(name, lambda old, _now: _left(old, probe))
        except sa.exc.SQLAlchemyError as error:
            # What became of the call matters more than what we learnt from it.
            log.warning("%s: breaker not kept: %s", name, type(error).__name__)
            self._known.pop(name, None)

    def _standing(self, name: str) -> Standing:
        read_at, standing = self._known.get(name, (-math.inf, Standing(name)))
        if self._clock.monotonic() - read_at <= self._fresh:
            return standing
        with self._store.reading() as connection:
            standing = load_standing(connection, name)
        self._known[name] = (self._clock.monotonic(), standing)
        return standing

    def _change(
        self, name: str, change: Callable[[Standing, int], Standing]
    ) -> tuple[Standing, int]:
        with self._store.transaction() as connection:
            old = lock_standing(connection, name)
            now = self._milliseconds(connection)
            new = change(old, now)
            if new != old:
                save_standing(connection, new)
        self._known[name] = (self._clock.monotonic(), new)
        _say(old, new)
        return new, now

    def _now(self) -> int:
        with self._store.reading() as connection:
            return self._milliseconds(connection)

    def _milliseconds(self, connection: sa.Connection) -> int:
        if self._store.embedded:  # one process, one clock
            return int(self._clock.now().timestamp() * 1000)
        return int(database_time(connection) * 1000)


def _failed(old: Standing, now: int, probe: str | None, trouble: str | None) -> Standing:
    new = replace(old, failures=old.failures + 1, reason_text=plain_text(trouble or ""))
    if old.opened_at is None:
        return new if new.failures < MOST_FAILURES else _opened(new, now, _pause(0))
    if probe is None or old.probe_holder != probe:
        return old  # began before it opened, or slept through its own probe
    return _opened(new, now, _pause(new.failures - MOST_FAILURES))


def _left(old: Standing, probe: str) -> Standing:
    """The probe proved nothing: whoever comes next may make one."""
    return replace(old, probe_holder=None, probe_until=0) if old.probe_holder == probe else old


def _opened(standing: Standing, now: int, wait: float) -> Standing:
    return replace(
        standing,
        opened_at=standing.opened_at or now,
        no_call_until=max(standing.no_call_until, now + int(wait * 1000)),
        probe_holder=None,
        probe_until=0,
    )


def _pause(failed_probes: int) -> float:
    """Seconds without a call: doubling, capped, spread so that not all come back at once."""
    longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failed_probes, 20))
    return longest * random.uniform(0.8, 1.0)  # noqa: S311 (spreads load, keeps no secret)


def _wait_ms(standing: Standing, now: int) -> int:
    """Until when to wait: for the moment of the next probe, or while another's is under way."""
    if standing.no_call_until > now:
        return standing.no_call_until - now
    if standing.probe_holder is not None and standing.probe_until > now:
        return min(standing.probe_until - now, int(_LOOK_AGAIN * 1000))
    return 0


def _say(old: Standing, new: Standing) -> None:
    """One line when a connection is lost, one when it is back."""
    if old.opened_at is None and new.opened_at is not None:
        log.warning(
            "%s: %d failures in a row, calls wait: %s",
            new.connection_id,
            new.failures,
            new.reason_text,
        )
    elif old.opened_at is not None and new.opened_at is None:
        log.info("%s: answers again", new.connection_id)
