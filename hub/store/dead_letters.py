"""Dead letters: one open row per flow, source key and kind."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import decode_json, encode_json, key_filters, plain_text
from hub.store.tables import dead_letter

_SHORTEST_ID = 6


class DeadLetterKind(StrEnum):
    """What stopped: the mapping of a record, a reference it waits for, or its delivery."""

    RECORD = "record"
    HELD = "held"
    DELIVERY = "delivery"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One thing a person must look at; `problems` are dicts with field, value, code, message."""

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

    @property
    def id(self) -> str:
        text = "\x1f".join((self.kind, self.flow_id, self.source_key))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def put_dead_letters(connection: Connection, letters: Sequence[DeadLetter], now_ms: int) -> None:
    """Open the letters, or bring the ones already there up to date."""
    if not letters:
        return
    by_id = {letter.id: letter for letter in letters}
    known = _existing(connection, list(by_id))
    new = [_values(letter, now_ms) for letter in by_id.values() if letter.id not in known]
    if new:
        connection.execute(dead_letter.insert(), new)
    for letter_id in known:
        values = _values(by_id[letter_id], now_ms)
        del values["id"], values["created_at"]
        connection.execute(dead_letter.update().where(dead_letter.c.id == letter_id).values(values))


def resolve_dead_letters(
    connection: Connection, flow_id: str, source_keys: Sequence[str], now_ms: int
) -> None:
    """Close the open letters of records that went through after all."""
    for condition, params in key_filters(connection, dead_letter.c.source_key, source_keys):
        statement = (
            dead_letter.update()
            .where(
                dead_letter.c.flow_id == sa.bindparam("flow"),
                dead_letter.c.state == "open",
                condition,
            )
            .values(state="resolved", updated_at=now_ms)
        )
        connection.execute(statement, {"flow": flow_id, **params})


def resolve_keyless(connection: Connection, flow_id: str, run_id: int, now_ms: int) -> None:
    """Close the open letters of rows without a key that a complete full read no longer met."""
    connection.execute(
        dead_letter.update()
        .where(
            dead_letter.c.flow_id == flow_id,
            dead_letter.c.state == "open",
            dead_letter.c.run_id != run_id,
            dead_letter.c.source_key.like("?%"),
        )
        .values(state="resolved", updated_at=now_ms)
    )


def list_dead_letters(
    connection: Connection, flow_id: str | None, state: str | None, limit: int
) -> list[dict[str, Any]]:
    """The newest letters as plain dicts, newest first."""
    statement = sa.select(dead_letter).order_by(dead_letter.c.updated_at.desc()).limit(limit)
    if flow_id is not None:
        statement = statement.where(dead_letter.c.flow_id == flow_id)
    if state is not None:
        statement = statement.where(dead_letter.c.state == state)
    return [_shown(row) for row in connection.execute(statement).mappings()]


def load_dead_letter(connection: Connection, letter_id: str) -> dict[str, Any] | None:
    """The letter with this id, or whose id alone begins with it, as a plain dict."""
    if len(letter_id) < _SHORTEST_ID:
        return None
    begins = dead_letter.c.id.startswith(letter_id, autoescape=True)
    rows = connection.execute(sa.select(dead_letter).where(begins).limit(2)).mappings().all()
    return _shown(rows[0]) if len(rows) == 1 else None


def _existing(connection: Connection, ids: list[str]) -> set[str]:
    found: set[str] = set()
    for condition, params in key_filters(connection, dead_letter.c.id, ids):
        found.update(
            connection.execute(sa.select(dead_letter.c.id).where(condition), params).scalars()
        )
    return found


def _values(letter: DeadLetter, now_ms: int) -> dict[str, Any]:
    first = letter.problems[0]
    return {
        "id": letter.id,
        "kind": letter.kind.value,
        "flow_id": letter.flow_id,
        "run_id": letter.run_id,
        "source_key": letter.source_key,
        "target_key": letter.target_key,
        "state": "open",
        "field_name": first.get("field"),
        "error_code": first["code"],
        "vendor_code": letter.vendor_code and plain_text(letter.vendor_code),
        "problems_text": encode_json(list(letter.problems)).decode(),
        "payload_text": letter.payload,
        "attempts": letter.attempts,
        "mapping_version": letter.mapping_version,
        "created_at": now_ms,
        "updated_at": now_ms,
    }


def _shown(row: Any) -> dict[str, Any]:
    shown = dict(row)
    shown["problems"] = decode_json(shown.pop("problems_text"))
    payload = shown.pop("payload_text")
    shown["payload"] = decode_json(payload) if payload else None
    return shown
