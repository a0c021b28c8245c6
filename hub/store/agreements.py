"""What both sides of a two-way flow last agreed on, record by record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.deliveries import lock_sink
from hub.store.rows import decode_exact, encode_exact, key_filters
from hub.store.tables import agreement, intent


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a record stood; `base` is None while nothing was agreed on.

    `turns` says per field which flow changed it last and when the direction turned; `stopped` and
    `disputed` name fields that wait for a person; `sent` is what a write that is not settled may
    have changed at the target.
    """

    other_key: str | None = None
    base: dict[str, Any] | None = None
    gone: bool = False
    disputed: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    turns: Mapping[str, Any] = field(default_factory=dict)
    sent: Mapping[str, Sequence[Any]] = field(default_factory=dict)


NONE = Agreement()


@dataclass(frozen=True, slots=True)
class Holder:
    """A write that wants a pair to itself: its intent's flow, record, version and run."""

    flow_id: str
    source_key: str
    revision: int
    run_id: int

    @property
    def mark(self) -> str:
        return f"{self.revision}:{self.run_id}"


def load_agreements(
    connection: Connection, flow_id: str, keys: Sequence[str], *, lock: bool = False
) -> dict[str, Agreement]:
    """The agreements about these records of a flow's source, as far as there are any."""
    found: dict[str, Agreement] = {}
    for condition, params in key_filters(connection, agreement.c.source_key, keys):
        this = agreement.c.flow_id == sa.bindparam("flow")
        statement = sa.select(agreement).where(this, condition).order_by(agreement.c.source_key)
        if lock:
            statement = statement.with_for_update()
        for row in connection.execute(statement, {"flow": flow_id, **params}):
            found[row.source_key] = _read(row)
    return found


def has_agreements(connection: Connection, flow_id: str) -> bool:
    """Whether the flow has ever gone both ways."""
    any_of = sa.select(agreement.c.source_key).where(agreement.c.flow_id == flow_id).limit(1)
    return connection.execute(any_of).first() is not None


def forget_agreements(connection: Connection, flow_ids: Sequence[str]) -> None:
    """These flows join other systems from now on: what was agreed on means nothing there."""
    connection.execute(agreement.delete().where(agreement.c.flow_id.in_(flow_ids)))


def put_agreement(
    connection: Connection,
    flow_id: str,
    source_key: str,
    *,
    notes: Mapping[str, Any] | None = None,
    **values: Any,
) -> None:
    """Note what is given (`other_key`, `base`, `gone`, `held_by`; `notes` by name), keep the rest.

    The caller is the only one at this pair.
    """
    if "base" in values:
        base = values.pop("base")
        values["base_text"] = None if base is None else encode_exact(base).decode()
    if notes is not None:
        known = load_agreements(connection, flow_id, [source_key]).get(source_key, NONE)
        merged = {name: getattr(known, name) for name in ("disputed", "stopped", "turns", "sent")}
        values["notes_text"] = encode_exact({**merged, **notes}).decode()
    this = sa.and_(agreement.c.flow_id == flow_id, agreement.c.source_key == source_key)
    if connection.execute(agreement.update().where(this).values(**values)).rowcount:
        return
    new = {"flow_id": flow_id, "source_key": source_key, "gone": 0, **values}
    try:
        with connection.begin_nested():
            connection.execute(agreement.insert().values(**new))
    except sa.exc.IntegrityError:
        connection.execute(agreement.update().where(this).values(**values))


def take_pair(
    connection: Connection, lock_ref: str, me: Holder, partner_id: str, other_key: str | None
) -> bool:
    """Have the pair for one write; False while a write of the other direction is at it.

    That one has it as long as its intent is open, also over a crash. `lock_ref` is the sink whose
    lock both directions take for this.
    """
    lock_sink(connection, lock_ref)
    if other_key is not None and _is_held(connection, partner_id, other_key):
        return False
    put_agreement(connection, me.flow_id, me.source_key, held_by=me.mark)
    return True


def leave_pair(connection: Connection, me: Holder) -> None:
    """Nothing was written: let the other direction have the pair."""
    put_agreement(connection, me.flow_id, me.source_key, held_by=None)


def _is_held(connection: Connection, flow_id: str, source_key: str) -> bool:
    statement = sa.select(agreement.c.held_by).where(
        agreement.c.flow_id == flow_id, agreement.c.source_key == source_key
    )
    held_by = connection.execute(statement).scalar_one_or_none()
    if held_by is None:
        return False
    writing = sa.select(intent.c.revision, intent.c.run_id).where(
        intent.c.flow_id == flow_id, intent.c.source_key == source_key
    )
    return any(
        Holder(flow_id, source_key, *one).mark == held_by for one in connection.execute(writing)
    )


def _read(row: Any) -> Agreement:
    notes = decode_exact(row.notes_text or "{}")
    return Agreement(
        other_key=row.other_key,
        base=None if row.base_text is None else decode_exact(row.base_text),
        gone=bool(row.gone),
        disputed=tuple(notes.get("disputed", ())),
        stopped=tuple(notes.get("stopped", ())),
        turns=notes.get("turns", {}),
        sent=notes.get("sent", {}),
    )
