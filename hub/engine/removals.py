"""Records that vanished from the source: noticed by full reads, removed with a guard.

A record counts as gone when two complete full reads in a row have not met it. When too many are
gone at once, a broken filter or a lost permission is likelier than that many deletions: the run
fails and nothing is removed (docs/verify-and-delete.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.engine.entries import Entry
from hub.engine.flows import Flow
from hub.engine.pages import write_removals
from hub.engine.wakes import wake_sink
from hub.sdk.errors import ContractBroken
from hub.store.dead_letters import resolve_dead_letters
from hub.store.ledger import (
    Link,
    claimed_targets,
    count_missing,
    drop_missing_stopped,
    missing_links,
)
from hub.store.runs import Run, add_counts, delete_guard_of
from hub.store.tables import flow_state

if TYPE_CHECKING:
    from hub.engine.hub import Hub

FEW = 5
"""Up to this many may go whatever the share, but never more than half of a flow's records."""

_AT_ONCE = 1000


def remove_missing(hub: Hub, connection: Connection, flow: Flow, run: Run) -> None:
    """Queue the removal of what this and the last complete full read did not meet.

    Runs in the transaction that ends the read. Raises ContractBroken (`run.mass_delete`) when
    more are gone than the guard allows.
    """
    last_mark = _last_full_mark(connection, flow.id)
    if last_mark is None:
        return
    ignored = flow.target.delete == "ignore"
    while keys := drop_missing_stopped(connection, flow.id, last_mark, _AT_ONCE, sent=ignored):
        resolve_dead_letters(connection, flow.id, keys, hub.now_ms())
    if ignored:
        return
    missing, live = count_missing(connection, flow.id, last_mark)
    if missing == 0:
        return
    guard = delete_guard_of(connection, run.id)
    _guard(flow, run, missing, live, flow.target.delete_guard if guard is None else guard)
    while gone := missing_links(connection, flow.id, last_mark, _AT_ONCE):
        kept = targets_in_use(hub, connection, flow, gone)
        written = write_removals(connection, flow, run, gone, kept, hub.now_ms())
        add_counts(connection, run.id, written.counts)
    if flow.target.sink is not None:
        wake_sink(hub, connection, flow.target.ref)


def targets_in_use(
    hub: Hub, connection: Connection, flow: Flow, gone: Sequence[Link]
) -> frozenset[str]:
    """The target keys of `gone` that another live record, of whichever flow, has as well."""
    target = flow.target
    if not gone or target.delete not in ("deactivate", "delete"):
        return frozenset()
    flows = hub.catalogue.feeding(target.connection, target.sink or target.entity or "")
    keys = [link.target_key for link in gone if link.target_key is not None]
    own = {link.source_key for link in gone}
    return frozenset(
        target_key
        for flow_id, source_key, target_key in claimed_targets(connection, flows, keys)
        if flow_id != flow.id or source_key not in own
    )


def said_gone(entries: Sequence[Entry], known: dict[str, Link]) -> list[Link]:
    """The links of the records that a page's rows say are gone."""
    keys = {entry.source_key for entry in entries if entry.outcome == "deleted"}
    return [known[key] for key in keys if key in known and known[key].is_live]


def allowed(live: int, guard: float) -> float:
    """How many of `live` records may vanish because of one read."""
    if guard == 0:
        return 0
    return max(live * guard / 100, min(FEW, live / 2))


def _guard(flow: Flow, run: Run, missing: int, live: int, guard: float) -> None:
    if missing <= allowed(live, guard):
        return
    share = 100 * missing / live
    raise ContractBroken(
        "run.mass_delete",
        run=run.id,
        flow=flow.id,
        missing=missing,
        live=live,
        share=f"{share:.1f}",
        guard=f"{guard:g}",
        enough=-(-missing * 100 // live),
    )


def _last_full_mark(connection: Connection, flow_id: str) -> int | None:
    statement = sa.select(flow_state.c.full_mark).where(flow_state.c.flow_id == flow_id)
    mark: int | None = connection.execute(statement).scalar_one_or_none()
    return mark
