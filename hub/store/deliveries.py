"""Deliveries (what a sink should be told) and intents (what may already be on the wire).

A delivery is the newest wanted version of one target. To send it, it becomes an intent in a
transaction of its own; only then the network is touched. One open intent per target keeps the
order: a newer version waits as a delivery until the intent is settled.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import key_filters, plain_text
from hub.store.tables import delivery, drain, intent, link

NO_RUN = 0
"""The run of a delivery that no run waits for."""

_IDENTITY = ("target_key", "run_id", "revision", "state", "executor_id", "attempts", "lookups")


class IntentState(StrEnum):
    """`sent`: a worker is at it or died at it; `unknown`: the answer did not come."""

    SENT = "sent"
    UNKNOWN = "unknown"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class Intent:
    """One write that may have reached the target; `payload` is the exact JSON text sent."""

    sink_ref: str
    target_key: str
    flow_id: str
    source_key: str
    run_id: int
    op: str
    revision: int
    payload_text: str
    attempts: int
    idempotency_key: str
    target_id: str | None
    state: str
    executor_id: str
    sent_at: int
    due_at: int
    lookups: int
    error_text: str | None


def lock_sink(connection: Connection, sink_ref: str) -> None:
    """Make everybody else who changes deliveries or intents of the sink wait for our commit.

    Taken before the first write: a page that replaces a wish while a job claims it would leave the
    counts of the run wrong for ever. SQLite has one writer anyway.
    """
    row = sa.select(drain.c.wanted).where(drain.c.sink_ref == sink_ref).with_for_update()
    if connection.execute(row).first() is None:
        try:
            with connection.begin_nested():
                connection.execute(drain.insert().values(sink_ref=sink_ref, wanted=0, wakes=0))
        except sa.exc.IntegrityError:
            connection.execute(row)


def still_open(connection: Connection, intents: Sequence[Intent]) -> list[Intent]:
    """Those of `intents` that nobody settled or took over since they were loaded."""
    if not intents:
        return []
    found: set[tuple[object, ...]] = set()
    columns = [getattr(intent.c, name) for name in _IDENTITY]
    for condition, params in key_filters(
        connection, intent.c.target_key, [one.target_key for one in intents]
    ):
        statement = sa.select(*columns).where(intent.c.sink_ref == sa.bindparam("sink"), condition)
        bound = {"sink": intents[0].sink_ref, **params}
        found.update(tuple(row) for row in connection.execute(statement, bound))
    return [one for one in intents if tuple(getattr(one, name) for name in _IDENTITY) in found]


def release_blocked(connection: Connection, sink_ref: str) -> Counter[int]:
    """Let runs no longer wait for wishes behind a write that a person must decide on.

    Returns how many of which run. The wishes stay and are sent once the case is closed.
    """
    behind = sa.and_(
        delivery.c.sink_ref == sink_ref,
        delivery.c.run_id != NO_RUN,
        sa.exists().where(
            intent.c.sink_ref == delivery.c.sink_ref,
            intent.c.target_key == delivery.c.target_key,
            intent.c.state == IntentState.REVIEW.value,
        ),
    )
    released = Counter(connection.execute(sa.select(delivery.c.run_id).where(behind)).scalars())
    if released:
        connection.execute(delivery.update().where(behind).values(run_id=NO_RUN))
    return released


def put_deliveries(
    connection: Connection, sink_ref: str, rows: Sequence[dict[str, Any]], now_ms: int
) -> Counter[int]:
    """Ask for writes; an older wish for the same target gives way.

    Returns how many unsent wishes of which run were replaced.
    """
    keys = [row["target_key"] for row in rows]
    replaced: Counter[int] = Counter()
    for condition, params in key_filters(connection, delivery.c.target_key, keys):
        here = sa.and_(delivery.c.sink_ref == sa.bindparam("sink"), condition)
        bound = {"sink": sink_ref, **params}
        older = connection.execute(sa.select(delivery.c.run_id).where(here), bound).scalars().all()
        if older:
            replaced.update(older)
            connection.execute(delivery.delete().where(here), bound)
    newest = {row["target_key"]: row for row in rows}
    values = [
        {"sink_ref": sink_ref, "attempts": 0, "due_at": now_ms, "error_text": None, **row}
        for row in newest.values()
    ]
    if values:
        connection.execute(delivery.insert(), values)
    for row in rows[:]:
        if newest[row["target_key"]] is not row:
            replaced[row["run_id"]] += 1
    return replaced


def want_drain(connection: Connection, sink_ref: str) -> int | None:
    """Ask for a delivery job; the number of the wake-up when one must be queued, else None."""
    this = drain.c.sink_ref == sink_ref
    raised = connection.execute(
        drain.update().where(this, drain.c.wanted == 0).values(wanted=1, wakes=drain.c.wakes + 1)
    )
    if raised.rowcount == 0:
        known = connection.execute(sa.select(drain.c.wanted).where(this)).first()
        if known is not None:
            return None
        try:
            with connection.begin_nested():
                connection.execute(drain.insert().values(sink_ref=sink_ref, wanted=1, wakes=1))
        except sa.exc.IntegrityError:
            return None
    return int(connection.execute(sa.select(drain.c.wakes).where(this)).scalar_one())


def take_drain(connection: Connection, sink_ref: str) -> None:
    """A delivery job starts: whoever adds work from now on must queue another one."""
    connection.execute(drain.update().where(drain.c.sink_ref == sink_ref).values(wanted=0))


def claim(
    connection: Connection, sink_ref: str, limit: int, executor_id: str, now_ms: int
) -> list[Intent]:
    """Turn up to `limit` due deliveries into intents, oldest due first.

    Targets with an open intent wait. The caller commits before it sends.
    """
    due = (
        sa.select(delivery, link.c.target_id)
        .outerjoin(
            link,
            sa.and_(
                link.c.flow_id == delivery.c.flow_id, link.c.source_key == delivery.c.source_key
            ),
        )
        .where(delivery.c.sink_ref == sink_ref, delivery.c.due_at <= now_ms, ~_BLOCKED)
        .order_by(delivery.c.due_at)
        .limit(limit)
    )
    claimed = [_claimed(row, executor_id, now_ms) for row in connection.execute(due).mappings()]
    if claimed:
        connection.execute(intent.insert(), [_as_row(one) for one in claimed])
        _delete_deliveries(connection, sink_ref, [one.target_key for one in claimed])
    return claimed


def open_intents(
    connection: Connection, sink_ref: str, executor_id: str, now_ms: int, limit: int
) -> list[Intent]:
    """Intents to settle first: unknown ones that are due, and those another job left behind."""
    statement = (
        sa.select(intent)
        .where(
            intent.c.sink_ref == sink_ref,
            sa.or_(
                sa.and_(intent.c.state == IntentState.UNKNOWN.value, intent.c.due_at <= now_ms),
                sa.and_(
                    intent.c.state == IntentState.SENT.value, intent.c.executor_id != executor_id
                ),
            ),
        )
        .order_by(intent.c.sent_at)
        .limit(limit)
    )
    return [Intent(**row) for row in connection.execute(statement).mappings()]


def take_over(
    connection: Connection, intents: Sequence[Intent], executor_id: str, now_ms: int
) -> list[Intent]:
    """This job is about to send the same bytes again; the intents as they stand from now on."""
    taken = [
        replace(
            one,
            state=IntentState.SENT.value,
            executor_id=executor_id,
            sent_at=now_ms,
            attempts=one.attempts + 1,
        )
        for one in intents
    ]
    for one in taken:
        connection.execute(
            intent.update()
            .where(_this(intent, one))
            .values(
                state=one.state,
                executor_id=one.executor_id,
                sent_at=one.sent_at,
                attempts=one.attempts,
            )
        )
    return taken


def doubt(connection: Connection, one: Intent, due_ms: int, reason: str, *, looked: bool) -> None:
    """The outcome is unknown: look again at `due_ms`."""
    connection.execute(
        intent.update()
        .where(_this(intent, one))
        .values(
            state=IntentState.UNKNOWN.value,
            due_at=due_ms,
            lookups=one.lookups + (1 if looked else 0),
            error_text=plain_text(reason),
        )
    )


def put_aside(connection: Connection, one: Intent, reason: str) -> None:
    """Nobody can tell whether the write landed: a person decides, nothing is sent again."""
    connection.execute(
        intent.update()
        .where(_this(intent, one))
        .values(state=IntentState.REVIEW.value, error_text=plain_text(reason))
    )


def close_intents(connection: Connection, sink_ref: str, target_keys: Sequence[str]) -> None:
    """Forget settled intents."""
    for condition, params in key_filters(connection, intent.c.target_key, target_keys):
        statement = intent.delete().where(intent.c.sink_ref == sa.bindparam("sink"), condition)
        connection.execute(statement, {"sink": sink_ref, **params})


def give_back(connection: Connection, intents: Sequence[Intent], due_ms: int, reason: str) -> int:
    """Nothing was written: wish again at `due_ms`. Returns how many a newer wish had replaced."""
    if not intents:
        return 0
    sink_ref, text = intents[0].sink_ref, plain_text(reason)
    keys = [one.target_key for one in intents]
    close_intents(connection, sink_ref, keys)
    newer: set[str] = set()
    for condition, params in key_filters(connection, delivery.c.target_key, keys):
        found = sa.select(delivery.c.target_key).where(
            delivery.c.sink_ref == sa.bindparam("sink"), condition
        )
        newer.update(connection.execute(found, {"sink": sink_ref, **params}).scalars())
    names = [column.name for column in delivery.columns]
    back = [
        {**_as_row(one), "due_at": due_ms, "attempts": one.attempts + 1, "error_text": text}
        for one in intents
        if one.target_key not in newer
    ]
    if back:
        rows = [{name: row[name] for name in names} for row in back]
        connection.execute(delivery.insert(), rows)
    return len(newer)


def next_due(connection: Connection, sink_ref: str) -> int | None:
    """When the sink should be visited next; None when nothing waits.

    A delivery behind an open intent waits for that, not for its own time.
    """
    waiting = sa.select(sa.func.min(delivery.c.due_at)).where(
        delivery.c.sink_ref == sink_ref, ~_BLOCKED
    )
    doubtful = sa.select(sa.func.min(intent.c.due_at)).where(
        intent.c.sink_ref == sink_ref, intent.c.state == IntentState.UNKNOWN.value
    )
    found = [connection.execute(query).scalar_one() for query in (waiting, doubtful)]
    times = [time for time in found if time is not None]
    return min(times) if times else None


def sinks_with_work(connection: Connection) -> list[str]:
    """Every sink that has a delivery or an open intent."""
    names: set[str] = set()
    for table in (delivery, intent):
        names.update(connection.execute(sa.select(table.c.sink_ref).distinct()).scalars())
    return sorted(names)


def sinks_to_visit(connection: Connection) -> list[str]:
    """Every sink that has something to do now or later without a person."""
    waiting = sa.select(delivery.c.sink_ref).where(~_BLOCKED)
    unsettled = sa.select(intent.c.sink_ref).where(intent.c.state != IntentState.REVIEW.value)
    return sorted(connection.execute(sa.union(waiting, unsettled)).scalars())


def next_wake(connection: Connection, sink_ref: str) -> int:
    """The number of a later wake-up; unlike `want_drain` it does not hold back an earlier one."""
    want_drain(connection, sink_ref)
    this = drain.c.sink_ref == sink_ref
    connection.execute(drain.update().where(this).values(wanted=0, wakes=drain.c.wakes + 1))
    return int(connection.execute(sa.select(drain.c.wakes).where(this)).scalar_one())


def idempotency_key(sink_ref: str, flow_id: str, source_key: str, revision: int) -> str:
    """The same for every try of one version of one link (design §4: link id + version)."""
    text = "\x1f".join((sink_ref, flow_id, source_key, str(revision)))
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _claimed(row: Mapping[Any, Any], executor_id: str, now_ms: int) -> Intent:
    key = idempotency_key(row["sink_ref"], row["flow_id"], row["source_key"], row["revision"])
    return Intent(
        sink_ref=row["sink_ref"],
        target_key=row["target_key"],
        flow_id=row["flow_id"],
        source_key=row["source_key"],
        run_id=row["run_id"],
        op=row["op"],
        revision=row["revision"],
        payload_text=row["payload_text"],
        attempts=row["attempts"],
        idempotency_key=key,
        target_id=row["target_id"],
        state=IntentState.SENT.value,
        executor_id=executor_id,
        sent_at=now_ms,
        due_at=now_ms,
        lookups=0,
        error_text=None,
    )


def _as_row(one: Intent) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Intent.__slots__}


def _this(table: sa.Table, one: Intent) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.sink_ref == one.sink_ref, table.c.target_key == one.target_key)


def _delete_deliveries(connection: Connection, sink_ref: str, keys: Sequence[str]) -> None:
    for condition, params in key_filters(connection, delivery.c.target_key, keys):
        statement = delivery.delete().where(delivery.c.sink_ref == sa.bindparam("sink"), condition)
        connection.execute(statement, {"sink": sink_ref, **params})


_BLOCKED = (
    sa.exists()
    .where(intent.c.sink_ref == delivery.c.sink_ref, intent.c.target_key == delivery.c.target_key)
    .correlate(delivery)
)
