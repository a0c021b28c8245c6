"""What a person must look at."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, String, Table

from hub.store.tables.base import KEY, LONG, NAME, metadata

dead_letter = Table(
    "hub_dead_letter",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(12), nullable=False),
    Column("flow_id", NAME, nullable=False),
    Column("run_id", BigInteger, nullable=False),
    Column("source_key", KEY, nullable=False),
    Column("target_key", KEY),
    Column("state", String(12), nullable=False),
    Column("field_name", NAME),
    Column("error_code", NAME, nullable=False),
    Column("vendor_code", NAME),
    Column("problems_text", LONG, nullable=False),
    Column("payload_text", LONG),
    Column("attempts", Integer, nullable=False, default=0),
    Column("mapping_version", String(64)),
    Column("revision", Integer),
    Column("op", String(10)),
    Column("edited_text", LONG),
    Column("closed_by", NAME),
    Column("closed_how", String(20)),
    Column("note_text", LONG),
    Column("replay_id", String(40)),
    Column("sink_ref", NAME),
    Column("created_at", BigInteger, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("hub_dead_letter_by_flow", "flow_id", "state", "opened_at", "id"),
    Index("hub_dead_letter_by_age", "state", "opened_at", "id"),
    Index(
        "hub_dead_letter_by_reason",
        "state",
        "flow_id",
        "kind",
        "error_code",
        "field_name",
        "vendor_code",
    ),
    Index("hub_dead_letter_by_replay", "replay_id", "state"),
)
"""Records and deliveries a person must look at; one row per flow, source key and kind.

`opened_at` is when it last became open; `sink_ref` the target it was on its way to.
"""

replay = Table(
    "hub_replay",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("flow_id", NAME, nullable=False),
    Column("letter_id", String(40)),
    Column("state", String(12), nullable=False),
    Column("filter_text", LONG, nullable=False),
    Column("after_at", BigInteger),
    Column("after_id", String(40)),
    Column("per_second", Double),
    Column("requested_by", NAME, nullable=False),
    Column("total", BigInteger, nullable=False, default=0),
    Column("replayed", BigInteger, nullable=False, default=0),
    Column("passed_over", BigInteger, nullable=False, default=0),
    Column("error_text", LONG),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
)
"""Replays of one dead letter (`letter_id`) or of all that a filter names.

`after_at` and `after_id` say how far it is: the last letter dealt with, oldest first.
"""

audit = Table(
    "hub_audit",
    metadata,
    Column("entry_no", BigInteger, primary_key=True, autoincrement=False),
    Column("happened_at", BigInteger, nullable=False),
    Column("actor", NAME, nullable=False),
    Column("action", NAME, nullable=False),
    Column("subject", KEY, nullable=False),
    Column("details_text", LONG, nullable=False),
    Column("entry_hash", String(64), nullable=False),
)
"""Who changed what: append-only, each entry's hash covers the one before."""
