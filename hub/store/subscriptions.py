"""Subscriptions: endpoints that are told of record changes, and how far each has been told.

Whoever changes a subscription, its positions or its messages locks its row first
(`lock_subscription`); a writer of records takes that lock last, behind the entity's sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.drains import still_planned
from hub.store.records import SEQUENCE_PREFIX
from hub.store.tables import (
    message,
    message_attempt,
    secret,
    sequence,
    subscription,
    subscription_position,
)


class SubscriptionState(StrEnum):
    """`disabled`: by failures that did not end; `gone`: the endpoint itself said so (410)."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Subscription:
    """One endpoint; times are milliseconds."""

    id: str
    url: str
    title: str | None
    state: str
    created_at: int
    updated_at: int
    old_secret_until: int | None = None
    failing_since: int | None = None
    failures: int = 0
    hold_until: int = 0
    sent: int = 0
    failed: int = 0
    wanted: int = 0
    wake_no: int = 0
    later_at: int = 0

    @property
    def active(self) -> bool:
        return self.state == SubscriptionState.ACTIVE


_COLUMNS = [subscription.c[name] for name in Subscription.__slots__]


def secret_place(subscription_id: str) -> str:
    """Under which connection the vault keeps its secrets; no real connection has such a name."""
    return f"webhook:{subscription_id}"


def create_subscription(
    connection: Connection, one: Subscription, positions: Mapping[str, int]
) -> None:
    """Keep a new subscription that has been told of everything up to `positions`."""
    values = {name: getattr(one, name) for name in Subscription.__slots__}
    connection.execute(subscription.insert().values(values))
    add_positions(connection, one.id, positions)


def load_subscription(connection: Connection, subscription_id: str) -> Subscription | None:
    statement = sa.select(*_COLUMNS).where(subscription.c.id == subscription_id)
    row = connection.execute(statement).first()
    return None if row is None else Subscription(**row._mapping)


def list_subscriptions(connection: Connection) -> list[Subscription]:
    """All of them, oldest first."""
    statement = sa.select(*_COLUMNS).order_by(subscription.c.created_at, subscription.c.id)
    return [Subscription(**row._mapping) for row in connection.execute(statement)]


def lock_subscription(connection: Connection, subscription_id: str) -> Subscription | None:
    """The subscription, ours until the commit; None when it was removed."""
    row = sa.select(subscription.c.id).where(subscription.c.id == subscription_id)
    if connection.execute(row.with_for_update()).first() is None:
        return None
    return load_subscription(connection, subscription_id)


def change_subscription(connection: Connection, subscription_id: str, **values: object) -> None:
    this = subscription.c.id == subscription_id
    connection.execute(subscription.update().where(this).values(**values))


def remove_subscription(connection: Connection, subscription_id: str) -> None:
    """Forget it with its positions, messages, log and secrets."""
    for table in (message_attempt, message, subscription_position):
        mine = table.c.subscription_id == subscription_id
        connection.execute(table.delete().where(mine))
    place = secret.c.connection_id == secret_place(subscription_id)
    connection.execute(secret.delete().where(place))
    connection.execute(subscription.delete().where(subscription.c.id == subscription_id))


# --- positions --------------------------------------------------------------------------------


def positions_of(connection: Connection, subscription_id: str) -> dict[str, int]:
    """The entities it asks for, each with the last change that became a message."""
    statement = (
        sa.select(subscription_position.c.entity, subscription_position.c.change_no)
        .where(subscription_position.c.subscription_id == subscription_id)
        .order_by(subscription_position.c.entity)
    )
    return dict(connection.execute(statement).tuples().all())


def entities_by_subscription(connection: Connection) -> dict[str, list[str]]:
    """The entities of every subscription."""
    found: dict[str, list[str]] = {}
    table = subscription_position.c
    statement = sa.select(table.subscription_id, table.entity).order_by(table.entity)
    for subscription_id, entity in connection.execute(statement):
        found.setdefault(subscription_id, []).append(entity)
    return found


def add_positions(
    connection: Connection, subscription_id: str, positions: Mapping[str, int]
) -> None:
    rows = [
        {"subscription_id": subscription_id, "entity": entity, "change_no": number}
        for entity, number in positions.items()
    ]
    if rows:
        connection.execute(subscription_position.insert(), rows)


def move_position(
    connection: Connection, subscription_id: str, entity: str, change_no: int
) -> None:
    connection.execute(
        subscription_position.update()
        .where(
            subscription_position.c.subscription_id == subscription_id,
            subscription_position.c.entity == entity,
        )
        .values(change_no=change_no)
    )


def drop_positions(connection: Connection, subscription_id: str, entities: Sequence[str]) -> None:
    connection.execute(
        subscription_position.delete().where(
            subscription_position.c.subscription_id == subscription_id,
            subscription_position.c.entity.in_(entities),
        )
    )


# --- who has work -----------------------------------------------------------------------------


def listeners(connection: Connection, entity: str) -> list[str]:
    """The active subscriptions to the entity, always in the same order."""
    statement = (
        sa.select(subscription.c.id)
        .join(subscription_position, subscription_position.c.subscription_id == subscription.c.id)
        .where(
            subscription_position.c.entity == entity,
            subscription.c.state == SubscriptionState.ACTIVE.value,
        )
        .order_by(subscription.c.id)
    )
    return list(connection.execute(statement).scalars())


def want_job(connection: Connection, subscription_id: str) -> int | None:
    """Ask for a sending job; the number of the wake-up when one must be queued, else None.

    The row stays locked until the commit: a job that starts meanwhile sees what we commit.
    """
    found = lock_subscription(connection, subscription_id)
    if found is None or found.wanted:
        return None
    change_subscription(connection, subscription_id, wanted=1, wake_no=found.wake_no + 1)
    return found.wake_no + 1


def plan_job(connection: Connection, subscription_id: str, at_ms: int) -> int | None:
    """Ask for a sending job at a later time; the number of the wake-up when one must be queued.

    None when one that is planned already comes no later. It holds no earlier wake-up back.
    """
    found = lock_subscription(connection, subscription_id)
    if found is None or 0 < found.later_at <= at_ms:
        return None
    number = found.wake_no + 1
    change_subscription(connection, subscription_id, wake_no=number, later_at=at_ms)
    return number


def take_job(connection: Connection, subscription_id: str, now_ms: int) -> None:
    """A sending job starts: whoever adds work from now on must queue another one."""
    later = still_planned(subscription.c.later_at, now_ms)
    change_subscription(connection, subscription_id, wanted=0, later_at=later)


def reset_job(connection: Connection, subscription_id: str) -> None:
    """No job is queued, now or later."""
    change_subscription(connection, subscription_id, wanted=0, later_at=0)


def subscriptions_to_visit(connection: Connection, now_ms: int) -> list[str]:
    """Active subscriptions with changes that are no messages yet, or messages to send now."""
    behind = (
        sa.select(subscription_position.c.subscription_id)
        .join(
            sequence,
            sequence.c.name == sa.literal(SEQUENCE_PREFIX) + subscription_position.c.entity,
        )
        .where(sequence.c.last_no > subscription_position.c.change_no)
    )
    mine = message.c.subscription_id == subscription.c.id
    due = sa.exists().where(mine, message.c.state == "pending", message.c.due_at <= now_ms)
    left = sa.exists().where(mine, message.c.state == "sending")
    statement = sa.select(subscription.c.id).where(
        subscription.c.state == SubscriptionState.ACTIVE.value,
        subscription.c.hold_until <= now_ms,
        sa.or_(subscription.c.id.in_(behind), due, left),
    )
    return sorted(connection.execute(statement).scalars())
