"""Looking at both sides of a pair as they are now, beside what was agreed on before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hub.engine.flows import Catalogue
from hub.engine.references import resolve
from hub.engine.two_way.merge import Sides
from hub.engine.two_way.pairs import Direction
from hub.sdk.records import Row
from hub.sdk.sinks import SinkWriter
from hub.store import agreements, ledger
from hub.store.agreements import NONE, Agreement
from hub.store.database import Store
from hub.store.dead_letters import DeadLetterKind, LetterState, letter_id
from hub.store.deliveries import NO_RUN, Intent
from hub.store.letter_queries import load_letter
from hub.store.rows import decode_exact

if TYPE_CHECKING:
    from hub.engine.hub import Hub


class Knows(Protocol):
    """What looking needs of the hub: its flows and its store."""

    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def store(self) -> Store: ...


DISPUTED = "two_way.disputed"
STOPPED = "two_way.stopped"


@dataclass(frozen=True, slots=True)
class Look:
    """Both rows of a pair at one moment, and what is known of them.

    `lead` is the agreement under which the pair counts its turns; `said` what a person decided,
    by field; `disputed` are the fields that still wait for a person, `released` when one let a
    stopped pair go on.
    """

    direction: Direction
    source_key: str
    other_key: str | None
    source: Row | None
    target: Row | None
    mine: Agreement
    theirs: Agreement
    lead: Agreement
    said: Mapping[str, Any]
    disputed: tuple[str, ...]
    released: bool

    @property
    def is_replaced(self) -> bool:
        """Whether the target's record is paired with another record of the source by now."""
        return self.theirs.other_key not in (None, self.source_key)


def source_writer(hub: Hub, direction: Direction) -> SinkWriter:
    """The sink by which the partner writes what the flow reads: it also shows single rows."""
    target = direction.partner.target
    return hub.session(str(target.connection)).sink(str(target.sink))


def paired_key(hub: Knows, direction: Direction, source_key: str) -> str | None:
    """The id of the target's record, as far as the store knows it."""
    with hub.store.reading() as connection:
        known = agreements.load_agreements(connection, direction.flow.id, [source_key])
        agreed = known.get(source_key, NONE).other_key
        ids = ledger.target_ids(connection, [direction.flow.id], [source_key])
    return agreed or ids.get(source_key)


def made_from(hub: Knows, direction: Direction, row: Row | None) -> str | None:
    """The record the partner made this row of the source from: the row bears the key under which
    it was written, also when nobody could note the answer."""
    key = None if row is None else direction.source.our_key(row)
    if key is None:
        return None
    with hub.store.reading() as connection:
        found = ledger.claimed_targets(connection, [direction.partner.id], [key])
    return found[0][1] if found else None


def is_free(hub: Knows, direction: Direction, source_key: str, other_key: str) -> bool:
    """Whether a record of the target is not paired with another one than this: people copy
    records together with the key in them."""
    with hub.store.reading() as connection:
        known = agreements.load_agreements(connection, direction.partner.id, [other_key])
    return known.get(other_key, NONE).other_key in (None, source_key)


def look_at(
    hub: Knows,
    direction: Direction,
    source_key: str,
    other_key: str | None,
    source: Row | None,
    target: Row | None,
    intent: Intent | None,
) -> Look:
    """The rows that were fetched, beside what the store knows."""
    flow, partner = direction.flow.id, direction.partner.id
    with hub.store.reading() as connection:
        mine = agreements.load_agreements(connection, flow, [source_key]).get(source_key, NONE)
        theirs = NONE
        if other_key is not None:
            found = agreements.load_agreements(connection, partner, [other_key])
            theirs = found.get(other_key, NONE)
        letter = None
        if intent is not None and (intent.run_id == NO_RUN or mine.disputed):
            number = letter_id(DeadLetterKind.DELIVERY, flow, source_key)
            letter = load_letter(connection, number)
    replayed = _replayed_by(letter, intent)
    dropped = letter is not None and letter["state"] == LetterState.DISCARDED
    return Look(
        direction,
        source_key,
        other_key,
        source,
        target,
        mine,
        theirs,
        lead=mine if direction.leads else theirs,
        said={} if letter is None or not replayed else _said(letter),
        disputed=() if dropped else mine.disputed,
        released=replayed and letter is not None and letter["error_code"] == STOPPED,
    )


def mapped(hub: Knows, direction: Direction, row: Row) -> Mapping[str, Any] | None:
    """A row of the source in the words of the target; None when the mapping does not take it."""
    with hub.store.reading() as connection:
        references = resolve(hub, connection, direction.flow, [row])
    return direction.flow.mapping.apply(row, references).data


def sides_of(hub: Knows, look: Look, document: Mapping[str, Any]) -> Sides:
    """Both sides and what was agreed on, all in the words of the target."""
    direction = look.direction
    base, target_base = look.mine.base, look.theirs.base
    return Sides(
        document,
        direction.shown(look.target or {}),
        None if base is None else _known_of(mapped(hub, direction, base), direction, base),
        None if target_base is None else _shown_base(direction, target_base),
        look.mine.sent,
    )


def _known_of(
    document: Mapping[str, Any] | None, direction: Direction, base: Row
) -> Mapping[str, Any] | None:
    """A base in the words of the target; fields that draw on what it does not hold are left out:
    the mapping asks for more than it did when the base was noted."""
    if document is None or direction.flow.mapping.source_fields <= base.keys():
        return document
    lineage = direction.flow.mapping.lineage()
    return {
        name: value
        for name, value in document.items()
        if name in lineage and {path.split(".")[0] for path in lineage[name].sources} <= base.keys()
    }


def _shown_base(direction: Direction, base: Row) -> dict[str, Any]:
    paths = direction.paths
    shown = direction.shown(base)
    return {name: value for name, value in shown.items() if paths[name].split(".")[0] in base}


def _replayed_by(letter: dict[str, Any] | None, intent: Intent | None) -> bool:
    if letter is None or intent is None:
        return False
    state, revision = letter["state"], letter["revision"]
    return bool(state == LetterState.REPLAYING and revision == intent.revision)


def _said(letter: dict[str, Any]) -> dict[str, Any]:
    """What a person decided: the disputed fields as the letter has them, and every edit."""
    before = decode_exact(letter["payload_text"] or "{}")
    after = decode_exact(letter["edited_text"] or letter["payload_text"] or "{}")
    problems = decode_exact(letter["problems_text"])
    disputed = {one["field"] for one in problems if one["code"] == DISPUTED}
    return {
        name: value
        for name, value in after.items()
        if name in disputed or before.get(name) != value
    }
