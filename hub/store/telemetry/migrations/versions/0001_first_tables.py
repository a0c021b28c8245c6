"""First tables of devices and readings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hub.store.tables import LongText

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "hub_chunk",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_ts", sa.BigInteger(), nullable=False),
        sa.Column("low", sa.Double(), nullable=False),
        sa.Column("high", sa.Double(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.Column("points", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", "start"),
        postgresql_partition_by="RANGE (start)",
    )
    op.create_index("hub_chunk_time", "hub_chunk", ["start"], postgresql_using="brin")
    if op.get_bind().dialect.name == "postgresql":
        # Readings are packed already; a second packing would only cost time.
        op.execute("ALTER TABLE hub_chunk ALTER COLUMN points SET STORAGE EXTERNAL")
    op.create_table(
        "hub_device",
        sa.Column("device_id", ID, autoincrement=True, nullable=False),
        sa.Column("tenant", sa.String(length=120), nullable=False),
        sa.Column("gateway", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(length=120), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("kind", sa.String(length=120), server_default="", nullable=False),
        sa.Column("zone", sa.String(length=64), server_default="", nullable=False),
        sa.Column("title", sa.String(length=255), server_default="", nullable=False),
        sa.Column("customer_id", sa.String(length=512), server_default="", nullable=False),
        sa.Column("serial_no", sa.String(length=120), server_default="", nullable=False),
        sa.Column("client_attributes", LongText(), nullable=False),
        sa.Column("shared_attributes", LongText(), nullable=False),
        sa.Column("online", sa.String(length=10), server_default="", nullable=False),
        sa.Column("online_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=True),
        sa.Column("latest_ts", sa.BigInteger(), nullable=True),
        sa.Column("skew_ms", sa.BigInteger(), nullable=True),
        sa.Column("readings", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("late", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("duplicates", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("restated", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("quarantined", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("device_id"),
        sa.UniqueConstraint("tenant", "gateway", "name"),
    )
    op.create_index("hub_device_name", "hub_device", ["name"])
    op.create_table(
        "hub_device_credential",
        sa.Column("credential_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("lookup", sa.String(length=255), nullable=False),
        sa.Column("verifier", sa.String(length=255), server_default="", nullable=False),
        sa.Column("source", sa.String(length=120), nullable=False),
        sa.Column("device", sa.String(length=255), nullable=False),
        sa.Column("gateway", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("credential_id"),
        sa.UniqueConstraint("kind", "lookup"),
    )
    op.create_index("hub_device_credential_device", "hub_device_credential", ["device"])
    op.create_index("hub_device_credential_revoked", "hub_device_credential", ["revoked_at"])
    op.create_table(
        "hub_quarantine",
        sa.Column("part", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(length=120), nullable=False),
        sa.Column("sender", sa.String(length=255), nullable=False),
        sa.Column("device", sa.String(length=255), nullable=False),
        sa.Column("metric", sa.String(length=255), nullable=False),
        sa.Column("code", sa.String(length=30), nullable=False),
        sa.Column("detail", sa.String(length=500), nullable=False),
        sa.Column("format", sa.String(length=60), nullable=False),
        sa.Column("sample", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("part", "seq", "position"),
    )
    op.create_index("hub_quarantine_time", "hub_quarantine", ["received_at"])

    op.create_table(
        "hub_rollup",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("span", sa.String(length=1), nullable=False),
        sa.Column("start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("low", sa.Double(), nullable=False),
        sa.Column("high", sa.Double(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.Column("squares", sa.Double(), nullable=False),
        sa.Column("last_ts", sa.BigInteger(), nullable=False),
        sa.Column("last_value", sa.Double(), nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", "span", "start"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hub_series",
        sa.Column("series_id", ID, autoincrement=True, nullable=False),
        sa.Column("device_id", ID, nullable=False),
        sa.Column("metric", sa.String(length=255), nullable=False),
        sa.Column("unit", sa.String(length=40), server_default="", nullable=False),
        sa.Column("last_ts", sa.BigInteger(), nullable=True),
        sa.Column("last_value", sa.Double(), nullable=True),
        sa.Column("last_received_at", sa.BigInteger(), nullable=True),
        sa.Column("last_known", sa.SmallInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("series_id"),
        sa.UniqueConstraint("device_id", "metric"),
    )
    op.create_table(
        "hub_rollup_due",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("span", sa.String(length=1), nullable=False),
        sa.Column("start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("ready_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", "span", "start"),
        sqlite_with_rowid=False,
    )
    op.create_index("hub_rollup_due_ready", "hub_rollup_due", ["ready_at"])
    op.create_table(
        "hub_rollup_zone",
        sa.Column("device_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("device_id"),
    )
    op.create_table(
        "hub_telemetry_removed_day",
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day"),
    )
    op.create_table(
        "hub_telemetry_archive_file",
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("place", sa.String(length=500), nullable=False),
        sa.Column("readings", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("checksum", sa.String(length=64), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "part"),
    )
    op.create_table(
        "hub_telemetry_change",
        sa.Column("tick", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("hours", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tick"),
    )
    op.create_table(
        "hub_telemetry_outcome",
        sa.Column("part", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("duplicates", sa.Integer(), nullable=False),
        sa.Column("restated", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("part", "seq"),
    )
    op.create_table(
        "hub_telemetry_position",
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(length=64), server_default="", nullable=False),
        sa.Column("owned_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "hub_text_reading",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("text", LongText(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", "ts"),
        sqlite_with_rowid=False,
    )
    op.create_index("hub_text_reading_time", "hub_text_reading", ["ts"])
