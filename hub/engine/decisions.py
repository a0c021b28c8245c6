"""What people decided about source rows, as the flow's runs respect it.

A decision stands as long as the row and the mapping stay the same; a changed one is judged anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy.engine import Connection

from hub.engine.entries import Entry, payload_text
from hub.engine.flows import Flow
from hub.store.dead_letters import decisions_about
from hub.store.ledger import Link, LinkState

STOPPED = {LinkState.HELD, LinkState.REJECTED}


class Standing(StrEnum):
    """`discarded`: the row is left out; `edited`: the target has what a person made of it."""

    DISCARDED = "discarded"
    EDITED = "edited"


def standing_decisions(
    connection: Connection, flow: Flow, entries: Iterable[Entry], known: dict[str, Link]
) -> dict[str, Standing]:
    """The decision that stands for each of these rows that has one, by source key."""
    doubtful = {one.source_key: one for one in entries if _may_be_decided(one, known)}
    if not doubtful:
        return {}
    found: dict[str, Standing] = {}
    for decision in decisions_about(connection, flow.id, list(doubtful)):
        entry = doubtful[decision.source_key]
        same = decision.payload == payload_text(entry.row)
        if not same or decision.mapping_version != flow.mapping.version:
            continue
        if not decision.edited:
            found[entry.source_key] = Standing.DISCARDED
        elif entry.outcome in STOPPED:
            # A row that goes through by now speaks for itself.
            found[entry.source_key] = Standing.EDITED
    return found


def _may_be_decided(entry: Entry, known: dict[str, Link]) -> bool:
    """Only what stops now or stopped last time can have a letter; nothing else is looked up."""
    link = known.get(entry.source_key)
    stopped_before = link is not None and link.state in STOPPED
    return entry.outcome != "deleted" and (entry.outcome in STOPPED or stopped_before)
