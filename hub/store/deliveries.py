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
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import bulk_insert, key_filters, plain_text
from hub.store.tables import delivery, drain, intent, link

NO_RUN = 0
"""The run of a delivery that no run waits for."""

_IDENTITY = (
    "target_key",
    "run_id",
    "revision",
    "state",
    "executor_id",
    "sent_at",
    "attempts",
    "lookups",
)


class IntentState(StrEnum):
    """`sent`: a worker is at it or died at it; `again`: the same, and an earlier try may have
    landed; `unknown`: the answer did not come; `review`: a person decides."""

    SENT = "sent"
    AGAIN = "again"
    UNKNOWN = "unknown"
    REVIEW = "review"


_AT_WORK = (IntentState.SENT.value, IntentState.AGAIN.value)


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
    return [one for one in intents if _identity(one) in found]


def release_blocked(connection: Connection, sink_ref: str) -> Counter[int]:
    """Let runs no longer wait for wishes behind a write that a person must decide on.

    Returns how many of which run. The wishes stay and are sent once the case is closed.
    """
    cases = sa.select(intent.c.target_key).where(
        intent.c.sink_ref == sink_ref, intent.c.state == IntentState.REVIEW.value
    )
    keys = list(connection.execute(cases).scalars())
    released: Counter[int] = Counter()
    for condition, params in key_filters(connection, delivery.c.target_key, keys) if keys else ():
        behind = sa.and_(
            delivery.c.sink_ref == sa.bindparam("sink"), delivery.c.run_id != NO_RUN, condition
        )
        bound = {"sink": sink_ref, **params}
        found = connection.execute(sa.select(delivery.c.run_id).where(behind), bound)
        if runs := found.scalars().all():
            released.update(runs)
            connection.execute(delivery.update().where(behind).values(run_id=NO_RUN), bound)
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


def claim(
    connection: Connection,
    sink_ref: str,
    limit: int,
    executor_id: str,
    now_ms: int,
    from_ms: int | None = None,
) -> list[Intent]:
    """Turn up to `limit` due deliveries into intents, oldest due first.

    Targets with an open intent wait. Deliveries due before `from_ms` are left out: who claims
    again and again need not walk over what it has claimed before. The caller commits before it
    sends.
    """
    due = (
        sa.select(delivery)
        .where(delivery.c.sink_ref == sink_ref, delivery.c.due_at <= now_ms, _free(sink_ref))
        .order_by(delivery.c.due_at)
        .limit(limit)
    )
    if from_ms is not None:
        due = due.where(delivery.c.due_at >= from_ms)
    rows = connection.execute(due).all()
    if not rows:
        return []
    targets = _target_ids(connection, rows)
    claimed = [_claimed(row, targets, executor_id, now_ms) for row in rows]
    bulk_insert(connection, intent, list(map(_as_tuple, claimed)))
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
                sa.and_(intent.c.state.in_(_AT_WORK), intent.c.executor_id != executor_id),
            ),
        )
        .order_by(intent.c.sent_at)
        .limit(limit)
    )
    return [Intent(**row) for row in connection.execute(statement).mappings()]


def take_over(
    connection: Connection, intents: Sequence[Intent], executor_id: str, now_ms: int
) -> list[Intent]:
    """This job is about to send the same bytes again; the intents as they stand from now on.

    A try that somebody died at counts here: nobody else will count it.
    """
    died = intent.c.state.in_(_AT_WORK)
    _change_intents(
        connection,
        intents,
        state=IntentState.AGAIN.value,
        executor_id=executor_id,
        sent_at=now_ms,
        attempts=intent.c.attempts + sa.case((died, 1), else_=0),
    )
    return [
        replace(
            one,
            state=IntentState.AGAIN.value,
            executor_id=executor_id,
            sent_at=now_ms,
            attempts=one.attempts + (1 if one.state in _AT_WORK else 0),
        )
        for one in intents
    ]


def still_mine(connection: Connection, intents: Sequence[Intent], now_ms: int) -> list[Intent]:
    """Those nobody settled or took over, as sent now: who looks them up waits from now on."""
    mine = still_open(connection, intents)
    _change_intents(connection, mine, sent_at=now_ms)
    return [replace(one, sent_at=now_ms) for one in mine]


def doubt(
    connection: Connection,
    intents: Sequence[Intent],
    due_ms: int,
    reason: str,
    *,
    attempts: int = 0,
    lookups: int = 0,
) -> None:
    """The outcome is unknown: look again at `due_ms`. Adds to the counts of tries and look-ups."""
    _change_intents(
        connection,
        intents,
        state=IntentState.UNKNOWN.value,
        due_at=due_ms,
        attempts=intent.c.attempts + attempts,
        lookups=intent.c.lookups + lookups,
        error_text=plain_text(reason),
    )


def put_aside(connection: Connection, one: Intent, reason: str) -> None:
    """Nobody can tell whether the write landed: a person decides, nothing is sent again."""
    _change_intents(
        connection, [one], state=IntentState.REVIEW.value, error_text=plain_text(reason)
    )


def close_intents(connection: Connection, sink_ref: str, target_keys: Sequence[str]) -> None:
    """Forget settled intents."""
    for condition, params in key_filters(connection, intent.c.target_key, target_keys):
        statement = intent.delete().where(intent.c.sink_ref == sa.bindparam("sink"), condition)
        connection.execute(statement, {"sink": sink_ref, **params})


def give_back(
    connection: Connection,
    intents: Sequence[Intent],
    due_ms: int,
    reason: str,
    *,
    attempts: int = 0,
) -> list[Intent]:
    """Nothing was written: wish again at `due_ms`, `attempts` tries more than before.

    Returns those that a newer wish had replaced.
    """
    if not intents:
        return []
    sink_ref, text = intents[0].sink_ref, plain_text(reason)
    keys = [one.target_key for one in intents]
    close_intents(connection, sink_ref, keys)
    newer: set[str] = set()
    for condition, params in key_filters(connection, delivery.c.target_key, keys):
        found = sa.select(delivery.c.target_key).where(
            delivery.c.sink_ref == sa.bindparam("sink"), condition
        )
        newer.update(connection.execute(found, {"sink": sink_ref, **params}).scalars())
    changed = {"due_at": due_ms, "error_text": text}
    names = [column.name for column in delivery.columns]
    back = []
    for one in intents:
        if one.target_key not in newer:
            row = {**_as_row(one), **changed, "attempts": one.attempts + attempts}
            back.append(tuple(row[name] for name in names))
    bulk_insert(connection, delivery, back)
    return [one for one in intents if one.target_key in newer]


def intent_in_review(connection: Connection, sink_ref: str, target_key: str) -> Intent | None:
    """The write to this target that a person must decide on."""
    statement = sa.select(intent).where(
        intent.c.sink_ref == sink_ref,
        intent.c.target_key == target_key,
        intent.c.state == IntentState.REVIEW.value,
    )
    row = connection.execute(statement).mappings().first()
    return None if row is None else Intent(**row)


def wish_anew(connection: Connection, one: Intent, now_ms: int) -> bool:
    """Wish a write again as if it had never been tried; whether a newer wish takes its place."""
    fresh = replace(one, attempts=0, run_id=NO_RUN)
    return bool(give_back(connection, [fresh], now_ms, ""))


def next_due(connection: Connection, sink_ref: str) -> int | None:
    """When the sink should be visited next; None when nothing waits.

    A delivery behind an open intent waits for that, not for its own time.
    """
    waiting = (
        sa.select(delivery.c.due_at)
        .where(delivery.c.sink_ref == sink_ref, _free(sink_ref))
        .order_by(delivery.c.due_at)
        .limit(1)
    )
    doubtful = sa.select(sa.func.min(intent.c.due_at)).where(
        intent.c.sink_ref == sink_ref, intent.c.state == IntentState.UNKNOWN.value
    )
    found = [connection.execute(query).scalar_one_or_none() for query in (waiting, doubtful)]
    times = [time for time in found if time is not None]
    return min(times) if times else None


def sinks_to_visit(connection: Connection) -> list[str]:
    """Every sink that has something to do now or later without a person."""
    unsettled = sa.select(intent.c.sink_ref).where(intent.c.state != IntentState.REVIEW.value)
    found = set(connection.execute(unsettled.distinct()).scalars())
    for sink_ref in sinks_in(connection, delivery):
        if sink_ref not in found and next_due(connection, sink_ref) is not None:
            found.add(sink_ref)
    return sorted(found)


def idempotency_key(sink_ref: str, flow_id: str, source_key: str, revision: int) -> str:
    """The same for every try of one version of one link (design §4: link id + version)."""
    text = "\x1f".join((sink_ref, flow_id, source_key, str(revision)))
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def sinks_in(connection: Connection, table: sa.Table) -> list[str]:
    """The sinks of a table, from one to the next along its key: a million rows are not read."""
    found: list[str] = []
    step = sa.select(sa.func.min(table.c.sink_ref))
    name = connection.execute(step).scalar_one()
    while name is not None:
        found.append(name)
        name = connection.execute(step.where(table.c.sink_ref > name)).scalar_one()
    return found


def _free(sink_ref: str) -> sa.ColumnElement[bool]:
    """No intent is open for the target.

    The open ones are read once and hashed. Asked for each delivery, PostgreSQL compares all with
    all: a table that fills and empties within seconds looks empty to it.
    """
    open_ones = sa.select(intent.c.target_key).where(intent.c.sink_ref == sink_ref)
    return delivery.c.target_key.not_in(open_ones)


def _target_ids(connection: Connection, rows: Sequence[Any]) -> dict[tuple[str, str], str]:
    """The ids the target gave earlier, by flow and source key."""
    by_flow: dict[str, list[str]] = {}
    for row in rows:
        by_flow.setdefault(row.flow_id, []).append(row.source_key)
    found: dict[tuple[str, str], str] = {}
    for flow_id, keys in by_flow.items():
        for condition, params in key_filters(connection, link.c.source_key, keys):
            # Which of them have one is asked here: the index over the ids would be walked for it.
            statement = sa.select(link.c.source_key, link.c.target_id).where(
                link.c.flow_id == sa.bindparam("flow"), condition
            )
            for key, target in connection.execute(statement, {"flow": flow_id, **params}):
                if target is not None:
                    found[flow_id, key] = target
    return found


def _claimed(
    row: Any, targets: Mapping[tuple[str, str], str], executor_id: str, now_ms: int
) -> Intent:
    return Intent(
        sink_ref=row.sink_ref,
        target_key=row.target_key,
        flow_id=row.flow_id,
        source_key=row.source_key,
        run_id=row.run_id,
        op=row.op,
        revision=row.revision,
        payload_text=row.payload_text,
        attempts=row.attempts,
        idempotency_key=idempotency_key(row.sink_ref, row.flow_id, row.source_key, row.revision),
        target_id=targets.get((row.flow_id, row.source_key)),
        state=IntentState.SENT.value,
        executor_id=executor_id,
        sent_at=now_ms,
        due_at=row.due_at,
        lookups=0,
        error_text=None,
    )


def _as_row(one: Intent) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Intent.__slots__}


def _change_intents(connection: Connection, intents: Sequence[Intent], **values: object) -> None:
    if not intents:
        return
    keys = [one.target_key for one in intents]
    for condition, params in key_filters(connection, intent.c.target_key, keys):
        here = intent.update().where(intent.c.sink_ref == sa.bindparam("sink"), condition)
        connection.execute(here.values(values), {"sink": intents[0].sink_ref, **params})


def _delete_deliveries(connection: Connection, sink_ref: str, keys: Sequence[str]) -> None:
    for condition, params in key_filters(connection, delivery.c.target_key, keys):
        statement = delivery.delete().where(delivery.c.sink_ref == sa.bindparam("sink"), condition)
        connection.execute(statement, {"sink": sink_ref, **params})


_as_tuple = attrgetter(*(column.name for column in intent.columns))
_identity = attrgetter(*_IDENTITY)
