"""Letters about source rows, taken up again: map → ledger → record or delivery, as in a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.engine import Connection

from hub.engine.decisions import STOPPED
from hub.engine.entries import Entry, map_rows, row_hash, split_keyless
from hub.engine.flows import Flow
from hub.engine.pages import write_page
from hub.engine.references import keep_waits, resolve
from hub.engine.sources import key_fields
from hub.engine.wakes import wake_sink
from hub.sdk.records import Row
from hub.store import ledger
from hub.store.dead_letters import (
    ClosedHow,
    DeadLetterKind,
    LetterState,
    Ruling,
    letter_id,
    rule_on_letters,
)
from hub.store.deliveries import NO_RUN
from hub.store.ledger import Link
from hub.store.rows import decode_exact

if TYPE_CHECKING:
    from hub.engine.hub import Hub

Letter = dict[str, Any]


class Beside(NamedTuple):
    """Beside the runs: what is written belongs to no run and leaves no mark of a read."""

    id: int = NO_RUN
    seen_mark: int | None = None


class Cause(NamedTuple):
    """Who took letters up again, and what a letter that went through is closed as."""

    by: str
    how: ClosedHow = ClosedHow.REPLAYED
    replay_id: str | None = None


def take_up_records(
    hub: Hub,
    connection: Connection,
    flow: Flow,
    letters: Sequence[Letter],
    cause: Cause,
    edited: dict[str, str] | None = None,
) -> None:
    """Send the rows of these letters the normal way again; what fails again stays open.

    The caller holds the locks of the flow and its targets and has fenced its runs. `edited` is, by
    letter id, the row as a person made it. A letter whose record has moved on is superseded.
    """
    now, edits = hub.now_ms(), edited or {}
    cases, known = _cases(hub, connection, flow, letters, edits)
    current = {case.key: case for case in cases if _is_current(case, known)}
    entries = _map(hub, connection, flow, list(current.values()))
    written = write_page(
        connection,
        flow,
        Beside(),
        [_as_it_came(flow, current[one.source_key], one) for one in entries],
        known,
        now,
        decided={},
    )
    keep_waits(hub, connection, flow, written)
    if written.has_deliveries:
        wake_sink(hub, connection, flow.target.ref)
    outcomes = {entry.source_key: entry for entry in entries}
    rulings = [
        _ruling(flow, case, outcomes[case.key] if current.get(case.key) is case else None, cause)
        for case in cases
    ]
    rule_on_letters(connection, rulings, now)


class _Case(NamedTuple):
    """A letter, the row to send on, and the key it goes under."""

    letter: Letter
    key: str
    row: Row
    edited: str | None
    link: Link | None


def _cases(
    hub: Hub,
    connection: Connection,
    flow: Flow,
    letters: Sequence[Letter],
    edits: dict[str, str],
) -> tuple[list[_Case], dict[str, Link]]:
    rows: dict[str, Row] = {
        one["id"]: decode_exact(edits.get(one["id"]) or str(one["payload_text"])) for one in letters
    }
    keys = {one["id"]: _key_of(hub, flow, one, rows[one["id"]], edits) for one in letters}
    names = {*keys.values(), *(one["source_key"] for one in letters)}
    known = ledger.links_of(connection, flow.id, list(names))
    cases = [
        _Case(
            one,
            keys[one["id"]],
            rows[one["id"]],
            edits.get(one["id"]),
            known.get(one["source_key"]),
        )
        for one in letters
    ]
    return cases, known


def _key_of(hub: Hub, flow: Flow, letter: Letter, row: Row, edits: dict[str, str]) -> str:
    """The letter's own key; a row that came without one may have got it from a person."""
    own = str(letter["source_key"])
    if not own.startswith("?") or letter["id"] not in edits:
        return own
    keyed, _ = split_keyless([row], key_fields(hub, flow))
    return keyed[0][0] if keyed else own


def _is_current(case: _Case, known: dict[str, Link]) -> bool:
    """Whether the letter still says the newest that is known of its record."""
    link, revision = case.link, case.letter["revision"]
    if link is None or link.state not in STOPPED or link.content_hash is not None:
        return False
    if case.key != case.letter["source_key"] and case.key in known:
        return False  # the source has sent the record under its key meanwhile
    return revision is None or revision == link.revision


def _map(hub: Hub, connection: Connection, flow: Flow, cases: Sequence[_Case]) -> list[Entry]:
    keyless = [case for case in cases if case.key.startswith("?")]
    keyed = [(case.key, case.row) for case in cases if not case.key.startswith("?")]
    references = resolve(hub, connection, flow, (row for _, row in keyed))
    entries = map_rows(flow, keyed, {}, references)
    return entries + [_still_keyless(hub, flow, case) for case in keyless]


def _still_keyless(hub: Hub, flow: Flow, case: _Case) -> Entry:
    _, rejected = split_keyless([case.row], key_fields(hub, flow))
    problems = rejected[0].problems if rejected else ()
    return Entry(case.key, "rejected", None, None, None, None, case.row, problems)


def _as_it_came(flow: Flow, case: _Case, entry: Entry) -> Entry:
    """The entry with the row and hash of the source: the next run knows the row by them."""
    letter, link = case.letter, case.link
    if case.key != letter["source_key"] or entry.source_hash is None:
        return entry._replace(row=_original(case)) if case.edited else entry
    same = letter["mapping_version"] == flow.mapping.version
    if same and link is not None and link.source_hash is not None:
        return entry._replace(source_hash=link.source_hash, row=_original(case))
    return entry._replace(source_hash=row_hash(flow, _original(case)), row=_original(case))


def _original(case: _Case) -> Row:
    if case.edited is None:
        return case.row
    row: Row = decode_exact(case.letter["payload_text"])
    return row


def _ruling(flow: Flow, case: _Case, entry: Entry | None, cause: Cause) -> Ruling:
    state: LetterState = LetterState.RESOLVED
    how: ClosedHow | None = cause.how
    if entry is None:
        how = ClosedHow.SUPERSEDED
    elif entry.outcome == "ok" and flow.target.sink is not None:
        # What got its key from a person goes on under that key, with letters of its own.
        own = case.key == case.letter["source_key"]
        state = LetterState.REPLAYING if own else LetterState.RESOLVED
    elif entry.outcome == "skipped":
        how = ClosedHow.SKIPPED
    elif entry.outcome in STOPPED:
        kind = DeadLetterKind.HELD if entry.outcome == "held" else DeadLetterKind.RECORD
        if letter_id(kind, flow.id, case.key) == case.letter["id"]:
            state, how = LetterState.OPEN, None
        else:
            how = ClosedHow.SUPERSEDED  # by the letter that says what is wrong now
    return Ruling(
        case.letter["id"],
        state,
        how,
        None if state is LetterState.OPEN else cause.by,
        cause.replay_id,
        case.edited,
        target_key=entry.target_key if entry is not None else None,
    )
