"""References between records: finding what is there, waiting for what is not.

A record that points at something the target does not have yet is held, and what it waits for is
noted in `hub_waiting`. Whoever brings such an item marks it in its own transaction and queues the
job that takes the held records up again (unhold.py).

A record may be held at the very moment at which its item arrives. Both sides therefore take the
same lock: the sink's, or that of the entity's numbers. Whoever comes second sees the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from sqlalchemy.engine import Connection

from hub.engine.entries import MAX_KEY, Entry
from hub.engine.flows import Catalogue, Flow
from hub.mapping import Links, Reference
from hub.sdk.records import Row, join_key
from hub.store import ledger, waiting
from hub.store.deliveries import lock_sink
from hub.store.drains import reset_drain, want_drain
from hub.store.rows import plain_text
from hub.store.sequences import next_numbers
from hub.store.waiting import Wait

if TYPE_CHECKING:
    from hub.engine.hub import Hub
    from hub.engine.pages import PageWrite


class Knows(Protocol):
    """Whoever knows the flows of a deployment."""

    @property
    def catalogue(self) -> Catalogue: ...


HUB = "hub"
"""The scope of the hub's own entities."""


def resolve(hub: Knows, connection: Connection, flow: Flow, rows: Iterable[Row]) -> Links:
    """Target ids of everything the rows' `link` fields point at, in one query per kind."""
    if not flow.mapping.has_links:
        return {}
    wanted = {one for row in rows for one in flow.mapping.references(row)}
    return _there(hub, connection, flow, wanted)


def lock_targets(connection: Connection, flow: Flow, items: Iterable[str] = ()) -> None:
    """Lock the flow's sink, and what decides whether the `items` it refers to are there.

    Always in the same order: sinks by name, then the numbers of entities by name.
    """
    refs = {f"{_scope(flow)}/{item}" for item in items}
    entities = {ref for ref in refs if _scope(flow) == HUB}
    if entities and flow.target.entity is not None:
        entities.add(flow.target.ref)
    if flow.target.sink is not None:
        refs.add(flow.target.ref)
    for ref in sorted(refs - entities):
        lock_sink(connection, ref)
    for ref in sorted(entities):
        next_numbers(connection, f"record:{ref.removeprefix(f'{HUB}/')}", 0)


def held_items(entries: Iterable[Entry]) -> set[str]:
    """The kinds of items that some of the entries wait for."""
    return {item for entry in entries for item, _ in entry.references}


def keep_waits(hub: Hub, connection: Connection, flow: Flow, written: PageWrite) -> None:
    """Note what the held records of a page wait for, and who waited for what it brought."""
    waiting.forget_waits(connection, flow.id, written.no_longer_held)
    if written.held:
        wanted = {one for entry in written.held for one in entry.references}
        there = _there(hub, connection, flow, wanted)
        waits = [
            Wait(flow.id, entry.source_key, _scope(flow), item, key, int((item, value) in there))
            for entry in written.held
            for item, value in entry.references
            if (key := _item_key(value)) is not None
        ]
        waiting.put_waits(connection, waits)
        if there:
            wake_flow(hub, connection, flow.id)
    if flow.target.entity is not None:
        _arrived(hub, connection, HUB, flow.target.entity, written.arrived)


def sink_items_arrived(
    hub: Hub, connection: Connection, sink_ref: str, source_keys: Sequence[str]
) -> None:
    """A sink has these now and gave them ids; the caller holds the sink's lock."""
    scope, item = sink_ref.split("/", 1)
    _arrived(hub, connection, scope, item, source_keys)


def wake_flow(hub: Hub, connection: Connection, flow_id: str) -> None:
    """Make sure a job is queued that takes up the held records of the flow."""
    wake = want_drain(connection, _job_name(flow_id))
    if wake is not None:
        hub.durable.enqueue(
            connection,
            "release_held",
            f"unhold:{flow_id}:{wake}",
            queue="flow",
            partition=flow_id,
            args=[flow_id],
        )


def take_wake(connection: Connection, flow_id: str) -> None:
    """The job starts: whoever brings something from now on must queue another one."""
    reset_drain(connection, _job_name(flow_id))


def find_arrived(hub: Hub) -> None:
    """Look at everything that is waited for, in case a flow was added or an id came otherwise."""
    with hub.store.reading() as connection:
        items = waiting.wanted_items(connection)
    for scope, item in items:
        feeding = hub.catalogue.feeding(None if scope == HUB else scope, item)
        with hub.store.transaction() as connection:
            for flow_id in waiting.mark_there(connection, scope, item, feeding):
                wake_flow(hub, connection, flow_id)


def _arrived(
    hub: Hub, connection: Connection, scope: str, item: str, source_keys: Sequence[str]
) -> None:
    for flow_id in waiting.mark_ready(connection, scope, item, source_keys):
        wake_flow(hub, connection, flow_id)


def _there(hub: Knows, connection: Connection, flow: Flow, wanted: Iterable[Reference]) -> Links:
    by_item: dict[str, dict[str, str]] = {}
    for item, value in wanted:
        by_item.setdefault(item, {})[join_key([value])] = value
    found: Links = {}
    for item, by_key in by_item.items():
        flows = hub.catalogue.feeding(flow.target.connection, item)
        ids = ledger.target_ids(connection, flows, list(by_key))
        found.update({(item, by_key[key]): target for key, target in ids.items()})
    return found


def _item_key(value: str) -> str | None:
    """The source key of the item; None for one that no ledger can hold."""
    key = join_key([value])
    return key if len(key) <= MAX_KEY and plain_text(key) == key else None


def _scope(flow: Flow) -> str:
    return flow.target.connection or HUB


def _job_name(flow_id: str) -> str:
    """Beside the sinks in `hub_drain`, which tells whether a job is queued."""
    return f"held/{flow_id}"
