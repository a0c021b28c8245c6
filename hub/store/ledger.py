"""The link ledger: which source key became which target, and what it last said."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import bulk_insert, key_filters
from hub.store.tables import link


class LinkState(StrEnum):
    """What is known of the record behind a link."""

    SYNCED = "synced"
    PENDING = "pending"
    SKIPPED = "skipped"
    HELD = "held"
    REJECTED = "rejected"
    TOMBSTONED = "tombstoned"


class Link(NamedTuple):
    """One ledger row, as a page needs it."""

    source_key: str
    source_hash: bytes | None
    content_hash: bytes | None
    revision: int
    state: str
    seen_run: int
    target_key: str | None


def links_of(connection: Connection, flow_id: str, keys: Sequence[str]) -> dict[str, Link]:
    """The links of `keys` that exist, by source key."""
    found: dict[str, Link] = {}
    columns = [getattr(link.c, name) for name in Link._fields]
    for condition, params in key_filters(connection, link.c.source_key, keys):
        statement = sa.select(*columns).where(link.c.flow_id == sa.bindparam("flow"), condition)
        for row in connection.execute(statement, {"flow": flow_id, **params}):
            found[row[0]] = Link._make(row)
    return found


class NewLink(NamedTuple):
    """A link to add; the fields are the table's columns in their order."""

    flow_id: str
    source_key: str
    target_key: str | None
    target_id: str | None
    source_hash: bytes | None
    content_hash: bytes | None
    revision: int
    pushed_revision: int
    state: str
    seen_run: int


def insert_links(connection: Connection, rows: Sequence[NewLink]) -> None:
    """Add links that did not exist."""
    bulk_insert(connection, link, rows)


def update_links(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Replace what a link says: every column of a new link except the target's id and state."""
    if rows:
        connection.execute(_UPDATE, [{f"b_{name}": row[name] for name in _BOUND} for row in rows])


def forget_targets(connection: Connection, flow_id: str) -> None:
    """The flow writes elsewhere from now on: the ids its old target gave mean nothing there."""
    this = link.c.flow_id == flow_id
    connection.execute(link.update().where(this).values(target_id=None, pushed_revision=0))


def mark_seen(connection: Connection, flow_id: str, keys: Sequence[str], mark: int) -> None:
    """Note that a pass of a run met these unchanged records."""
    for condition, params in key_filters(connection, link.c.source_key, keys):
        statement = (
            link.update()
            .where(link.c.flow_id == sa.bindparam("flow"), condition)
            .values(seen_run=sa.bindparam("run"))
        )
        connection.execute(statement, {"flow": flow_id, "run": mark, **params})


def missing_links(connection: Connection, flow_id: str, before_mark: int, limit: int) -> list[Link]:
    """Links with a target that no pass since `before_mark` has met, at most `limit`."""
    columns = [getattr(link.c, name) for name in Link._fields]
    statement = sa.select(*columns).where(_missing(flow_id, before_mark)).limit(limit)
    return [Link._make(row) for row in connection.execute(statement)]


def count_missing(connection: Connection, flow_id: str, before_mark: int) -> tuple[int, int]:
    """How many links with a target were not met since `before_mark`, and how many there are."""
    counts = [
        connection.execute(sa.select(sa.func.count()).select_from(link).where(condition))
        for condition in (_missing(flow_id, before_mark), _with_target(flow_id))
    ]
    return int(counts[0].scalar_one()), int(counts[1].scalar_one())


def target_ids(
    connection: Connection, flow_ids: Sequence[str], keys: Sequence[str]
) -> dict[str, str]:
    """Target ids of source keys, over all flows that feed one target; unknown keys are absent."""
    found: dict[str, str] = {}
    for condition, params in key_filters(connection, link.c.source_key, keys):
        statement = sa.select(link.c.source_key, link.c.target_id).where(
            link.c.flow_id.in_(flow_ids), condition, link.c.target_id.is_not(None)
        )
        found.update((key, target) for key, target in connection.execute(statement, params))
    return found


def confirm_links(connection: Connection, confirmed: Sequence[dict[str, Any]]) -> None:
    """A target accepted a revision: `flow_id`, `source_key`, `revision`, `target_id` per row.

    A link that has moved on to a newer revision, or whose record was stopped meanwhile, keeps its
    state and only learns the target id.
    """
    if not confirmed:
        return
    connection.execute(_CONFIRM, [{f"b_{name}": row[name] for name in row} for row in confirmed])


def refuse_links(connection: Connection, refused: Sequence[dict[str, Any]]) -> None:
    """A target refused a revision: `flow_id`, `source_key`, `revision` per row."""
    if refused:
        connection.execute(_REFUSE, [{f"b_{name}": row[name] for name in row} for row in refused])


def _with_target(flow_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        link.c.flow_id == flow_id,
        link.c.target_key.is_not(None),
        link.c.revision > 0,
        link.c.state != LinkState.TOMBSTONED.value,
    )


def _missing(flow_id: str, before_mark: int) -> sa.ColumnElement[bool]:
    return sa.and_(_with_target(flow_id), link.c.seen_run < before_mark)


_CHANGED = ("source_hash", "content_hash", "target_key", "revision", "state", "seen_run")
_BOUND = ("flow_id", "source_key", *_CHANGED)
_THIS = sa.and_(
    link.c.flow_id == sa.bindparam("b_flow_id"), link.c.source_key == sa.bindparam("b_source_key")
)
_UPDATE = link.update().where(_THIS).values({name: sa.bindparam(f"b_{name}") for name in _CHANGED})
_CURRENT = link.c.revision == sa.bindparam("b_revision")
_PENDING = link.c.state == LinkState.PENDING.value
_CONFIRM = (
    link.update()
    .where(_THIS)
    .values(
        target_id=sa.func.coalesce(sa.bindparam("b_target_id"), link.c.target_id),
        pushed_revision=sa.bindparam("b_revision"),
        state=sa.case((sa.and_(_CURRENT, _PENDING), LinkState.SYNCED.value), else_=link.c.state),
    )
)
_REFUSE = link.update().where(_THIS, _CURRENT, _PENDING).values(state=LinkState.REJECTED.value)
