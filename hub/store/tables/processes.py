"""What the processes of a deployment share: heartbeats, limits and secrets."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, String, Table

from hub.store.tables.base import LONG, NAME, metadata

executor = Table(
    "hub_executor",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("seen_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("kind", String(12)),
    Column("host_name", NAME),
    Column("pid", Integer),
    Column("program_version", NAME),
    Column("jobs_text", LONG),
)
"""Heartbeats of the processes that run jobs, and which jobs each has in hand.

A process that ends in order deletes its row; one that died leaves it.
"""

rate_gate = Table(
    "hub_rate_gate",
    metadata,
    Column("account", NAME, primary_key=True),
    Column("free_at", Double, nullable=False),
)
"""When each outside account may be called next; shared by all processes."""

secret = Table(
    "hub_secret",
    metadata,
    Column("connection_id", NAME, primary_key=True),
    Column("field_name", NAME, primary_key=True),
    Column("key_id", String(40), nullable=False),
    Column("wrapped_key", LargeBinary(128), nullable=False),
    Column("sealed", LargeBinary(8192), nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
"""Secrets under envelope encryption; the master key is never in the database."""

place = Table(
    "hub_place",
    metadata,
    Column("account", NAME, primary_key=True),
    Column("place_no", Integer, primary_key=True),
    Column("holder", String(64)),
    Column("held_until", BigInteger, nullable=False),
)
"""Places for concurrent calls to an account, leased by whichever process holds one.

A number below zero is no place: a process that waits for one says so with it.
"""

breaker = Table(
    "hub_breaker",
    metadata,
    Column("connection_id", NAME, primary_key=True),
    Column("failures", Integer, nullable=False, default=0),
    Column("opened_at", BigInteger),
    Column("no_call_until", BigInteger, nullable=False, default=0),
    Column("probe_holder", String(64)),
    Column("probe_until", BigInteger, nullable=False, default=0),
    Column("reason_text", LONG),
)
"""Circuit breakers: no call before `no_call_until`, then one probe at a time."""
