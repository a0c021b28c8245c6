"""What comes in by webhook and goes out by webhook."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table

from hub.store.tables.base import ID, KEY, LONG, NAME, metadata

inbox = Table(
    "hub_inbox",
    metadata,
    Column("connection_id", NAME, primary_key=True),
    Column("event_no", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", KEY, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("media_type", NAME),
    Column("body", LargeBinary(16_777_215)),
    Index("hub_inbox_by_event", "connection_id", "event_id", unique=True),
    sqlite_with_rowid=False,
)
"""Events as they were received, numbered in commit order; every flow reads on from where it is.

The body goes when it is old; the row stays to recognise the event when it is sent again.
"""

subscription = Table(
    "hub_subscription",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("url", LONG, nullable=False),
    Column("title", NAME),
    Column("state", String(12), nullable=False),
    Column("old_secret_until", BigInteger),
    Column("failing_since", BigInteger),
    Column("failures", Integer, nullable=False, default=0),
    Column("hold_until", BigInteger, nullable=False, default=0),
    Column("sent", BigInteger, nullable=False, default=0),
    Column("failed", BigInteger, nullable=False, default=0),
    Column("wanted", Integer, nullable=False, default=0),
    Column("wake_no", BigInteger, nullable=False, default=0),
    Column("later_at", BigInteger, nullable=False, default=0),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
"""Endpoints that are told of record changes; their secrets are in `hub_secret`.

`failing_since` and `failures` tell of the tries since the last message that was taken; nothing is
sent before `hold_until`; `sent` and `failed` count tries; `wanted` says that a job is queued, and
`later_at` when the next delayed one starts.
"""

subscription_position = Table(
    "hub_subscription_position",
    metadata,
    Column("subscription_id", String(40), primary_key=True),
    Column("entity", NAME, primary_key=True),
    Column("change_no", BigInteger, nullable=False),
)
"""The entities a subscription asks for, and the last change of each that became a message."""

message = Table(
    "hub_message",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("subscription_id", String(40), nullable=False),
    Column("event_type", NAME, nullable=False),
    Column("entity", NAME),
    Column("record_key", KEY),
    Column("change_no", BigInteger, nullable=False),
    Column("payload_text", LONG, nullable=False),
    Column("state", String(12), nullable=False),
    Column("claimed_by", String(64)),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("hub_message_due", "subscription_id", "state", "due_at"),
)
"""Signed webhooks: one per change and subscription; the id is the `webhook-id`.

`due_at` of a message that is settled is the moment when it was.
"""

message_attempt = Table(
    "hub_message_attempt",
    metadata,
    Column("id", ID, primary_key=True, autoincrement=True),
    Column("message_id", String(64), nullable=False),
    Column("subscription_id", String(40), nullable=False),
    Column("began_at", BigInteger, nullable=False),
    Column("took_ms", Integer, nullable=False),
    Column("status_code", Integer),
    Column("error_text", LONG),
    Column("answer_text", LONG),
    Index("hub_message_attempt_by_subscription", "subscription_id", "id"),
)
"""The delivery log: every try of every webhook."""
