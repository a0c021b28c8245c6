"""Webhook messages on their way to a subscription, and the log of every try.

    pending ──claim──▶ sending ──▶ delivered | failed | back to pending
    pending ──a newer change of the same record──▶ superseded

Of one record at most one message is pending and one on the wire. All changes happen under the lock
of the subscription's row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import key_filters
from hub.store.tables import message, message_attempt


class MessageState(StrEnum):
    """`failed`: given up after the last try, while the endpoint took other messages."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"
    SUPERSEDED = "superseded"


SETTLED = (MessageState.DELIVERED, MessageState.FAILED, MessageState.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message; `payload_text` is the exact body of every try."""

    id: str
    subscription_id: str
    event_type: str
    entity: str | None
    record_key: str | None
    change_no: int
    payload_text: str
    state: str
    claimed_by: str | None
    attempts: int
    due_at: int
    created_at: int

    @property
    def subject(self) -> tuple[str | None, str | None]:
        """The record it tells of."""
        return self.entity, self.record_key


class Attempt(NamedTuple):
    """One try, as the log keeps it; `error_text` is JSON."""

    message_id: str
    subscription_id: str
    began_at: int
    took_ms: int
    status_code: int | None
    error_text: str | None
    answer_text: str | None


_COLUMNS = [message.c[name] for name in StoredMessage.__slots__]


def _loaded(row: Any) -> StoredMessage:
    return StoredMessage(**row._mapping)


def add_messages(connection: Connection, new: Sequence[StoredMessage]) -> None:
    """Keep new messages; unsent ones of the same records give way to them.

    One that is known already (somebody asked for the changes from the beginning again) keeps its
    id and is to be sent once more.
    """
    if not new:
        return
    for entity in dict.fromkeys(one.entity for one in new):
        keys = [one.record_key or "" for one in new if one.entity == entity]
        supersede(connection, new[0].subscription_id, entity or "", keys, new[0].created_at)
    known = _known(connection, [one.id for one in new])
    rows = [
        {name: getattr(one, name) for name in StoredMessage.__slots__}
        for one in new
        if one.id not in known
    ]
    if rows:
        connection.execute(message.insert(), rows)
    if known:
        again = message.c.id.in_(known), message.c.state != MessageState.SENDING.value
        values = {"state": MessageState.PENDING.value, "attempts": 0, "due_at": new[0].due_at}
        connection.execute(message.update().where(*again).values(values))


def _known(connection: Connection, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for condition, params in key_filters(connection, message.c.id, ids):
        found.update(connection.execute(sa.select(message.c.id).where(condition), params).scalars())
    return found


def supersede(
    connection: Connection, subscription_id: str, entity: str, keys: Sequence[str], now_ms: int
) -> None:
    """Unsent messages of these records are no longer wanted."""
    for condition, params in key_filters(connection, message.c.record_key, keys):
        statement = (
            message.update()
            .where(
                message.c.subscription_id == sa.bindparam("b_subscription"),
                message.c.state == MessageState.PENDING.value,
                message.c.entity == sa.bindparam("b_entity"),
                condition,
            )
            .values(state=MessageState.SUPERSEDED.value, due_at=now_ms)
        )
        bound = {"b_subscription": subscription_id, "b_entity": entity, **params}
        connection.execute(statement, bound)


def supersede_entities(
    connection: Connection, subscription_id: str, entities: Sequence[str], now_ms: int
) -> None:
    """Unsent messages of entities that nobody asks for any more are not sent."""
    connection.execute(
        message.update()
        .where(
            message.c.subscription_id == subscription_id,
            message.c.state == MessageState.PENDING.value,
            message.c.entity.in_(entities),
        )
        .values(state=MessageState.SUPERSEDED.value, due_at=now_ms)
    )


def claim_due(
    connection: Connection, subscription_id: str, owner: str, now_ms: int, limit: int
) -> list[StoredMessage]:
    """Up to `limit` due messages, longest due first, now `owner`'s to send.

    A record with a message on the wire has to wait for that one.
    """
    flying = _in_state(connection, subscription_id, MessageState.SENDING)
    busy = {one.subject for one in flying}
    statement = (
        sa.select(*_COLUMNS)
        .where(
            message.c.subscription_id == subscription_id,
            message.c.state == MessageState.PENDING.value,
            message.c.due_at <= now_ms,
        )
        .order_by(message.c.due_at, message.c.change_no)
        .limit(limit + len(busy))
    )
    found = [_loaded(row) for row in connection.execute(statement)]
    claimed = [one for one in found if one.subject not in busy][:limit]
    if claimed:
        connection.execute(
            message.update()
            .where(message.c.id.in_([one.id for one in claimed]))
            .values(state=MessageState.SENDING.value, claimed_by=owner)
        )
    return claimed


def release_others(connection: Connection, subscription_id: str, owner: str, now_ms: int) -> int:
    """What another job left on the wire is to be sent again, under its id; how many those are.

    The answer may have been lost with that job. Where a newer message of the record waits already,
    that one tells more.
    """
    left = [
        one
        for one in _in_state(connection, subscription_id, MessageState.SENDING)
        if one.claimed_by != owner
    ]
    for one in left:
        give_back(connection, one, now_ms, now_ms, attempts=one.attempts)
    return len(left)


def still_mine(
    connection: Connection, subscription_id: str, owner: str
) -> dict[str, StoredMessage]:
    """What is on the wire for `owner`, by id."""
    flying = _in_state(connection, subscription_id, MessageState.SENDING)
    return {one.id: one for one in flying if one.claimed_by == owner}


def settle_message(
    connection: Connection, message_id: str, state: MessageState, attempts: int, now_ms: int
) -> None:
    """The message is dealt with for good."""
    this = message.c.id == message_id
    values = {"state": state.value, "attempts": attempts, "due_at": now_ms, "claimed_by": None}
    connection.execute(message.update().where(this).values(values))


def give_back(
    connection: Connection, one: StoredMessage, due_ms: int, now_ms: int, *, attempts: int
) -> None:
    """The message waits for its next try, unless a newer one of its record does already."""
    newer = sa.select(message.c.id).where(
        message.c.subscription_id == one.subscription_id,
        message.c.state == MessageState.PENDING.value,
        message.c.entity == one.entity,
        message.c.record_key == one.record_key,
    )
    if connection.execute(newer).first() is not None:
        settle_message(connection, one.id, MessageState.SUPERSEDED, attempts, now_ms)
        return
    values = {
        "state": MessageState.PENDING.value,
        "attempts": attempts,
        "due_at": due_ms,
        "claimed_by": None,
    }
    connection.execute(message.update().where(message.c.id == one.id).values(values))


def bring_forward(connection: Connection, subscription_id: str, now_ms: int) -> None:
    """Every message that waits for a later try is due now."""
    connection.execute(
        message.update()
        .where(
            message.c.subscription_id == subscription_id,
            message.c.state == MessageState.PENDING.value,
            message.c.due_at > now_ms,
        )
        .values(due_at=now_ms)
    )


def begin_anew(connection: Connection, subscription_id: str, now_ms: int) -> None:
    """Every message that waits is due now and has all its tries."""
    connection.execute(
        message.update()
        .where(
            message.c.subscription_id == subscription_id,
            message.c.state == MessageState.PENDING.value,
        )
        .values(due_at=now_ms, attempts=0)
    )


def send_again(connection: Connection, one: StoredMessage, now_ms: int) -> None:
    """The message is due now and has all its tries, whatever became of it before."""
    values = {"state": MessageState.PENDING.value, "attempts": 0, "due_at": now_ms}
    connection.execute(message.update().where(message.c.id == one.id).values(values))


# --- looking ----------------------------------------------------------------------------------


def load_message(
    connection: Connection, subscription_id: str, message_id: str
) -> StoredMessage | None:
    statement = sa.select(*_COLUMNS).where(
        message.c.id == message_id, message.c.subscription_id == subscription_id
    )
    row = connection.execute(statement).first()
    return None if row is None else _loaded(row)


def next_message_due(connection: Connection, subscription_id: str) -> int | None:
    """When the next try is due; None when nothing waits."""
    statement = sa.select(sa.func.min(message.c.due_at)).where(
        message.c.subscription_id == subscription_id,
        message.c.state == MessageState.PENDING.value,
    )
    found: int | None = connection.execute(statement).scalar_one()
    return found


def unsent(connection: Connection, subscription_id: str) -> tuple[int, int | None]:
    """How many messages wait or are on the wire, and since when the oldest does."""
    statement = sa.select(sa.func.count(), sa.func.min(message.c.created_at)).where(
        message.c.subscription_id == subscription_id,
        message.c.state.in_([MessageState.PENDING.value, MessageState.SENDING.value]),
    )
    number, oldest = connection.execute(statement).one()
    return number, oldest


def list_messages(
    connection: Connection, subscription_id: str, state: str | None, limit: int
) -> list[StoredMessage]:
    """The newest messages: by the moment they were settled or are due."""
    found: list[StoredMessage] = []
    for one in MessageState if state is None else [MessageState(state)]:
        found += _in_state(connection, subscription_id, one, limit)
    return sorted(found, key=lambda one: one.due_at, reverse=True)[:limit]


def _in_state(
    connection: Connection, subscription_id: str, state: MessageState, limit: int | None = None
) -> list[StoredMessage]:
    statement = (
        sa.select(*_COLUMNS)
        .where(message.c.subscription_id == subscription_id, message.c.state == state.value)
        .order_by(message.c.due_at.desc())
        .limit(limit)
    )
    return [_loaded(row) for row in connection.execute(statement)]


def add_attempts(connection: Connection, attempts: Sequence[Attempt]) -> None:
    if attempts:
        connection.execute(message_attempt.insert(), [one._asdict() for one in attempts])


def list_attempts(connection: Connection, subscription_id: str, limit: int) -> list[Attempt]:
    """The newest tries, newest first."""
    statement = (
        sa.select(*(message_attempt.c[name] for name in Attempt._fields))
        .where(message_attempt.c.subscription_id == subscription_id)
        .order_by(message_attempt.c.id.desc())
        .limit(limit)
    )
    return [Attempt(*row) for row in connection.execute(statement)]


# --- forgetting -------------------------------------------------------------------------------


def forget_messages(
    connection: Connection, subscription_id: str, before_ms: int, limit: int
) -> int:
    """Delete at most `limit` messages that were settled before; how many those were."""
    old = (
        sa.select(message.c.id)
        .where(
            message.c.subscription_id == subscription_id,
            message.c.state.in_([state.value for state in SETTLED]),
            message.c.due_at < before_ms,
        )
        .limit(limit)
    )
    ids = list(connection.execute(old).scalars())
    if ids:
        connection.execute(message.delete().where(message.c.id.in_(ids)))
    return len(ids)


def forget_attempts(
    connection: Connection, subscription_id: str, before_ms: int, limit: int
) -> int:
    """Delete at most `limit` tries made before; how many those were."""
    oldest = (
        sa.select(message_attempt.c.id, message_attempt.c.began_at)
        .where(message_attempt.c.subscription_id == subscription_id)
        .order_by(message_attempt.c.id)
        .limit(limit)
    )
    ids = [row.id for row in connection.execute(oldest) if row.began_at < before_ms]
    if ids:
        connection.execute(message_attempt.delete().where(message_attempt.c.id.in_(ids)))
    return len(ids)
