"""Dead letters as jobs write them: one row per flow, source key and kind.

Its id follows from these three, so a letter is opened, brought up to date and closed by primary
key. Looking at letters is in `letter_queries.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.deliveries import NO_RUN
from hub.store.rows import encode_json, key_filters, plain_text
from hub.store.tables import dead_letter


class DeadLetterKind(StrEnum):
    """What stopped: the mapping of a record, a reference it waits for, or its delivery."""

    RECORD = "record"
    HELD = "held"
    DELIVERY = "delivery"
    REVIEW = "review"


class LetterState(StrEnum):
    """`replaying`: somebody asked for it again and the outcome is not known yet."""

    OPEN = "open"
    REPLAYING = "replaying"
    RESOLVED = "resolved"
    DISCARDED = "discarded"


class ClosedHow(StrEnum):
    """Why a letter is no longer open."""

    RECOVERED = "recovered"  # the source sent the record again and it went through
    REPLAYED = "replayed"
    RELEASED = "released"  # what a held record waited for has arrived
    SUPERSEDED = "superseded"  # something newer of the same record took its place
    LANDED = "landed"  # a person saw that the doubtful write is there
    SKIPPED = "skipped"  # the mapping leaves the record out now
    DISCARDED = "discarded"


SOURCE_KINDS = (DeadLetterKind.RECORD, DeadLetterKind.HELD)
"""Kinds whose payload is the row as the source gave it."""

UNSETTLED = (LetterState.OPEN, LetterState.REPLAYING)

# A review is about a write that may be on the wire: only a person closes it.
_CLOSED_BY_ITSELF = (DeadLetterKind.RECORD, DeadLetterKind.HELD, DeadLetterKind.DELIVERY)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One thing a person must look at; `problems` are dicts with field, value, code, message.

    A letter that something newer has overtaken is kept, but is not open.
    """

    kind: DeadLetterKind
    flow_id: str
    run_id: int
    source_key: str
    target_key: str | None
    problems: Sequence[dict[str, Any]]
    payload: str | None
    attempts: int = 0
    mapping_version: str | None = None
    vendor_code: str | None = None
    sink_ref: str | None = None
    revision: int | None = None
    op: str | None = None
    overtaken: bool = False

    @property
    def id(self) -> str:
        return letter_id(self.kind, self.flow_id, self.source_key)


def letter_id(kind: str, flow_id: str, source_key: str) -> str:
    """The id of the letter of this kind about this record."""
    text = "\x1f".join((kind, flow_id, source_key))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def put_dead_letters(connection: Connection, letters: Sequence[DeadLetter], now_ms: int) -> None:
    """Open the letters, or bring the ones already there up to date.

    What was open about the same record for another reason is superseded.
    """
    if not letters:
        return
    by_id = {letter.id: letter for letter in letters}
    known = _known(connection, list(by_id))
    new = [_values(one, now_ms) for one in by_id.values() if one.id not in known]
    if new:
        connection.execute(dead_letter.insert(), new)
    old = [
        _brought_up_to_date(by_id[row.id], row, now_ms)
        for row in known.values()
        if not _still_asked_for(by_id[row.id], row)
    ]
    if old:
        connection.execute(_UPDATE, [{f"b_{name}": v for name, v in row.items()} for row in old])
    _supersede_others(connection, by_id.values(), now_ms)


def resolve_dead_letters(
    connection: Connection, flow_id: str, source_keys: Sequence[str], now_ms: int
) -> None:
    """Close the letters of records that went through after all."""
    ids = [letter_id(kind, flow_id, key) for key in source_keys for kind in _CLOSED_BY_ITSELF]
    close_letters(connection, ids, UNSETTLED, ClosedHow.RECOVERED, now_ms)


def settle_replayed(
    connection: Connection, records: Iterable[tuple[str, str]], now_ms: int
) -> None:
    """The target took these (flow, source key): letters that were replayed for it are resolved."""
    kinds = (*_CLOSED_BY_ITSELF, DeadLetterKind.REVIEW)
    ids = [letter_id(kind, flow_id, key) for flow_id, key in records for kind in kinds]
    close_letters(connection, ids, (LetterState.REPLAYING,), None, now_ms)


def close_letters(
    connection: Connection,
    ids: Sequence[str],
    states: Sequence[LetterState],
    how: ClosedHow | None,
    now_ms: int,
) -> None:
    """Resolve those of the letters that are in one of `states`; without `how` the reason stays."""
    if not ids:
        return
    values: dict[str, Any] = {"state": LetterState.RESOLVED.value, "updated_at": now_ms}
    if how is not None:
        values |= {"closed_how": how.value, "closed_by": None}
    for condition, params in key_filters(connection, dead_letter.c.id, ids):
        # Not the bare column: an index over the states would be walked for these few letters.
        state = sa.func.coalesce(dead_letter.c.state, "")
        here = sa.and_(condition, state.in_([one.value for one in states]))
        connection.execute(dead_letter.update().where(here).values(values), params)


class Ruling(NamedTuple):
    """What became of a letter that was taken up again."""

    id: str
    state: LetterState
    how: ClosedHow | None
    by: str | None
    replay_id: str | None = None
    edited: str | None = None
    revision: int | None = None
    target_key: str | None = None


def rule_on_letters(connection: Connection, rulings: Sequence[Ruling], now_ms: int) -> None:
    """Write what became of letters. One that is open again keeps its newest reason."""
    if rulings:
        rows = [{f"b_{name}": value for name, value in one._asdict().items()} for one in rulings]
        connection.execute(_RULE, [{**row, "b_now": now_ms} for row in rows])


def ask_again(connection: Connection, letter_id: str, replay_id: str, by: str, now_ms: int) -> None:
    """Somebody wants this letter taken up again by the replay."""
    values = {"state": LetterState.REPLAYING.value, "replay_id": replay_id, "closed_by": by}
    this = dead_letter.update().where(dead_letter.c.id == letter_id)
    connection.execute(this.values(**values, updated_at=now_ms))


def discard(connection: Connection, ids: Sequence[str], reason: str, by: str, now_ms: int) -> None:
    """Leave these letters out for good."""
    values = {
        "state": LetterState.DISCARDED.value,
        "closed_how": ClosedHow.DISCARDED.value,
        "closed_by": by,
        "note_text": plain_text(reason),
        "updated_at": now_ms,
    }
    for condition, params in key_filters(connection, dead_letter.c.id, ids):
        connection.execute(dead_letter.update().where(condition).values(values), params)


def reopen_letter(connection: Connection, letter_id: str, replay_id: str, now_ms: int) -> None:
    """The replay will not take the letter up after all."""
    this = dead_letter.update().where(
        dead_letter.c.id == letter_id,
        dead_letter.c.replay_id == replay_id,
        dead_letter.c.state == LetterState.REPLAYING.value,
    )
    values = {"state": LetterState.OPEN.value, "closed_by": None, "closed_how": None}
    connection.execute(this.values(**values, updated_at=now_ms))


def resolve_keyless(connection: Connection, flow_id: str, run_id: int, now_ms: int) -> None:
    """Close the open letters of rows without a key that a complete full read no longer met."""
    connection.execute(
        dead_letter.update()
        .where(
            dead_letter.c.flow_id == flow_id,
            dead_letter.c.state == LetterState.OPEN.value,
            dead_letter.c.run_id != run_id,
            dead_letter.c.source_key.like("?%"),
        )
        .values(
            state=LetterState.RESOLVED.value,
            closed_how=ClosedHow.RECOVERED.value,
            updated_at=now_ms,
        )
    )


class Decision(NamedTuple):
    """What a person decided about a source row: left out for good, or sent on with an edit."""

    source_key: str
    payload: str | None
    mapping_version: str | None
    edited: bool


def decisions_about(
    connection: Connection, flow_id: str, source_keys: Sequence[str]
) -> list[Decision]:
    """Decisions that stand for these records as long as row and mapping stay the same.

    Locks the letters: whoever decides at the same moment waits, and decides about what is then
    there. In the order of ids, as everybody who locks letters does.
    """
    ids = [letter_id(kind, flow_id, key) for key in source_keys for kind in SOURCE_KINDS]
    found = []
    for condition, params in key_filters(connection, dead_letter.c.id, ids):
        statement = sa.select(
            dead_letter.c.source_key,
            dead_letter.c.state,
            dead_letter.c.mapping_version,
            dead_letter.c.edited_text.is_not(None).label("edited"),
            sa.case((_DECIDED, dead_letter.c.payload_text), else_=None).label("payload"),
        ).where(condition)
        locked = statement.order_by(dead_letter.c.id).with_for_update()
        for row in connection.execute(locked, params):
            discarded = row.state == LetterState.DISCARDED
            if discarded or (row.edited and row.state != LetterState.OPEN):
                version, edited = row.mapping_version, not discarded
                found.append(Decision(row.source_key, row.payload, version, edited))
    return found


def _known(connection: Connection, ids: list[str]) -> dict[str, Any]:
    """What must be known of letters that are already there, by id."""
    replaying = dead_letter.c.state == LetterState.REPLAYING.value
    names = ("id", "kind", "state", "run_id", "mapping_version", "opened_at")
    columns = [dead_letter.c[name] for name in names]
    payload = sa.case((replaying, dead_letter.c.payload_text), else_=None).label("payload")
    found: dict[str, Any] = {}
    for condition, params in key_filters(connection, dead_letter.c.id, ids):
        statement = sa.select(*columns, payload).where(condition).order_by(dead_letter.c.id)
        statement = statement.with_for_update()
        found.update((row.id, row) for row in connection.execute(statement, params))
    return found


def _still_asked_for(letter: DeadLetter, known: Any) -> bool:
    """Whether a replay waits that was asked for with the very row the flow has met once more."""
    return (
        known.state == LetterState.REPLAYING
        and letter.run_id != NO_RUN  # what a replay itself finds wrong is the newest reason
        and letter.kind in SOURCE_KINDS
        and known.payload == letter.payload
        and known.mapping_version == letter.mapping_version
    )


def _brought_up_to_date(letter: DeadLetter, known: Any, now_ms: int) -> dict[str, Any]:
    values = _values(letter, now_ms)
    del values["created_at"]
    if known.state == LetterState.OPEN:
        values["opened_at"] = known.opened_at
    if letter.run_id == NO_RUN:
        values["run_id"] = known.run_id
    values["mapping_version"] = letter.mapping_version or known.mapping_version
    return values


def _supersede_others(connection: Connection, letters: Iterable[DeadLetter], now_ms: int) -> None:
    closed: list[str] = []
    replayed: list[str] = []
    for letter in letters:
        others = [
            letter_id(kind, letter.flow_id, letter.source_key)
            for kind in _CLOSED_BY_ITSELF
            if kind is not letter.kind
        ]
        # A doubtful write says nothing about a newer row that could not be mapped.
        both = letter.overtaken or letter.kind is DeadLetterKind.REVIEW
        (replayed if both else closed).extend(others)
    close_letters(connection, closed, UNSETTLED, ClosedHow.SUPERSEDED, now_ms)
    close_letters(connection, replayed, (LetterState.REPLAYING,), ClosedHow.SUPERSEDED, now_ms)


def _values(letter: DeadLetter, now_ms: int) -> dict[str, Any]:
    first = letter.problems[0]
    state = LetterState.RESOLVED if letter.overtaken else LetterState.OPEN
    return {
        "id": letter.id,
        "kind": letter.kind.value,
        "flow_id": letter.flow_id,
        "run_id": letter.run_id,
        "source_key": letter.source_key,
        "target_key": letter.target_key,
        "state": state.value,
        "field_name": first.get("field"),
        "error_code": first["code"],
        "vendor_code": letter.vendor_code and plain_text(letter.vendor_code),
        "problems_text": encode_json(list(letter.problems)).decode(),
        "payload_text": letter.payload,
        "attempts": letter.attempts,
        "mapping_version": letter.mapping_version,
        "revision": letter.revision,
        "op": letter.op,
        "sink_ref": letter.sink_ref,
        "edited_text": None,
        "closed_by": None,
        "closed_how": ClosedHow.SUPERSEDED.value if letter.overtaken else None,
        "note_text": None,
        "created_at": now_ms,
        "opened_at": now_ms,
        "updated_at": now_ms,
    }


_DECIDED = sa.or_(
    dead_letter.c.state == LetterState.DISCARDED.value, dead_letter.c.edited_text.is_not(None)
)
_UPDATE = (
    dead_letter.update()
    .where(dead_letter.c.id == sa.bindparam("b_id"))
    .values(
        {
            column.name: sa.bindparam(f"b_{column.name}")
            for column in dead_letter.columns
            if column.name not in ("id", "created_at", "replay_id")
        }
    )
)
_RULE = (
    dead_letter.update()
    .where(dead_letter.c.id == sa.bindparam("b_id"))
    .values(
        state=sa.bindparam("b_state"),
        closed_how=sa.bindparam("b_how"),
        closed_by=sa.bindparam("b_by"),
        replay_id=sa.func.coalesce(sa.bindparam("b_replay_id"), dead_letter.c.replay_id),
        edited_text=sa.bindparam("b_edited"),
        revision=sa.func.coalesce(sa.bindparam("b_revision"), dead_letter.c.revision),
        target_key=sa.func.coalesce(sa.bindparam("b_target_key"), dead_letter.c.target_key),
        updated_at=sa.bindparam("b_now"),
    )
)
