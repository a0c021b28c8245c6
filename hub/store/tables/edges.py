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
    Column("entities_text", LONG, nullable=False),
    Column("state", String(12), nullable=False),
    Column("old_secret_until", BigInteger),
    Column("failing_since", BigInteger),
    Column("wake_no", BigInteger, nullable=False, default=0),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
"""Endpoints that are told of record changes; their secrets are in `hub_secret`."""

subscription_position = Table(
    "hub_subscription_position",
    metadata,
    Column("subscription_id", String(40), primary_key=True),
    Column("entity", NAME, primary_key=True),
    Column("change_no", BigInteger, nullable=False),
)
"""The last change of each entity that has become a message."""

message = Table(
    "hub_message",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("subscription_id", String(40), nullable=False),
    Column("order_no", BigInteger, nullable=False),
    Column("event_type", NAME, nullable=False),
    Column("record_key", KEY),
    Column("payload_text", LONG, nullable=False),
    Column("state", String(12), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("settled_at", BigInteger),
    Index("hub_message_due", "subscription_id", "state", "due_at"),
)
"""Signed webhooks to send: one per change and subscription; the id is the `webhook-id`."""

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
