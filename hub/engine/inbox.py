"""How far the flows have read the inbox, and forgetting what all of them have read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from hub.engine.event_runs import event_flows
from hub.sdk.connection import Connection as Configured
from hub.sdk.errors import HubError
from hub.sdk.hooks import HookReceiver
from hub.store import inbox
from hub.store.inbox_queries import received_at

if TYPE_CHECKING:
    from hub.engine.hub import Hub

DAY_MS = 86_400_000

_BEHIND_MINUTES = 10
_AT_ONCE = 200
_MOST_ROUNDS = 50
"""With `_AT_ONCE`, what one sweep forgets of a connection: it must not hold up the intake."""

Forget = Callable[[Connection, str, int, int], None]


@dataclass(slots=True)
class Inbox:
    """The inbox of a connection: the last event of all, and the last that each flow has read."""

    newest: int = 0
    flows: dict[str, int] = field(default_factory=dict)
    gone: int = 0

    @property
    def read(self) -> int:
        """The last event that every flow has read.

        Where no flow is left, what the last one had read; nothing where there was never one.
        """
        return min(self.flows.values(), default=self.gone)


def inboxes(hub: Hub, connection: Connection) -> dict[str, Inbox]:
    """The inbox of every connection that has received an event.

    A flow that cannot be loaded now still counts where it has read before.
    """
    found = {name: Inbox(last) for name, last in inbox.last_event_nos(connection).items()}
    known = inbox.positions(connection)
    _, broken = hub.catalogue.all()
    reading = {flow.id: flow.source.connection for flow in event_flows(hub)}
    for flow_id, name in reading.items():
        of, position = known.get(flow_id, ("", 0))
        found.setdefault(name, Inbox()).flows[flow_id] = position if of == name else 0
    for flow_id, (name, position) in known.items():
        place = found.setdefault(name, Inbox())
        if flow_id in broken:
            place.flows[flow_id] = position
        elif reading.get(flow_id) != name:
            place.gone = max(place.gone, position)
    return found


def hook_trouble(connection: Configured) -> HubError | None:
    """Why no event of the connection can be verified, such as a secret that is not set."""
    try:
        HookReceiver(connection)
    except HubError as error:
        return error
    return None


def backlog_trouble(
    connection: Connection, name: str, place: Inbox, now_ms: int
) -> HubError | None:
    """That events wait for longer than flows need to get to them."""
    waiting = place.newest - place.read
    if waiting <= 0:
        return None
    if not place.flows:
        return HubError("inbox.no_flow", connection=name, number=waiting)
    came = received_at(connection, name, place.read)
    minutes = 0 if came is None else (now_ms - came) // 60_000
    if minutes < _BEHIND_MINUTES:
        return None
    return HubError("inbox.behind", connection=name, number=waiting, minutes=minutes)


class Retention:
    """Forgets old bodies, and later old ids, of events that every flow has read."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._bodiless: dict[str, int] = {}

    def round(self) -> None:
        """Forget some of what is old enough, a few events at a time."""
        settings, now = self._hub.deployment.settings.hooks, self._hub.now_ms()
        with self._hub.store.reading() as connection:
            found = inboxes(self._hub, connection)
            for name in found.keys() - self._bodiless.keys():
                self._bodiless[name] = inbox.first_kept(connection, name) - 1
        bodies_before = now - settings.keep_bodies_days * DAY_MS
        ids_before = now - settings.keep_ids_days * DAY_MS
        for name, one in sorted(found.items()):
            after = self._bodiless[name]
            self._bodiless[name] = self._some(
                name, after, one.read, bodies_before, inbox.forget_bodies
            )
            self._some(name, 0, self._bodiless[name], ids_before, inbox.forget_events)

    def _some(self, name: str, after: int, upto: int, before_ms: int, forget: Forget) -> int:
        """Forget events behind `after` that are older; the last that is forgotten now."""
        for _ in range(_MOST_ROUNDS):
            with self._hub.store.reading() as connection:
                oldest = inbox.oldest_events(connection, name, after, upto, _AT_ONCE)
            old = list(takewhile(lambda event: event[1] < before_ms, oldest))
            if not old or self._hub.stopping:
                break
            with self._hub.store.transaction() as connection:
                forget(connection, name, after, old[-1][0])
            after = old[-1][0]
            if len(old) < _AT_ONCE:
                break
        return after
