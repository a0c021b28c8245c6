"""The hub's own tables. Portable on purpose: see `tests/store/test_portable.py` for the rules.

Times are UTC milliseconds since 1970 (`…_at`); JSON is text; searched facts have their own column.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.ext.compiler import compiles


class LongText(Text):
    """Text of any length; a plain TEXT of the MySQL family ends at 64 KB."""

    inherit_cache = True


@compiles(LongText, "mysql")
def _mysql_long_text(_type: LongText, _compiler: object, **_options: object) -> str:
    return "MEDIUMTEXT"


metadata = MetaData()

_KEY = String(512)
_NAME = String(120)
_LONG = LongText()
_ID = BigInteger().with_variant(Integer, "sqlite")

flow_state = Table(
    "hub_flow_state",
    metadata,
    Column("flow_id", _NAME, primary_key=True),
    Column("watermark_at", BigInteger),
    Column("flow_version", String(64)),
    Column("fields_text", _LONG),
    Column("planned_at", BigInteger),
    Column("paused", Integer, nullable=False, default=0),
)
"""Where each flow stands: the watermark of its last complete read and its last planned start."""

run = Table(
    "hub_run",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("flow_id", _NAME, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("flow_version", String(64), nullable=False),
    Column("state", String(20), nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("page_no", Integer, nullable=False, default=0),
    Column("cursor_text", _LONG),
    Column("pass_no", Integer, nullable=False, default=0),
    Column("pass_read", BigInteger, nullable=False, default=0),
    Column("pass_repeated", BigInteger, nullable=False, default=0),
    Column("pass_total", BigInteger),
    Column("since_at", BigInteger),
    Column("source_total", BigInteger),
    Column("rows_read", BigInteger, nullable=False, default=0),
    Column("repeated", BigInteger, nullable=False, default=0),
    Column("grouped", BigInteger, nullable=False, default=0),
    Column("mapped", BigInteger, nullable=False, default=0),
    Column("skipped", BigInteger, nullable=False, default=0),
    Column("held", BigInteger, nullable=False, default=0),
    Column("rejected", BigInteger, nullable=False, default=0),
    Column("unchanged", BigInteger, nullable=False, default=0),
    Column("written", BigInteger, nullable=False, default=0),
    Column("refused", BigInteger, nullable=False, default=0),
    Column("coalesced", BigInteger, nullable=False, default=0),
    Column("pending", BigInteger, nullable=False, default=0),
    Column("resumable", Integer, nullable=False, default=0),
    Column("fields_text", _LONG),
    Column("findings_text", _LONG),
    Column("error_code", _NAME),
    Column("error_text", _LONG),
    Column("queued_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Index("hub_run_by_flow", "flow_id", "id"),
)
"""One execution of a flow, its page cursor and its counts.

A read that the source disturbs is done again: `pass_no` counts, `pass_read` and `pass_repeated` are
the counts at the start of the pass, `pass_total` the total its first page named.
"""

link = Table(
    "hub_link",
    metadata,
    Column("flow_id", _NAME, primary_key=True),
    Column("source_key", _KEY, primary_key=True),
    Column("target_key", _KEY),
    Column("target_id", _KEY),
    Column("source_hash", LargeBinary(16)),
    Column("content_hash", LargeBinary(16)),
    Column("revision", Integer, nullable=False),
    Column("pushed_revision", Integer, nullable=False),
    Column("state", String(12), nullable=False),
    Column("seen_run", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""The ledger: one source key, the target it became, and hashes of what it last said.

`source_hash` covers the row as it came and the mapping's version: the same again needs no mapping.
`content_hash` covers the mapped record: the same again needs no write.
"""

record = Table(
    "hub_record",
    metadata,
    Column("entity", _NAME, primary_key=True),
    Column("record_key", _KEY, primary_key=True),
    Column("doc_text", _LONG),
    Column("revision", Integer, nullable=False),
    Column("change_no", BigInteger, nullable=False),
    Column("deleted", Integer, nullable=False, default=0),
    Column("changed_at", BigInteger, nullable=False),
    Index("hub_record_by_change", "entity", "change_no"),
    sqlite_with_rowid=False,
)
"""The hub's own business objects, which others pull in the order of `change_no`."""

sequence = Table(
    "hub_sequence",
    metadata,
    Column("name", _NAME, primary_key=True),
    Column("last_no", BigInteger, nullable=False),
)
"""Numbers without gaps; the row lock makes number order equal commit order."""

delivery = Table(
    "hub_delivery",
    metadata,
    Column("sink_ref", _NAME, primary_key=True),
    Column("target_key", _KEY, primary_key=True),
    Column("flow_id", _NAME, nullable=False),
    Column("source_key", _KEY, nullable=False),
    Column("run_id", BigInteger, nullable=False),
    Column("op", String(10), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("payload_text", _LONG, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", BigInteger, nullable=False),
    Column("error_text", _LONG),
    Index("hub_delivery_due", "sink_ref", "due_at"),
)
"""What a sink should still be told: one row per target, the newest version wins."""

intent = Table(
    "hub_intent",
    metadata,
    Column("sink_ref", _NAME, primary_key=True),
    Column("target_key", _KEY, primary_key=True),
    Column("flow_id", _NAME, nullable=False),
    Column("source_key", _KEY, nullable=False),
    Column("run_id", BigInteger, nullable=False),
    Column("op", String(10), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("payload_text", _LONG, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("idempotency_key", String(64), nullable=False),
    Column("target_id", _KEY),
    Column("state", String(12), nullable=False),
    Column("executor_id", String(64), nullable=False),
    Column("sent_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("lookups", Integer, nullable=False, default=0),
    Column("error_text", _LONG),
    Index("hub_intent_due", "sink_ref", "due_at"),
)
"""Writes that may be on the wire: committed before the first network byte, gone once settled."""

drain = Table(
    "hub_drain",
    metadata,
    Column("sink_ref", _NAME, primary_key=True),
    Column("wanted", Integer, nullable=False),
    Column("wakes", BigInteger, nullable=False),
)
"""Whether a delivery job for the sink is already queued."""

dead_letter = Table(
    "hub_dead_letter",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(12), nullable=False),
    Column("flow_id", _NAME, nullable=False),
    Column("run_id", BigInteger, nullable=False),
    Column("source_key", _KEY, nullable=False),
    Column("target_key", _KEY),
    Column("state", String(12), nullable=False),
    Column("field_name", _NAME),
    Column("error_code", _NAME, nullable=False),
    Column("vendor_code", _NAME),
    Column("problems_text", _LONG, nullable=False),
    Column("payload_text", _LONG),
    Column("attempts", Integer, nullable=False, default=0),
    Column("mapping_version", String(64)),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("hub_dead_letter_by_flow", "flow_id", "state"),
)
"""Records and deliveries a person must look at; one open row per flow, source key and kind."""

stage = Table(
    "hub_stage",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("row_key", _KEY, primary_key=True),
    Column("group_key", _KEY, nullable=False),
    Column("doc_text", _LONG, nullable=False),
    Index("hub_stage_by_group", "run_id", "group_key"),
)
"""Source rows of a grouping flow, kept until the read is complete."""

executor = Table(
    "hub_executor",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("seen_at", BigInteger, nullable=False),
)
"""Heartbeats of the processes that run jobs."""

rate_gate = Table(
    "hub_rate_gate",
    metadata,
    Column("account", _NAME, primary_key=True),
    Column("free_at", Double, nullable=False),
)
"""When each outside account may be called next; shared by all processes."""

secret = Table(
    "hub_secret",
    metadata,
    Column("connection_id", _NAME, primary_key=True),
    Column("field_name", _NAME, primary_key=True),
    Column("key_id", String(40), nullable=False),
    Column("wrapped_key", LargeBinary(128), nullable=False),
    Column("sealed", LargeBinary(8192), nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
"""Secrets under envelope encryption; the master key is never in the database."""
