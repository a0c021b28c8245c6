"""Pages of a connection's inbox, as rows of one flow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection

from hub.engine.entries import Entry, rejected_entry, split_keyless
from hub.engine.flows import Flow
from hub.mapping import FieldProblem
from hub.sdk.connection import Connection as Sender
from hub.sdk.envelope import holds
from hub.sdk.errors import ContractBroken, HubError, LostRace
from hub.sdk.events import decode_event, rows_of
from hub.sdk.hooks import event_of, is_challenge
from hub.sdk.records import Row
from hub.store import inbox
from hub.store.database import Store
from hub.store.inbox import StoredEvent
from hub.store.runs import lock_flow

MOST_EVENTS = 500
MOST_ROWS = 2_000
MOST_BYTES = 8_000_000


@dataclass(slots=True)
class EventPage:
    """Events behind `after` up to `upto`; more may follow a page that is `full`.

    An event without a record for the flow counts as one row that is skipped; something that should
    be a record and is none is rejected.
    """

    after: int
    upto: int
    full: bool
    rows: list[tuple[str, Row]] = field(default_factory=list)
    rejected: list[Entry] = field(default_factory=list)
    skipped: int = 0

    @property
    def read(self) -> int:
        return len(self.rows) + len(self.rejected) + self.skipped


class EventReader:
    """Reads an inbox for one flow. Raises ConfigError when the connection has no such event."""

    def __init__(self, store: Store, sender: Sender, flow: Flow) -> None:
        self._store = store
        self._flow = flow
        self._name = flow.source.connection
        self._sender = sender
        self._event = event_of(sender, str(flow.source.event))

    def position(self) -> int:
        """The last event the flow has read, or the one before the first that is kept."""
        with self._store.reading() as connection:
            found = inbox.position_of(connection, self._flow.id, self._name)
            return inbox.first_kept(connection, self._name) - 1 if found is None else found

    def next_page(self, after: int) -> EventPage:
        """The events behind `after`, oldest first."""
        with self._store.reading() as connection:
            # Asked first: what is numbered by now must be among the rows that are read next.
            newest = inbox.last_event_no(connection, self._name)
            upto, full = inbox.page_end(connection, self._name, after, MOST_EVENTS, MOST_BYTES)
            events = inbox.events_between(connection, self._name, after, upto)
        page = EventPage(after, upto, full)
        last = after
        for event in events:
            if event.event_no > last + 1:
                page.rejected.append(self._gone(last + 1, event.event_no - 1))
            self._add(page, event)
            last = event.event_no
            if len(page.rows) >= MOST_ROWS and last < upto:
                page.upto, page.full = last, True
                return page
        if not full and last < newest:
            page.rejected.append(self._gone(last + 1, newest))
            page.upto = newest
        return page

    def advance(self, page: EventPage, connection: Connection) -> None:
        """Move the flow's position behind the page, in the page's transaction.

        Raises LostRace when it is no longer where the page began. The flow stays locked until the
        commit: a run that ends cannot overlook an event that comes meanwhile.
        """
        lock_flow(connection, self._flow.id)
        if inbox.position_of(connection, self._flow.id, self._name) != page.after:
            raise LostRace(run=self._flow.id)
        inbox.move_position(connection, self._flow.id, self._name, page.upto)

    def is_deleted(self, row: Row) -> bool:
        """Whether the event says that the record is gone."""
        return self._event.deleted is not None and holds(self._event.deleted, row)

    def _add(self, page: EventPage, event: StoredEvent) -> None:
        if event.body is None:
            page.rejected.append(self._gone(event.event_no, event.event_no))
            return
        try:
            body = decode_event(event.body, event.media_type, self._name)
        except ContractBroken as error:
            raw = {"event": event.event_no, "body": event.body.decode("utf-8", "replace")}
            page.rejected.append(rejected_entry(raw, _problem("", None, error)))
            return
        if is_challenge(self._sender, body):
            page.skipped += 1
            return
        found = rows_of(self._event, body)
        keyed, keyless = split_keyless(found.rows, self._event.key)
        wrong = [
            rejected_entry(_as_row(item, event.event_no), _problem(self._event.data, item, error))
            for item, error in found.problems
        ]
        page.rows += keyed
        page.rejected += [*keyless, *wrong]
        if not found.rows and not found.problems:
            page.skipped += 1

    def _gone(self, first: int, last: int) -> Entry:
        """What stands for events whose bodies nobody has any more."""
        params: dict[str, Any] = {"connection": self._name, "number": first}
        error = HubError("inbox.body_gone", **params)
        if first != last:
            params = {"connection": self._name, "first": first, "last": last}
            error = HubError("inbox.events_gone", **params)
        return rejected_entry({**params, "flow": self._flow.id}, _problem("", None, error))


def _problem(name: str, value: object, error: HubError) -> FieldProblem:
    shown = value if isinstance(value, str | int | None) else None
    return FieldProblem(name, shown, error.code, dict(error.params))


def _as_row(item: Any, number: int) -> Row:
    return item if isinstance(item, dict) else {"event": number, "item": item}
