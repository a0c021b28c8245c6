"""First tables of the hub."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.store.tables import LongText

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "hub_dead_letter",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("flow_id", sa.String(length=120), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("source_key", sa.String(length=512), nullable=False),
        sa.Column("target_key", sa.String(length=512), nullable=True),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("field_name", sa.String(length=120), nullable=True),
        sa.Column("error_code", sa.String(length=120), nullable=False),
        sa.Column("vendor_code", sa.String(length=120), nullable=True),
        sa.Column("problems_text", LongText(), nullable=False),
        sa.Column("payload_text", LongText(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("mapping_version", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("hub_dead_letter_by_flow", "hub_dead_letter", ["flow_id", "state"])

    op.create_table(
        "hub_delivery",
        sa.Column("sink_ref", sa.String(length=120), nullable=False),
        sa.Column("target_key", sa.String(length=512), nullable=False),
        sa.Column("flow_id", sa.String(length=120), nullable=False),
        sa.Column("source_key", sa.String(length=512), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("op", sa.String(length=10), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("payload_text", LongText(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("error_text", LongText(), nullable=True),
        sa.PrimaryKeyConstraint("sink_ref", "target_key"),
    )
    op.create_index("hub_delivery_due", "hub_delivery", ["sink_ref", "due_at"])

    op.create_table(
        "hub_drain",
        sa.Column("sink_ref", sa.String(length=120), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("wakes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sink_ref"),
    )
    op.create_table(
        "hub_executor",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "hub_flow_state",
        sa.Column("flow_id", sa.String(length=120), nullable=False),
        sa.Column("watermark_at", sa.BigInteger(), nullable=True),
        sa.Column("flow_version", sa.String(length=64), nullable=True),
        sa.Column("fields_text", LongText(), nullable=True),
        sa.Column("planned_at", sa.BigInteger(), nullable=True),
        sa.Column("paused", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("flow_id"),
    )
    op.create_table(
        "hub_intent",
        sa.Column("sink_ref", sa.String(length=120), nullable=False),
        sa.Column("target_key", sa.String(length=512), nullable=False),
        sa.Column("flow_id", sa.String(length=120), nullable=False),
        sa.Column("source_key", sa.String(length=512), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("op", sa.String(length=10), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("payload_text", LongText(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("target_id", sa.String(length=512), nullable=True),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("executor_id", sa.String(length=64), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("lookups", sa.Integer(), nullable=False),
        sa.Column("error_text", LongText(), nullable=True),
        sa.PrimaryKeyConstraint("sink_ref", "target_key"),
    )
    op.create_index("hub_intent_due", "hub_intent", ["sink_ref", "due_at"])

    op.create_table(
        "hub_link",
        sa.Column("flow_id", sa.String(length=120), nullable=False),
        sa.Column("source_key", sa.String(length=512), nullable=False),
        sa.Column("target_key", sa.String(length=512), nullable=True),
        sa.Column("target_id", sa.String(length=512), nullable=True),
        sa.Column("source_hash", sa.LargeBinary(length=16), nullable=True),
        sa.Column("content_hash", sa.LargeBinary(length=16), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("pushed_revision", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("seen_run", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("flow_id", "source_key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hub_rate_gate",
        sa.Column("account", sa.String(length=120), nullable=False),
        sa.Column("free_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account"),
    )
    op.create_table(
        "hub_record",
        sa.Column("entity", sa.String(length=120), nullable=False),
        sa.Column("record_key", sa.String(length=512), nullable=False),
        sa.Column("doc_text", LongText(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("change_no", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("entity", "record_key"),
        sqlite_with_rowid=False,
    )
    op.create_index("hub_record_by_change", "hub_record", ["entity", "change_no"])

    op.create_table(
        "hub_run",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("flow_id", sa.String(length=120), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("flow_version", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("page_no", sa.Integer(), nullable=False),
        sa.Column("cursor_text", LongText(), nullable=True),
        sa.Column("pass_no", sa.Integer(), nullable=False),
        sa.Column("pass_read", sa.BigInteger(), nullable=False),
        sa.Column("pass_repeated", sa.BigInteger(), nullable=False),
        sa.Column("pass_total", sa.BigInteger(), nullable=True),
        sa.Column("since_at", sa.BigInteger(), nullable=True),
        sa.Column("source_total", sa.BigInteger(), nullable=True),
        sa.Column("rows_read", sa.BigInteger(), nullable=False),
        sa.Column("repeated", sa.BigInteger(), nullable=False),
        sa.Column("grouped", sa.BigInteger(), nullable=False),
        sa.Column("mapped", sa.BigInteger(), nullable=False),
        sa.Column("skipped", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("unchanged", sa.BigInteger(), nullable=False),
        sa.Column("written", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("coalesced", sa.BigInteger(), nullable=False),
        sa.Column("pending", sa.BigInteger(), nullable=False),
        sa.Column("resumable", sa.Integer(), nullable=False),
        sa.Column("fields_text", LongText(), nullable=True),
        sa.Column("findings_text", LongText(), nullable=True),
        sa.Column("error_code", sa.String(length=120), nullable=True),
        sa.Column("error_text", LongText(), nullable=True),
        sa.Column("queued_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("hub_run_by_flow", "hub_run", ["flow_id", "id"])

    op.create_table(
        "hub_secret",
        sa.Column("connection_id", sa.String(length=120), nullable=False),
        sa.Column("field_name", sa.String(length=120), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(length=128), nullable=False),
        sa.Column("sealed", sa.LargeBinary(length=8192), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("connection_id", "field_name"),
    )
    op.create_table(
        "hub_sequence",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("last_no", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "hub_stage",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("row_key", sa.String(length=512), nullable=False),
        sa.Column("group_key", sa.String(length=512), nullable=False),
        sa.Column("doc_text", LongText(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "row_key"),
    )
    op.create_index("hub_stage_by_group", "hub_stage", ["run_id", "group_key"])
