"""Writes on their way to a sink."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table

from hub.store.tables.base import KEY, LONG, NAME, metadata

delivery = Table(
    "hub_delivery",
    metadata,
    Column("sink_ref", NAME, primary_key=True),
    Column("target_key", KEY, primary_key=True),
    Column("flow_id", NAME, nullable=False),
    Column("source_key", KEY, nullable=False),
    Column("run_id", BigInteger, nullable=False),
    Column("op", String(10), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("payload_text", LONG, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", BigInteger, nullable=False),
    Column("error_text", LONG),
    Index("hub_delivery_due", "sink_ref", "due_at"),
)
"""What a sink should still be told: one row per target, the newest version wins."""

intent = Table(
    "hub_intent",
    metadata,
    Column("sink_ref", NAME, primary_key=True),
    Column("target_key", KEY, primary_key=True),
    Column("flow_id", NAME, nullable=False),
    Column("source_key", KEY, nullable=False),
    Column("run_id", BigInteger, nullable=False),
    Column("op", String(10), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("payload_text", LONG, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("idempotency_key", String(64), nullable=False),
    Column("target_id", KEY),
    Column("state", String(12), nullable=False),
    Column("executor_id", String(64), nullable=False),
    Column("sent_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("lookups", Integer, nullable=False, default=0),
    Column("error_text", LONG),
    Index("hub_intent_due", "sink_ref", "due_at"),
)
"""Writes that may be on the wire: committed before the first network byte, gone once settled."""

drain = Table(
    "hub_drain",
    metadata,
    Column("sink_ref", NAME, primary_key=True),
    Column("wanted", Integer, nullable=False),
    Column("wakes", BigInteger, nullable=False),
    Column("later_at", BigInteger, nullable=False, default=0),
)
"""`wanted` is the wake-up whose job is queued and has not begun, `later_at` the time at which the
next delayed job starts; 0 for none.
"""
