"""Rows that only say what both sides agreed on: the echo of our own write needs no other one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.engine import Connection

from hub.engine.entries import Entry
from hub.engine.sameness import same
from hub.engine.two_way.pairs import Direction, used
from hub.sdk.records import Row
from hub.store.agreements import NONE, Agreement, load_agreements
from hub.store.ledger import Link, LinkState, links_of


def meet_partner(
    connection: Connection,
    direction: Direction | None,
    entries: Sequence[Entry],
    known: dict[str, Link],
) -> tuple[dict[str, Link], frozenset[str]]:
    """The links of the entries as the other direction left them, and the keys of its echoes.

    In the page's transaction, which holds the flow's lock: a write of the other direction that is
    settled meanwhile waits, and makes the record new again.
    """
    if direction is None:
        return known, frozenset()
    known = links_of(connection, direction.flow.id, [one.source_key for one in entries])
    return known, _echoes(connection, direction, entries, known)


def _echoes(
    connection: Connection,
    direction: Direction,
    entries: Sequence[Entry],
    known: Mapping[str, Link],
) -> frozenset[str]:
    asked = [one for one in entries if one.outcome == "ok" and _may_be_echo(one, known)]
    keys = [one.source_key for one in asked]
    agreed = load_agreements(connection, direction.flow.id, keys) if keys else {}
    names = direction.source_names
    return frozenset(
        one.source_key
        for one in asked
        if is_echo(used(one.row, names), agreed.get(one.source_key, NONE))
    )


def _may_be_echo(entry: Entry, known: Mapping[str, Link]) -> bool:
    """Only of a record that went through: what waits or was refused is to be looked at again."""
    link = known.get(entry.source_key)
    return link is not None and link.state == LinkState.SYNCED


def is_echo(now: Row, agreed: Agreement) -> bool:
    """Whether the used part of a row says just what both sides agreed on."""
    base = agreed.base
    if agreed.gone or base is None or base.keys() != now.keys():
        return False
    return all(same(now[name], base[name]) for name in now)
