"""Records that vanished from the source: noticed by full reads, removed with a guard.

A record counts as gone when two complete full reads in a row have not met it. When too many are
gone at once, a broken filter or a lost permission is likelier than that many deletions: the run
fails and nothing is removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.engine.flows import Flow
from hub.engine.pages import write_removals
from hub.engine.wakes import wake_sink
from hub.sdk.errors import ContractBroken
from hub.store.ledger import count_missing, missing_links
from hub.store.runs import Run, add_counts
from hub.store.tables import flow_state

if TYPE_CHECKING:
    from hub.engine.hub import Hub

_AT_ONCE = 1000


def remove_missing(hub: Hub, connection: Connection, flow: Flow, run: Run) -> None:
    """Queue the removal of what this and the last complete full read did not meet.

    Runs in the transaction that ends the read. Raises ContractBroken (`run.mass_delete`) when the
    share of the flow's records exceeds the guard.
    """
    last_mark = _last_full_mark(connection, flow.id)
    if flow.target.delete == "ignore" or last_mark is None:
        return
    missing, live = count_missing(connection, flow.id, last_mark)
    if missing == 0:
        return
    share = 100 * missing / live
    if share > flow.target.delete_guard:
        raise ContractBroken(
            "run.mass_delete",
            run=run.id,
            flow=flow.id,
            missing=missing,
            live=live,
            share=f"{share:.1f}",
            guard=f"{flow.target.delete_guard:g}",
        )
    while gone := missing_links(connection, flow.id, last_mark, _AT_ONCE):
        written = write_removals(connection, flow, run, gone, hub.now_ms())
        add_counts(connection, run.id, written.counts)
    if flow.target.sink is not None:
        wake_sink(hub, connection, flow.target.ref)


def _last_full_mark(connection: Connection, flow_id: str) -> int | None:
    statement = sa.select(flow_state.c.full_mark).where(flow_state.c.flow_id == flow_id)
    mark: int | None = connection.execute(statement).scalar_one_or_none()
    return mark
