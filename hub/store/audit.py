"""Who changed what: an append-only list in which each entry's hash covers the one before.

Whoever edits or deletes a row breaks the chain at that row. The chain alone does not stop somebody
who can write the database and reckons it anew: keep the newest hash (`verify` prints it) elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import decode_json, encode_json, plain_text
from hub.store.sequences import last_number, next_numbers
from hub.store.tables import audit

_SEQUENCE = "audit"
_LONGEST_NAME = 120
_LONGEST_SUBJECT = 512
_AT_ONCE = 1000


def append_audit(
    connection: Connection,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, Any],
    now_ms: int,
) -> int:
    """Add an entry in the caller's transaction; returns its number.

    The last thing a transaction does: its lock makes everybody else who writes an entry wait.
    `details` never hold a payload or a secret.
    """
    number = next_numbers(connection, _SEQUENCE, 1)
    entry = {
        "entry_no": number,
        "happened_at": now_ms,
        "actor": plain_text(actor)[:_LONGEST_NAME],
        "action": action,
        "subject": plain_text(subject)[:_LONGEST_SUBJECT],
        "details_text": encode_json(dict(details)).decode(),
    }
    before = sa.select(audit.c.entry_hash).where(audit.c.entry_no == number - 1)
    previous = connection.execute(before).scalar_one_or_none() or ""
    connection.execute(audit.insert().values(**entry, entry_hash=_hash(previous, entry)))
    return number


class Verdict(NamedTuple):
    """Whether the chain holds: `broken` is the number of the first entry that does not fit."""

    entries: int
    broken: int | None
    newest_hash: str | None


def verify_audit(connection: Connection) -> Verdict:
    """Reckon the whole chain again."""
    expected, previous = 1, ""
    while rows := _next_rows(connection, expected - 1):
        for row in rows:
            if row.entry_no != expected or row.entry_hash != _hash(previous, row._mapping):
                return Verdict(expected - 1, expected, previous or None)
            expected, previous = expected + 1, row.entry_hash
    cut_off = last_number(connection, _SEQUENCE) >= expected
    return Verdict(expected - 1, expected if cut_off else None, previous or None)


def list_audit(
    connection: Connection,
    limit: int,
    before: int | None = None,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
) -> list[dict[str, Any]]:
    """The newest entries, newest first; `before` is a number to go on from."""
    statement = sa.select(audit).order_by(audit.c.entry_no.desc()).limit(limit)
    if before is not None:
        statement = statement.where(audit.c.entry_no < before)
    for column, wanted in ((audit.c.actor, actor), (audit.c.action, action)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    if subject is not None:
        statement = statement.where(audit.c.subject.startswith(subject, autoescape=True))
    return [_shown(row) for row in connection.execute(statement).mappings()]


def _next_rows(connection: Connection, after: int) -> Sequence[Any]:
    statement = sa.select(audit).where(audit.c.entry_no > after)
    return connection.execute(statement.order_by(audit.c.entry_no).limit(_AT_ONCE)).all()


def _hash(previous: str, entry: Mapping[str, Any]) -> str:
    names = ("entry_no", "happened_at", "actor", "action", "subject", "details_text")
    return hashlib.sha256(encode_json([previous, *(entry[name] for name in names)])).hexdigest()


def _shown(row: Any) -> dict[str, Any]:
    shown = {name: row[name] for name in ("entry_no", "happened_at", "actor", "action", "subject")}
    return {**shown, "details": decode_json(row["details_text"]), "entry_hash": row["entry_hash"]}
