"""Received events: which came, how far they got, and what is in them."""

from __future__ import annotations

import hashlib
from itertools import takewhile
from typing import Any

from hub.engine.inbox import Inbox, inboxes
from hub.engine.letter_rows import iso_ms
from hub.engine.masking import MaskBook
from hub.engine.operations.base import Opened, Row, capped, moment_ms, storable
from hub.engine.operations.protocol import Filters
from hub.sdk.errors import ConfigError, ContractBroken, HubError
from hub.sdk.events import decode_event, rows_of
from hub.sdk.hooks import hook_of
from hub.sdk.loading import unknown_key
from hub.store.inbox import StoredEvent, load_event
from hub.store.inbox_queries import EventFilter, find_events

STATES = ("waiting", "read", "forgotten")
"""Some flow has not read it; all have; all have, and its body is gone."""

_FILTERS = ("connection", "event", "state", "since")


class InboxOperations(Opened):
    """Looking at what came in by webhook."""

    def inbox(self, filters: Filters, limit: int, after: str | None = None) -> Row:
        """Events that the filters name, newest first; `next` goes on behind them.

        `event` is the sender's id. Several connections come as one list without a `next`.
        """
        given = {name: text for name, text in filters.items() if text is not None}
        for name in given:
            if name not in _FILTERS:
                raise unknown_key("filter", name, name, _FILTERS)
        state, since = given.get("state"), given.get("since")
        if state is not None and state not in STATES:
            known = ", ".join(STATES)
            raise ConfigError("dead_letter.choice", name="state", value=state, known=known)
        oldest = 0 if since is None else moment_ms(self._hub, "since", since)
        size = capped(limit)
        found: list[Row] = []
        with self._hub.store.reading() as connection:
            places = inboxes(self._hub, connection)
            below = None if after is None else self._place(after)
            names = [given["connection"]] if "connection" in given else sorted(places)
            for name in names:
                if below is not None and below[0] != name:
                    continue
                place = places.get(name, Inbox())
                upto = None if below is None else below[1] - 1
                wanted = _wanted(name, given.get("event"), place, state, upto)
                rows = find_events(connection, wanted, size)
                new = takewhile(lambda row: row["received_at"] >= oldest, rows)
                found += [_shown(row, place) for row in new]
        found.sort(key=lambda row: (row["received_at"], row["number"]), reverse=True)
        single = len(names) == 1 or below is not None
        more = single and len(found) == size
        return {"items": found[:size], "next": found[-1]["id"] if more else None}

    def inbox_event(self, event: str) -> Row:
        """One event and its body, with what must not be read as `***`."""
        name, number = self._place(event)
        with self._hub.store.reading() as connection:
            place = inboxes(self._hub, connection).get(name, Inbox())
            stored = load_event(connection, name, number) if storable(name) else None
        if stored is None:
            raise ConfigError("inbox.unknown", event=event)
        size = None if stored.body is None else len(stored.body)
        row = {**stored._asdict(), "connection": name, "number": number, "size": size}
        flows = [
            {"flow": flow_id, "read": number <= position}
            for flow_id, position in sorted(place.flows.items())
        ]
        shown = _shown(row, place)
        return {**shown, "flows": flows, **self._content(name, stored, sorted(place.flows))}

    def _content(self, name: str, stored: StoredEvent, flows: list[str]) -> Row:
        content: Row = {"events": [], "sha256": None, "body": None, "problem": None}
        if stored.body is None:
            return content
        content["sha256"] = hashlib.sha256(stored.body).hexdigest()
        try:
            body = decode_event(stored.body, stored.media_type, name)
        except ContractBroken as error:
            return {**content, "problem": error.code}
        book = MaskBook(self._hub)
        return {**content, "events": self._kinds(name, body), "body": book.hide(body, name, flows)}

    def _kinds(self, name: str, body: Any) -> list[str]:
        """The events of the manifest that the body is one of."""
        try:
            events = hook_of(self._hub.connection(name)).events
        except HubError:
            return []  # no longer configured, or not well
        kinds = ((kind, rows_of(event, body)) for kind, event in events.items())
        return [kind for kind, found in kinds if found.rows or found.problems]

    def _place(self, event: str) -> tuple[str, int]:
        name, colon, number = event.rpartition(":")
        plain = number.isascii() and number.isdecimal() and len(number) < 18
        if not (colon and plain):
            raise ConfigError("inbox.unknown", event=event)
        return name, int(number)


def _wanted(
    name: str, event_id: str | None, place: Inbox, state: str | None, upto: int | None
) -> EventFilter:
    above = place.read if state == "waiting" else None
    if state in ("read", "forgotten"):
        upto = place.read if upto is None else min(upto, place.read)
    has_body = None if state in (None, "waiting") else state == "read"
    return EventFilter(name, event_id, above, upto, has_body)


def _shown(row: Row, place: Inbox) -> Row:
    state = "waiting" if row["number"] > place.read else "read"
    if row["size"] is None and state == "read":
        state = "forgotten"
    return {
        "id": f"{row['connection']}:{row['number']}",
        "connection": row["connection"],
        "number": row["number"],
        "event_id": row["event_id"],
        "received_at": iso_ms(row["received_at"]),
        "media_type": row["media_type"],
        "size": row["size"],
        "state": state,
    }
