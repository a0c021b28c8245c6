"""First tables of the inbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.store.tables import LongText

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "hub_telemetry_message",
        sa.Column("part", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(length=120), nullable=False),
        sa.Column("sender", sa.String(length=255), nullable=False),
        sa.Column("gateway", sa.SmallInteger(), nullable=False),
        sa.Column("format", sa.String(length=60), nullable=False),
        sa.Column("details", LongText(), nullable=False),
        sa.Column("counted", sa.SmallInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("part", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hub_telemetry_part",
        sa.Column("part", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("part"),
    )
    op.create_table(
        "hub_telemetry_seen",
        sa.Column("source", sa.String(length=120), nullable=False),
        sa.Column("message_key", sa.String(length=300), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "message_key"),
        sqlite_with_rowid=False,
    )
    op.create_index("hub_telemetry_seen_old", "hub_telemetry_seen", ["seen_at"])
    if op.get_bind().dialect.name == "postgresql":
        # Messages stay for an hour: to compress them costs half of the rate they come in at.
        op.execute("ALTER TABLE hub_telemetry_message ALTER COLUMN body SET STORAGE EXTERNAL")
