"""Where flows stand: their state, their runs, the ledger, and the hub's own records."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, String, Table

from hub.store.tables.base import ID, KEY, LONG, NAME, metadata

flow_state = Table(
    "hub_flow_state",
    metadata,
    Column("flow_id", NAME, primary_key=True),
    Column("watermark_at", BigInteger),
    Column("flow_version", String(64)),
    Column("fields_text", LONG),
    Column("planned_at", BigInteger),
    Column("full_mark", BigInteger),
    Column("inbox_no", BigInteger),
    Column("inbox_of", NAME),
    Column("paused", Integer, nullable=False, default=0),
)
"""Where each flow stands: the watermark of its last complete read and its last planned start.

`full_mark` is the mark (`hub_link.seen_run`) of its last complete full read; `inbox_no` the last
event it has read in the inbox of the connection `inbox_of`.
"""

run = Table(
    "hub_run",
    metadata,
    Column("id", ID, primary_key=True, autoincrement=True),
    Column("flow_id", NAME, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("flow_version", String(64), nullable=False),
    Column("state", String(20), nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("page_no", Integer, nullable=False, default=0),
    Column("cursor_text", LONG),
    Column("pass_no", Integer, nullable=False, default=0),
    Column("pass_read", BigInteger, nullable=False, default=0),
    Column("pass_repeated", BigInteger, nullable=False, default=0),
    Column("pass_total", BigInteger),
    Column("since_at", BigInteger),
    Column("source_total", BigInteger),
    Column("rows_read", BigInteger, nullable=False, default=0),
    Column("repeated", BigInteger, nullable=False, default=0),
    Column("folded", BigInteger, nullable=False, default=0),
    Column("grouped", BigInteger, nullable=False, default=0),
    Column("mapped", BigInteger, nullable=False, default=0),
    Column("skipped", BigInteger, nullable=False, default=0),
    Column("held", BigInteger, nullable=False, default=0),
    Column("rejected", BigInteger, nullable=False, default=0),
    Column("unchanged", BigInteger, nullable=False, default=0),
    Column("written", BigInteger, nullable=False, default=0),
    Column("refused", BigInteger, nullable=False, default=0),
    Column("coalesced", BigInteger, nullable=False, default=0),
    Column("removed", BigInteger, nullable=False, default=0),
    Column("pending", BigInteger, nullable=False, default=0),
    Column("delete_guard", Double),
    Column("resumable", Integer, nullable=False, default=0),
    Column("fields_text", LONG),
    Column("findings_text", LONG),
    Column("error_code", NAME),
    Column("error_text", LONG),
    Column("queued_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Index("hub_run_by_flow", "flow_id", "id"),
)
"""One execution of a flow, its page cursor and its counts.

A read that the source disturbs is done again: `pass_no` counts, `pass_read` and `pass_repeated` are
the counts at the start of the pass, `pass_total` the total its first page named. `folded` counts
the rows that went into groups, `grouped` the records they became. `delete_guard` replaces the
flow's for this run.
"""

link = Table(
    "hub_link",
    metadata,
    Column("flow_id", NAME, primary_key=True),
    Column("source_key", KEY, primary_key=True),
    Column("target_key", KEY),
    Column("target_id", KEY),
    Column("source_hash", LargeBinary(16)),
    Column("content_hash", LargeBinary(16)),
    Column("revision", Integer, nullable=False),
    Column("pushed_revision", Integer, nullable=False),
    Column("state", String(12), nullable=False),
    Column("seen_run", BigInteger, nullable=False),
    Index("hub_link_by_target", "flow_id", "target_id"),
    sqlite_with_rowid=False,
)
"""The ledger: one source key, the target it became, and hashes of what it last said.

`source_hash` covers the row as it came and the mapping's version: the same again needs no mapping.
`content_hash` covers the mapped record: the same again needs no write.
"""

agreement = Table(
    "hub_agreement",
    metadata,
    Column("flow_id", NAME, primary_key=True),
    Column("source_key", KEY, primary_key=True),
    Column("other_key", KEY),
    Column("base_text", LONG),
    Column("notes_text", LONG),
    Column("gone", Integer, nullable=False, default=0),
    Column("held_by", String(60)),
    sqlite_with_rowid=False,
)
"""Two-way flows, one row per record and direction: how it stood when both sides last agreed.

`other_key` is the record it is paired with; `base_text` the fields of the source row that either
direction reads or writes; `notes_text` what is disputed and how often a field changed direction;
`gone` means that both sides agree on its end. `held_by` names the write that is at the pair.
"""

waiting = Table(
    "hub_waiting",
    metadata,
    Column("flow_id", NAME, primary_key=True),
    Column("source_key", KEY, primary_key=True),
    Column("scope_name", NAME, primary_key=True),
    Column("item_name", NAME, primary_key=True),
    Column("item_key", KEY, primary_key=True),
    Column("ready", Integer, nullable=False, default=0),
    Index("hub_waiting_by_item", "scope_name", "item_name", "item_key"),
    Index("hub_waiting_ready", "ready", "flow_id", "source_key"),
)
"""Held records and what they wait for: item `item_key` of a sink (`scope_name` is its connection)
or of one of the hub's entities (`hub`)."""

stage = Table(
    "hub_stage",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("row_key", KEY, primary_key=True),
    Column("group_key", KEY, nullable=False),
    Column("doc_text", LONG, nullable=False),
    Index("hub_stage_by_group", "run_id", "group_key"),
)
"""Source rows of a grouping flow, kept until the read is complete."""

record = Table(
    "hub_record",
    metadata,
    Column("entity", NAME, primary_key=True),
    Column("record_key", KEY, primary_key=True),
    Column("doc_text", LONG),
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
    Column("name", NAME, primary_key=True),
    Column("last_no", BigInteger, nullable=False),
)
"""Numbers without gaps; the row lock makes number order equal commit order."""
