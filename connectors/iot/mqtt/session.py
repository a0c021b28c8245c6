"""What is known of a client over its connections: its subscriptions. In memory only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connectors.iot.mqtt.topics import is_filter, matches
from connectors.iot.mqtt.wire import Reason
from hub.sdk.telemetry import Sender

if TYPE_CHECKING:
    from connectors.iot.mqtt.connection import Connection

LONGEST_EXPIRY = 86_400
"""Seconds that a session may outlive its connection."""
MOST_SUBSCRIPTIONS = 100
MOST_DEVICES = 10_000
MOST_WAITING = 10_000

Key = tuple[str, str, str]


@dataclass(slots=True, eq=False)
class Session:
    """One client id of one credential. `devices` are those its gateway said it connected."""

    key: Key
    sender: Sender
    subscriptions: dict[str, int] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    connection: Connection | None = None
    ends_at: float = 0.0

    def subscribe(self, given: str, qos: int, *, shared: bool) -> int:
        """The QoS it gets, or the reason why it does not. `shared`: version 5 knows `$share`."""
        if shared and given.startswith("$share/"):
            return Reason.SHARED_SUBSCRIPTIONS
        if not is_filter(given):
            return Reason.FILTER
        if given not in self.subscriptions and len(self.subscriptions) >= MOST_SUBSCRIPTIONS:
            return Reason.QUOTA
        self.subscriptions[given] = min(qos, 1)
        return self.subscriptions[given]

    def unsubscribe(self, given: str) -> int:
        known = self.subscriptions.pop(given, None) is not None
        return Reason.SUCCESS if known else Reason.NOT_FOUND

    def listens(self, topic: str) -> bool:
        return any(matches(given, topic) for given in self.subscriptions)

    def joined(self, device: str) -> None:
        if len(self.devices) < MOST_DEVICES:
            self.devices.add(device)

    def left(self, device: str) -> None:
        self.devices.discard(device)
        self.told.pop(device, None)


class Sessions:
    """Sessions by credential and client id: nobody can take over another one's session."""

    def __init__(self) -> None:
        self._known: dict[Key, Session] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, sender: Sender, client_id: str) -> Session | None:
        return self._known.get((sender.source, sender.device, client_id))

    def open(
        self, sender: Sender, client_id: str, now: float, *, clean: bool
    ) -> tuple[Session, bool]:
        """The session and whether it was there before. Whoever has it must have been closed."""
        key = (sender.source, sender.device, client_id)
        known = self._known.get(key)
        if known is not None and not clean and known.ends_at > now and known.sender == sender:
            return known, True
        self._known[key] = session = Session(key, sender)
        return session, False

    def leave(self, session: Session, seconds: int, now: float) -> None:
        """Its connection has ended; the session stays for `seconds` more."""
        session.connection = None
        session.ends_at = now + min(seconds, LONGEST_EXPIRY)
        if self._known.get(session.key) is session and (seconds <= 0 or self._is_crowded()):
            del self._known[session.key]

    def sweep(self, now: float) -> None:
        """Forget those whose time is over."""
        over = [one for one in self._known.values() if one.connection is None and one.ends_at < now]
        for session in over:
            del self._known[session.key]

    def _is_crowded(self) -> bool:
        if len(self._known) <= MOST_WAITING:
            return False
        waiting = sum(one.connection is None for one in self._known.values())
        return waiting > MOST_WAITING
