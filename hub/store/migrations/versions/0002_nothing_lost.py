"""Inbox, webhooks, replay, audit, two-way flows and shared limits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.store.tables import LongText

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "hub_agreement",
        sa.Column("flow_id", sa.String(length=120), nullable=False),
        sa.Column("source_key", sa.String(length=512), nullable=False),
        sa.Column("other_key", sa.String(length=512), nullable=True),
        sa.Column("base_text", LongText(), nullable=True),
        sa.Column("notes_text", LongText(), nullable=True),
        sa.Column("gone", sa.Integer(), nullable=False),
        sa.Column("held_by", sa.String(length=60), nullable=True),
        sa.PrimaryKeyConstraint("flow_id", "source_key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hub_audit",
        sa.Column("entry_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("happened_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=120), nullable=False),
        sa.Column("action", sa.String(length=120), nullable=False),
        sa.Column("subject", sa.String(length=512), nullable=False),
        sa.Column("details_text", LongText(), nullable=False),
        sa.Column("entry_hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("entry_no"),
    )
    op.create_table(
        "hub_breaker",
        sa.Column("connection_id", sa.String(length=120), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=True),
        sa.Column("no_call_until", sa.BigInteger(), nullable=False),
        sa.Column("probe_holder", sa.String(length=64), nullable=True),
        sa.Column("probe_until", sa.BigInteger(), nullable=False),
        sa.Column("reason_text", LongText(), nullable=True),
        sa.PrimaryKeyConstraint("connection_id"),
    )
    op.create_table(
        "hub_inbox",
        sa.Column("connection_id", sa.String(length=120), nullable=False),
        sa.Column("event_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.String(length=512), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.String(length=120), nullable=True),
        sa.Column("body", sa.LargeBinary(length=16777215), nullable=True),
        sa.PrimaryKeyConstraint("connection_id", "event_no"),
        sqlite_with_rowid=False,
    )
    op.create_index("hub_inbox_by_event", "hub_inbox", ["connection_id", "event_id"], unique=True)

    op.create_table(
        "hub_message",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("subscription_id", sa.String(length=40), nullable=False),
        sa.Column("event_type", sa.String(length=120), nullable=False),
        sa.Column("entity", sa.String(length=120), nullable=True),
        sa.Column("record_key", sa.String(length=512), nullable=True),
        sa.Column("change_no", sa.BigInteger(), nullable=False),
        sa.Column("payload_text", LongText(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("claimed_by", sa.String(length=64), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("hub_message_due", "hub_message", ["subscription_id", "state", "due_at"])

    op.create_table(
        "hub_message_attempt",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("message_id", sa.String(length=64), nullable=False),
        sa.Column("subscription_id", sa.String(length=40), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("took_ms", sa.Integer(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error_text", LongText(), nullable=True),
        sa.Column("answer_text", LongText(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "hub_message_attempt_by_subscription", "hub_message_attempt", ["subscription_id", "id"]
    )

    op.create_table(
        "hub_place",
        sa.Column("account", sa.String(length=120), nullable=False),
        sa.Column("place_no", sa.Integer(), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=True),
        sa.Column("held_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "place_no"),
    )
    op.create_table(
        "hub_replay",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("flow_id", sa.String(length=120), nullable=False),
        sa.Column("letter_id", sa.String(length=40), nullable=True),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("filter_text", LongText(), nullable=False),
        sa.Column("after_at", sa.BigInteger(), nullable=True),
        sa.Column("after_id", sa.String(length=40), nullable=True),
        sa.Column("per_second", sa.Double(), nullable=True),
        sa.Column("requested_by", sa.String(length=120), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("replayed", sa.BigInteger(), nullable=False),
        sa.Column("passed_over", sa.BigInteger(), nullable=False),
        sa.Column("error_text", LongText(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "hub_subscription",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("url", LongText(), nullable=False),
        sa.Column("title", sa.String(length=120), nullable=True),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("old_secret_until", sa.BigInteger(), nullable=True),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("hold_until", sa.BigInteger(), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("wake_no", sa.BigInteger(), nullable=False),
        sa.Column("later_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "hub_subscription_position",
        sa.Column("subscription_id", sa.String(length=40), nullable=False),
        sa.Column("entity", sa.String(length=120), nullable=False),
        sa.Column("change_no", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subscription_id", "entity"),
    )
    op.create_table(
        "hub_waiting",
        sa.Column("flow_id", sa.String(length=120), nullable=False),
        sa.Column("source_key", sa.String(length=512), nullable=False),
        sa.Column("scope_name", sa.String(length=120), nullable=False),
        sa.Column("item_name", sa.String(length=120), nullable=False),
        sa.Column("item_key", sa.String(length=512), nullable=False),
        sa.Column("ready", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("flow_id", "source_key", "scope_name", "item_name", "item_key"),
    )
    op.create_index("hub_waiting_by_item", "hub_waiting", ["scope_name", "item_name", "item_key"])
    op.create_index("hub_waiting_ready", "hub_waiting", ["ready", "flow_id", "source_key"])

    op.add_column("hub_dead_letter", sa.Column("revision", sa.Integer(), nullable=True))
    op.add_column("hub_dead_letter", sa.Column("op", sa.String(length=10), nullable=True))
    op.add_column("hub_dead_letter", sa.Column("edited_text", LongText(), nullable=True))
    op.add_column("hub_dead_letter", sa.Column("closed_by", sa.String(length=120), nullable=True))
    op.add_column("hub_dead_letter", sa.Column("closed_how", sa.String(length=20), nullable=True))
    op.add_column("hub_dead_letter", sa.Column("note_text", LongText(), nullable=True))
    op.add_column("hub_dead_letter", sa.Column("replay_id", sa.String(length=40), nullable=True))
    op.add_column("hub_dead_letter", sa.Column("sink_ref", sa.String(length=120), nullable=True))
    op.add_column(
        "hub_dead_letter",
        sa.Column("opened_at", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.execute("UPDATE hub_dead_letter SET opened_at = updated_at")
    op.drop_index("hub_dead_letter_by_flow", "hub_dead_letter")
    op.create_index(
        "hub_dead_letter_by_flow", "hub_dead_letter", ["flow_id", "state", "opened_at", "id"]
    )
    op.create_index("hub_dead_letter_by_age", "hub_dead_letter", ["state", "opened_at", "id"])
    op.create_index(
        "hub_dead_letter_by_reason",
        "hub_dead_letter",
        ["state", "flow_id", "kind", "error_code", "field_name", "vendor_code"],
    )
    op.create_index("hub_dead_letter_by_replay", "hub_dead_letter", ["replay_id", "state"])

    op.add_column(
        "hub_drain",
        sa.Column("later_at", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.add_column("hub_executor", sa.Column("started_at", sa.BigInteger(), nullable=True))
    op.add_column("hub_executor", sa.Column("kind", sa.String(length=12), nullable=True))
    op.add_column("hub_executor", sa.Column("host_name", sa.String(length=120), nullable=True))
    op.add_column("hub_executor", sa.Column("pid", sa.Integer(), nullable=True))
    op.add_column(
        "hub_executor", sa.Column("program_version", sa.String(length=120), nullable=True)
    )
    op.add_column("hub_executor", sa.Column("jobs_text", LongText(), nullable=True))

    op.add_column("hub_flow_state", sa.Column("full_mark", sa.BigInteger(), nullable=True))
    op.add_column("hub_flow_state", sa.Column("inbox_no", sa.BigInteger(), nullable=True))
    op.add_column("hub_flow_state", sa.Column("inbox_of", sa.String(length=120), nullable=True))

    op.create_index("hub_link_by_target", "hub_link", ["flow_id", "target_id"])

    for name in ("folded", "removed"):
        op.add_column(
            "hub_run", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        )
    op.add_column("hub_run", sa.Column("delete_guard", sa.Double(), nullable=True))
