"""The link ledger: which source key became which target, and what it last said."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import bulk_insert, key_filters, pg_arrays
from hub.store.tables import delivery, intent, link


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

    @property
    def is_live(self) -> bool:
        """Whether a target was told of the record and not of its end."""
        return self.revision > 0 and self.state != LinkState.TOMBSTONED


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
    """Replace what a link says. A `target_id` of None leaves the one it has."""
    if rows:
        connection.execute(_UPDATE, [{f"b_{name}": row[name] for name in _BOUND} for row in rows])


def forget_targets(connection: Connection, flow_id: str) -> None:
    """The flow writes elsewhere from now on: the ids its old target gave mean nothing there."""
    this = link.c.flow_id == flow_id
    connection.execute(link.update().where(this).values(target_id=None, pushed_revision=0))


def forget_undelivered(connection: Connection, flow_id: str) -> None:
    """Let the next read write again what the ledger takes for sent although nothing is under way.

    A removal that was not sent is undone: full reads will miss the record again.
    """
    under_way = sa.union_all(
        sa.select(delivery.c.target_key).where(delivery.c.flow_id == flow_id),
        sa.select(intent.c.target_key).where(intent.c.flow_id == flow_id),
    )
    lost = sa.and_(link.c.flow_id == flow_id, link.c.target_key.not_in(under_way))
    forgotten: dict[str, Any] = {"source_hash": None, "content_hash": None}
    pending = link.c.state == LinkState.PENDING.value
    connection.execute(link.update().where(lost, pending).values(forgotten))
    removal = sa.and_(
        link.c.state == LinkState.TOMBSTONED.value, link.c.pushed_revision < link.c.revision
    )
    forgotten["state"] = LinkState.SYNCED.value
    connection.execute(link.update().where(lost, removal).values(forgotten))


def forget_content(connection: Connection, flow_id: str, source_keys: Sequence[str]) -> None:
    """Let the next read of these records write them again, whatever they say."""
    _set_links(connection, flow_id, source_keys, source_hash=None, content_hash=None)


def set_state(connection: Connection, flow_id: str, source_key: str, state: LinkState) -> None:
    """Say where a record stands; whatever it says next is compared anew."""
    forgotten = {"source_hash": None, "content_hash": None}
    _set_links(connection, flow_id, [source_key], state=state.value, **forgotten)


def forget_target_ids(connection: Connection, flow_id: str, source_keys: Sequence[str]) -> None:
    """The target lost these: they are to be created anew."""
    _set_links(connection, flow_id, source_keys, target_id=None, pushed_revision=0)


def _set_links(
    connection: Connection, flow_id: str, source_keys: Sequence[str], **values: object
) -> None:
    for condition, params in key_filters(connection, link.c.source_key, source_keys):
        statement = link.update().where(link.c.flow_id == sa.bindparam("flow"), condition)
        connection.execute(statement.values(**values), {"flow": flow_id, **params})


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


def drop_missing_stopped(
    connection: Connection, flow_id: str, before_mark: int, limit: int, *, sent: bool
) -> list[str]:
    """Give up waiting for records that are held or rejected and were not met since `before_mark`.

    With `sent` also for those whose target has an older version. Returns their source keys.
    """
    condition = sa.and_(
        link.c.flow_id == flow_id,
        link.c.state.in_([LinkState.HELD.value, LinkState.REJECTED.value]),
        link.c.seen_run < before_mark,
    )
    if not sent:
        condition = sa.and_(condition, link.c.revision == 0)
    keys = list(
        connection.execute(sa.select(link.c.source_key).where(condition).limit(limit)).scalars()
    )
    for chosen, params in key_filters(connection, link.c.source_key, keys):
        dropped = link.update().where(link.c.flow_id == sa.bindparam("flow"), chosen)
        state = {"state": LinkState.SKIPPED.value, "source_hash": None, "content_hash": None}
        connection.execute(dropped.values(state), {"flow": flow_id, **params})
    return keys


def claimed_targets(
    connection: Connection, flow_ids: Sequence[str], target_keys: Sequence[str]
) -> list[tuple[str, str, str]]:
    """(flow, source key, target key) of every live record that became one of these targets."""
    found: list[tuple[str, str, str]] = []
    for condition, params in key_filters(connection, link.c.target_key, target_keys):
        statement = sa.select(link.c.flow_id, link.c.source_key, link.c.target_key).where(
            link.c.flow_id.in_(flow_ids), condition, _LIVE
        )
        found += connection.execute(statement, params).tuples().all()
    return found


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
        # Which of them have one is asked here: the index over the ids would be walked for it.
        statement = sa.select(link.c.source_key, link.c.target_id).where(
            link.c.flow_id.in_(flow_ids), condition
        )
        rows = connection.execute(statement, params)
        found.update((key, target) for key, target in rows if target is not None)
    return found


def confirm_links(connection: Connection, confirmed: Sequence[dict[str, Any]]) -> None:
    """A target accepted a revision: `flow_id`, `source_key`, `revision`, `target_id` per row.

    A link that has moved on to a newer revision, or whose record was stopped meanwhile, keeps its
    state and only learns the target id.
    """
    if not confirmed:
        return
    if connection.dialect.name == "postgresql":
        rows = [tuple(row[name] for name in _CONFIRMED) for row in confirmed]
        arrays, bound = pg_arrays([link.c[name] for name in _CONFIRMED], rows)
        connection.exec_driver_sql(_PG_CONFIRM.format(arrays=arrays), bound)
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(
            _SQLITE_CONFIRM,
            [
                (row["target_id"], revision, revision, row["flow_id"], row["source_key"])
                for row in confirmed
                for revision in (row["revision"],)
            ],
        )
        return
    connection.execute(_CONFIRM, [{f"b_{name}": row[name] for name in row} for row in confirmed])


def forget_deleted(connection: Connection, deleted: Sequence[dict[str, Any]]) -> None:
    """A target deleted its object: `flow_id`, `source_key` per row. Its id means nothing now."""
    if deleted:
        statement = link.update().where(_THIS).values(target_id=None)
        connection.execute(statement, [{f"b_{name}": row[name] for name in row} for row in deleted])


def refuse_links(connection: Connection, refused: Sequence[dict[str, Any]]) -> None:
    """A target refused a revision: `flow_id`, `source_key`, `revision` per row."""
    if refused:
        connection.execute(_REFUSE, [{f"b_{name}": row[name] for name in row} for row in refused])


def wish_again(connection: Connection, flow_id: str, wished: Sequence[tuple[str, int]]) -> None:
    """These (source key, revision) are on their way once more; removals stay removals."""
    if wished:
        rows = [
            {"b_flow_id": flow_id, "b_source_key": key, "b_revision": revision}
            for key, revision in wished
        ]
        connection.execute(_WISH_AGAIN, rows)


def overtaken(
    connection: Connection, tried: Sequence[tuple[str, str, int]]
) -> set[tuple[str, str]]:
    """Which of these (flow, source key, revision) have a newer version or row by now.

    Asked before the refusal itself is noted. A link that is gone has not been overtaken.
    """
    by_flow: dict[str, dict[str, int]] = {}
    for flow_id, source_key, revision in tried:
        by_flow.setdefault(flow_id, {})[source_key] = revision
    newer: set[tuple[str, str]] = set()
    for flow_id, revisions in by_flow.items():
        for one in links_of(connection, flow_id, list(revisions)).values():
            revision = revisions[one.source_key]
            if one.revision > revision or (one.revision == revision and one.state in _MOVED_ON):
                newer.add((flow_id, one.source_key))
    return newer


def _with_target(flow_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(link.c.flow_id == flow_id, _LIVE)


def _missing(flow_id: str, before_mark: int) -> sa.ColumnElement[bool]:
    return sa.and_(_with_target(flow_id), link.c.seen_run < before_mark)


_MOVED_ON = {LinkState.HELD, LinkState.REJECTED, LinkState.SKIPPED}
_LIVE = sa.and_(
    link.c.target_key.is_not(None),
    link.c.revision > 0,
    link.c.state != LinkState.TOMBSTONED.value,
)
_CHANGED = ("source_hash", "content_hash", "target_key", "revision", "state", "seen_run")
_BOUND = ("flow_id", "source_key", "target_id", *_CHANGED)
_THIS = sa.and_(
    link.c.flow_id == sa.bindparam("b_flow_id"), link.c.source_key == sa.bindparam("b_source_key")
)
_TARGET_ID: sa.ColumnElement[str | None] = sa.func.coalesce(
    sa.bindparam("b_target_id"), link.c.target_id
)
_UPDATE = (
    link.update()
    .where(_THIS)
    .values({name: sa.bindparam(f"b_{name}") for name in _CHANGED} | {"target_id": _TARGET_ID})
)
_CURRENT = link.c.revision == sa.bindparam("b_revision")
_PENDING = link.c.state == LinkState.PENDING.value
_CONFIRM = (
    link.update()
    .where(_THIS)
    .values(
        target_id=_TARGET_ID,
        pushed_revision=sa.bindparam("b_revision"),
        state=sa.case((sa.and_(_CURRENT, _PENDING), LinkState.SYNCED.value), else_=link.c.state),
    )
)
_CONFIRMED = ("flow_id", "source_key", "revision", "target_id")
_PG_CONFIRM = """
    UPDATE hub_link AS known
    SET target_id = coalesce(told.target_id, known.target_id),
        pushed_revision = told.revision,
        state = CASE WHEN known.revision = told.revision AND known.state = 'pending'
                     THEN 'synced' ELSE known.state END
    FROM unnest({arrays}) AS told (flow_id, source_key, revision, target_id)
    WHERE known.flow_id = told.flow_id AND known.source_key = told.source_key
"""
_SQLITE_CONFIRM = """
    UPDATE hub_link
    SET target_id = coalesce(?, target_id),
        pushed_revision = ?,
        state = CASE WHEN revision = ? AND state = 'pending' THEN 'synced' ELSE state END
    WHERE flow_id = ? AND source_key = ?
"""
"""`_CONFIRM` again, without SQLAlchemy's work on each row; PostgreSQL takes all rows at once."""
_REFUSE = link.update().where(_THIS, _CURRENT, _PENDING).values(state=LinkState.REJECTED.value)
_REMOVED = link.c.state == LinkState.TOMBSTONED.value
_WISH_AGAIN = (
    link.update()
    .where(_THIS)
    .values(
        revision=sa.bindparam("b_revision"),
        state=sa.case((_REMOVED, link.c.state), else_=LinkState.PENDING.value),
    )
)
