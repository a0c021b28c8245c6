"""The state of one Sparkplug edge node: messages and time in, effects out.

Nothing here reads a clock or a socket, so any order of arrivals can be played through it. Births
tell what aliases mean, `seq` tells whether something is missing:

    in order                → kept at once
    ahead of a gap          → waits `reorder` seconds; then kept anyway, and a rebirth asked for
    nobody knows the alias  → held up to a minute, and a rebirth asked for
    restored from a file    → held likewise; when no birth comes, the old ones are taken for true
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from connectors.iot.sparkplug.births import Birth, Known, Metric, resolve

HELD_MESSAGES = 1000
HELD_BYTES = 16 * 1024 * 1024
HELD_SECONDS = 60.0
REBIRTH_SECONDS = 30.0
_SEQ = 256


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A message of the node; `raw` is the caller's own. `timestamp` is UTC milliseconds."""

    kind: str
    device: str = ""
    seq: int | None = None
    timestamp: int | None = None
    bd_seq: int | None = None
    metrics: Sequence[Metric] = ()
    size: int = 0
    raw: Any = None


class Keep(NamedTuple):
    """Keep the message. `known` names its metrics, in order; `devices` die with it."""

    arrival: Arrival
    known: tuple[Known, ...] = ()
    devices: tuple[str, ...] = ()


class Refuse(NamedTuple):
    """The message can never be read."""

    arrival: Arrival
    detail: str


class Rebirth(NamedTuple):
    """Ask the node for its births."""


class Count(NamedTuple):
    outcome: str
    number: int = 1


class Save(NamedTuple):
    """What `saved` gives has changed."""


class _Held(NamedTuple):
    until: float
    arrival: Arrival
    counted: bool
    """Whether its `seq` has been looked at."""


Effect = Keep | Refuse | Rebirth | Count | Save


class EdgeNode:
    """See the module. Every call takes `now` in seconds of a clock that never goes back."""

    def __init__(self, *, reorder: float = 2.0, commands: bool = True) -> None:
        self._reorder = reorder
        self._commands = commands
        self._birth: Birth | None = None
        self._devices: dict[str, Birth] = {}
        self._bd_seq: int | None = None
        self._sure = False  # births are those of now, not of before we were away
        self._expected: int | None = None
        self._ahead: dict[int, tuple[float, Arrival]] = {}  # since when
        self._held: deque[_Held] = deque()
        self._held_bytes = 0
        self._asked_at: float | None = None
        self._wants_rebirth = False
        self._effects: list[Effect] = []

    @property
    def born(self) -> bool:
        """Whether the node is alive as far as we know."""
        return self._birth is not None

    def idle(self, now: float) -> bool:
        """Nothing is known of the node and nothing waits: it can be forgotten."""
        asked = self._asked_at is not None and now - self._asked_at < REBIRTH_SECONDS
        return self._birth is None and not self.busy and not asked

    @property
    def busy(self) -> bool:
        """Whether `tick` has something to wait for."""
        return bool(self._held or self._ahead or self._wants_rebirth)

    @property
    def waiting(self) -> int:
        """Messages that wait for a birth or a missing neighbour."""
        return len(self._held) + len(self._ahead)

    def on(self, arrival: Arrival, now: float) -> list[Effect]:
        """Take a message in."""
        if arrival.kind == "NBIRTH":
            self._node_birth(arrival, now)
        elif arrival.kind == "NDEATH":
            self._node_death(arrival, now)
        else:
            self._in_sequence(arrival, now)
        return self._done()

    def tick(self, now: float) -> list[Effect]:
        """Let time pass: gaps that stay, messages held too long, a rebirth that is due."""
        if self._ahead and now >= min(since for since, _ in self._ahead.values()) + self._reorder:
            self._give_up_gap(now)
        self._expire(now)
        if self._wants_rebirth:
            self._ask(now)
        return self._done()

    def lost_touch(self, now: float) -> list[Effect]:
        """We were away: births may have been missed, so what is known is in doubt."""
        if self._birth is not None:
            self._flush_ahead(now)
            self._expected = None
            self._sure = not self._commands
            self._ask(now)
        return self._done()

    # --- remembered over a restart ---

    def saved(self) -> dict[str, Any] | None:
        """What a restart needs; None when there is nothing to remember."""
        if self._birth is None:
            return None
        devices = {name: birth.saved() for name, birth in self._devices.items()}
        return {"bd_seq": self._bd_seq, "node": self._birth.saved(), "devices": devices}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Raises ValueError, TypeError or KeyError for what `saved` did not write."""
        bd_seq = saved["bd_seq"]
        devices = {str(name): Birth.restored(one) for name, one in saved["devices"].items()}
        self._birth, self._devices = Birth.restored(saved["node"]), devices
        self._bd_seq = None if bd_seq is None else int(bd_seq)
        self._sure = not self._commands

    # --- births and deaths ---

    def _node_birth(self, arrival: Arrival, now: float) -> None:
        born_at = arrival.timestamp or 0
        later = [one for _, one in self._ahead.values() if (one.timestamp or 0) > born_at]
        self._flush_ahead(now, without=later)
        self._birth, self._devices = Birth.of(arrival.metrics, born_at), {}
        self._bd_seq, self._sure, self._wants_rebirth = arrival.bd_seq, True, False
        self._expected = ((arrival.seq or 0) + 1) % _SEQ
        known = tuple(Known(one.name, one.datatype) for one in arrival.metrics)
        self._effects += [Keep(arrival, known), Save()]
        self._release(now, later)

    def _node_death(self, arrival: Arrival, now: float) -> None:
        if self._birth is None or arrival.bd_seq != self._bd_seq:
            # Of an earlier connection of the node, or of a life we know nothing of.
            self._effects.append(Count("stale_death"))
            return
        self._flush_ahead(now)
        if not self._sure:
            self._believe(now)  # the same life after all
        self._effects += [Keep(arrival, devices=tuple(self._devices)), Save()]
        self._birth, self._devices, self._expected = None, {}, None

    # --- order ---

    def _in_sequence(self, arrival: Arrival, now: float) -> None:
        if self._birth is None or not self._sure:
            self._hold(arrival, now, counted=False)
            return
        if arrival.seq is None:
            self._apply(arrival, now)
            return
        if self._expected is None:
            self._expected = arrival.seq
        distance = (arrival.seq - self._expected) % _SEQ
        if distance == 0:
            self._apply(arrival, now)
            self._expected = (arrival.seq + 1) % _SEQ
            self._follow_on(now)
        elif distance >= _SEQ // 2 or arrival.seq in self._ahead:
            self._effects.append(Count("seq_late"))
            self._apply(arrival, now)
        else:
            self._wait(arrival.seq, arrival, now)

    def _wait(self, seq: int, arrival: Arrival, now: float) -> None:
        self._ahead[seq] = (now, arrival)
        if self._reorder <= 0:
            self._give_up_gap(now)

    def _follow_on(self, now: float) -> None:
        while self._expected is not None and (one := self._ahead.pop(self._expected, None)):
            self._apply(one[1], now)
            self._expected = (self._expected + 1) % _SEQ

    def _give_up_gap(self, now: float) -> None:
        self._effects.append(Count("seq_gap"))
        last = self._flush_ahead(now)
        if last is not None:
            self._expected = (last + 1) % _SEQ
        self._ask(now)

    def _flush_ahead(self, now: float, without: Sequence[Arrival] = ()) -> int | None:
        """Take what waited as it is; the last number of it."""
        first = self._expected or 0
        numbers = sorted(self._ahead, key=lambda seq: (seq - first) % _SEQ)
        waited = [self._ahead[seq][1] for seq in numbers]
        self._ahead = {}
        for one in waited:
            if one not in without:  # by identity
                self._apply(one, now)
        return numbers[-1] if numbers else None

    # --- meaning ---

    def _apply(self, arrival: Arrival, now: float) -> None:
        if not self._understood(arrival, now):
            self._hold(arrival, now, counted=True)

    def _understood(self, arrival: Arrival, now: float) -> bool:
        if arrival.kind == "DBIRTH":
            self._device_birth(arrival, now)
            return True
        if arrival.kind == "DDEATH":
            self._device_death(arrival)
            return True
        own = self._devices.get(arrival.device) if arrival.device else self._birth
        if own is None:
            return False
        known = resolve(arrival.metrics, own, self._others())
        if known is None:
            return False
        self._effects.append(Keep(arrival, known))
        return True

    def _device_birth(self, arrival: Arrival, now: float) -> None:
        known = tuple(Known(one.name, one.datatype) for one in arrival.metrics)
        self._effects.append(Keep(arrival, known))
        born_at = arrival.timestamp or 0
        current = self._devices.get(arrival.device) or self._birth
        if current is not None and born_at and born_at < current.timestamp:
            return  # overtaken by a newer birth, which knows better
        self._devices[arrival.device] = Birth.of(arrival.metrics, born_at)
        self._effects.append(Save())
        self._release(now)

    def _device_death(self, arrival: Arrival) -> None:
        current = self._devices.get(arrival.device)
        if current is not None and 0 < (arrival.timestamp or 0) < current.timestamp:
            self._effects.append(Count("stale_death"))
            return
        self._devices.pop(arrival.device, None)
        self._effects += [Keep(arrival), Save()]

    def _others(self) -> list[Birth]:
        return [self._birth, *self._devices.values()] if self._birth else []

    # --- held ---

    def _hold(self, arrival: Arrival, now: float, *, counted: bool) -> None:
        self._held.append(_Held(now + HELD_SECONDS, arrival, counted))
        self._held_bytes += arrival.size
        self._ask(now)
        while len(self._held) > HELD_MESSAGES or self._held_bytes > HELD_BYTES:
            if self._in_doubt():
                self._believe(now)
                continue
            self._refuse_oldest("too many messages wait for a birth")

    def _expire(self, now: float) -> None:
        while self._held and self._held[0].until <= now:
            if self._in_doubt():
                self._believe(now)
                continue
            self._refuse_oldest("no birth explains the message")

    def _refuse_oldest(self, detail: str) -> None:
        arrival = self._held.popleft().arrival
        self._held_bytes -= arrival.size
        self._effects += [Refuse(arrival, detail), Count("no_birth")]

    def _in_doubt(self) -> bool:
        return self._birth is not None and not self._sure

    def _believe(self, now: float) -> None:
        """No birth came: take the remembered ones for true rather than lose readings."""
        self._sure = True
        self._effects.append(Count("births_believed"))
        self._release(now, in_order=True)

    def _release(
        self, now: float, later: Sequence[Arrival] = (), *, in_order: bool = False
    ) -> None:
        """Try again what was held, now that more is known.

        What is not newer than the birth has a number of a sequence that is over.
        """
        held, self._held, self._held_bytes = self._held, deque(), 0
        born_at = self._birth.timestamp if self._birth else 0
        for until, arrival, counted in held:
            if not counted and (in_order or (arrival.timestamp or 0) > born_at):
                self._in_sequence(arrival, now)
            elif not self._understood(arrival, now):
                self._held.append(_Held(until, arrival, True))
                self._held_bytes += arrival.size
        for arrival in later:
            self._in_sequence(arrival, now)

    # --- rebirth ---

    def _ask(self, now: float) -> None:
        due = self._asked_at is None or now - self._asked_at >= REBIRTH_SECONDS
        self._wants_rebirth = self._commands and not due
        if self._commands and due:
            self._asked_at = now
            self._effects += [Rebirth(), Count("rebirth_asked")]

    def _done(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects
