"""Tables of telemetry. On SQLite they live in files of their own, so they have their own metadata.

`inbox_metadata` is written by the processes that accept messages, `telemetry_metadata` by the
projector (and, rarely, by an operator): on SQLite these are two files, and neither waits for the
other. On PostgreSQL both are in one database, with the hub's own tables or apart.

Times are UTC milliseconds. A series is one metric of one device.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
)

from hub.store.tables.base import ID, KEY, LONG, NAME

inbox_metadata = MetaData()
telemetry_metadata = MetaData()

# --- inbox ------------------------------------------------------------------------------------

telemetry_message = Table(
    "hub_telemetry_message",
    inbox_metadata,
    # Gapless per part, in the order of commits: a reader never sees a number before a lower one.
    Column("part", SmallInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("received_at", BigInteger, nullable=False),
    Column("source", NAME, nullable=False),
    Column("sender", String(255), nullable=False),
    Column("gateway", SmallInteger, nullable=False),
    Column("format", String(60), nullable=False),
    Column("details", LONG, nullable=False),  # JSON object of strings, "" for none
    Column("counted", SmallInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Raw messages until they are projected and old enough."""

telemetry_seen = Table(
    "hub_telemetry_seen",
    inbox_metadata,
    Column("source", NAME, primary_key=True),
    Column("message_key", String(300), primary_key=True),
    Column("seen_at", BigInteger, nullable=False),
    Column("part", SmallInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Keys by which a message is recognised when it is sent again."""

Index("hub_telemetry_seen_old", telemetry_seen.c.seen_at)

telemetry_part = Table(
    "hub_telemetry_part",
    inbox_metadata,
    Column("part", SmallInteger, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
)
"""The last number given out per part; its row is locked to the commit."""

# --- who and what -----------------------------------------------------------------------------

device = Table(
    "hub_device",
    telemetry_metadata,
    Column("device_id", ID, primary_key=True, autoincrement=True),
    Column("tenant", NAME, nullable=False),
    Column("gateway", String(255), nullable=False),  # "" for one that speaks for itself
    Column("name", String(255), nullable=False),
    Column("source", NAME, nullable=False),
    Column("state", String(20), nullable=False),  # active | waiting | refused
    Column("kind", NAME, nullable=False, server_default=""),  # device class
    Column("zone", String(64), nullable=False, server_default=""),
    Column("title", String(255), nullable=False, server_default=""),
    Column("customer_id", KEY, nullable=False, server_default=""),
    Column("serial_no", String(120), nullable=False, server_default=""),
    Column("client_attributes", LONG, nullable=False),  # JSON object
    Column("shared_attributes", LONG, nullable=False),  # JSON object
    Column(
        "online", String(10), nullable=False, server_default=""
    ),  # "" | online | offline | stale
    Column("online_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger),  # receipt of its latest message
    Column("latest_ts", BigInteger),  # event time of its newest reading
    Column("skew_ms", BigInteger),  # its clock minus ours, smoothed
    Column("readings", BigInteger, nullable=False, server_default="0"),
    Column("late", BigInteger, nullable=False, server_default="0"),
    Column("duplicates", BigInteger, nullable=False, server_default="0"),
    Column("restated", BigInteger, nullable=False, server_default="0"),
    Column("quarantined", BigInteger, nullable=False, server_default="0"),
    sa.UniqueConstraint("tenant", "gateway", "name"),
)
"""The device registry with what an operator sees of each device."""

Index("hub_device_name", device.c.name)

credential = Table(
    "hub_device_credential",
    telemetry_metadata,
    Column("credential_id", String(32), primary_key=True),
    Column("kind", String(12), nullable=False),  # token | password | certificate
    Column("lookup", String(255), nullable=False),  # SHA-256 of a token, a user name, fingerprint
    Column("verifier", String(255), nullable=False, server_default=""),  # scrypt of a password
    Column("source", NAME, nullable=False),
    Column("device", String(255), nullable=False),
    Column("gateway", SmallInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    sa.UniqueConstraint("kind", "lookup"),
)

Index("hub_device_credential_device", credential.c.device)
Index("hub_device_credential_revoked", credential.c.revoked_at)

series = Table(
    "hub_series",
    telemetry_metadata,
    Column("series_id", ID, primary_key=True, autoincrement=True),
    Column("device_id", ID, nullable=False),
    Column("metric", String(255), nullable=False),
    Column("unit", String(40), nullable=False, server_default=""),
    Column("last_ts", BigInteger),  # newest reading, or
    Column("last_value", Double),
    Column("last_received_at", BigInteger),
    Column("last_known", SmallInteger, nullable=False, server_default="0"),  # 1: time unknown
    sa.UniqueConstraint("device_id", "metric"),
)

# --- readings ---------------------------------------------------------------------------------

chunk = Table(
    "hub_chunk",
    telemetry_metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("count", Integer, nullable=False),
    Column("last_ts", BigInteger, nullable=False),
    Column("low", Double, nullable=False),
    Column("high", Double, nullable=False),
    Column("total", Double, nullable=False),
    Column("points", LargeBinary, nullable=False),
    postgresql_partition_by="RANGE (start)",
)
"""Readings of a series from `start` to the next chunk's start, at most to the end of its UTC hour.

On PostgreSQL partitioned by `start` (a partition per UTC week). On SQLite it has row ids on
purpose: the chunks of an hour, which change together, then lie together; ordered by its key the
same changes touch twenty times as many pages.
"""

Index("hub_chunk_time", chunk.c.start, postgresql_using="brin")

text_reading = Table(
    "hub_text_reading",
    telemetry_metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("ts", BigInteger, primary_key=True, autoincrement=False),
    Column("text", LONG, nullable=False),
    sqlite_with_rowid=False,
)

Index("hub_text_reading_time", text_reading.c.ts)

rollup = Table(
    "hub_rollup",
    telemetry_metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("span", String(1), primary_key=True),  # h: UTC hour, d: local day
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("low", Double, nullable=False),
    Column("high", Double, nullable=False),
    Column("total", Double, nullable=False),
    Column("squares", Double, nullable=False),  # of the differences from the mean, added up
    Column("last_ts", BigInteger, nullable=False),
    Column("last_value", Double, nullable=False),
    Column("sketch", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

rollup_due = Table(
    "hub_rollup_due",
    telemetry_metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("span", String(1), primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("since", BigInteger, nullable=False),  # when it was first changed
    Column("ready_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Hours and days whose roll-up is not what the chunks say, until it is recomputed."""

Index("hub_rollup_due_ready", rollup_due.c.ready_at)

rollup_zone = Table(
    "hub_rollup_zone",
    telemetry_metadata,
    Column("device_id", BigInteger, primary_key=True, autoincrement=False),
    Column("zone", String(64), nullable=False),
)
"""The zone in which a device's days are rolled up."""

removed_day = Table(
    "hub_telemetry_removed_day",
    telemetry_metadata,
    Column("day", BigInteger, primary_key=True, autoincrement=False),  # start of the UTC day
    Column("state", String(10), nullable=False),  # dropped | restoring | restored
    Column("until", BigInteger, nullable=False),  # restored: when it may be dropped again
)
"""UTC days whose chunks are gone or came back from the archive; their roll-ups stay."""

archive_file = Table(
    "hub_telemetry_archive_file",
    telemetry_metadata,
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("name", String(255), nullable=False),
    Column("place", String(500), nullable=False),
    Column("readings", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("checksum", String(64), nullable=False),
    Column("made_at", BigInteger, nullable=False),
)
"""The verified files of the archive. A day's later files hold what came after the first."""

change = Table(
    "hub_telemetry_change",
    telemetry_metadata,
    Column("tick", BigInteger, primary_key=True, autoincrement=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("hours", LargeBinary, nullable=False),
)
"""The dirty buckets: one row per projector transaction, with every (series, UTC hour) it changed.

Gapless and in the order of commits; each consumer keeps its own position (`position`).
"""

position = Table(
    "hub_telemetry_position",
    telemetry_metadata,
    Column("name", String(60), primary_key=True),  # part:0 … , rollup, …
    Column("seq", BigInteger, nullable=False),
    Column("moved_at", BigInteger, nullable=False),
    Column("owner", String(64), nullable=False, server_default=""),
    Column("owned_until", BigInteger, nullable=False, server_default="0"),
)
"""How far the projector and each consumer of `change` are, and who works on it until when."""

outcome = Table(
    "hub_telemetry_outcome",
    telemetry_metadata,
    Column("part", SmallInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("accepted", Integer, nullable=False),
    Column("duplicates", Integer, nullable=False),
    Column("restated", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("done_at", BigInteger, nullable=False),
)
"""Counts of the messages that asked for them; a minute old they go."""

quarantine = Table(
    "hub_quarantine",
    telemetry_metadata,
    Column("part", SmallInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),  # -1: the whole message
    Column("received_at", BigInteger, nullable=False),
    Column("source", NAME, nullable=False),
    Column("sender", String(255), nullable=False),
    Column("device", String(255), nullable=False),
    Column("metric", String(255), nullable=False),
    Column("code", String(30), nullable=False),
    Column("detail", String(500), nullable=False),
    Column("format", String(60), nullable=False),
    Column("sample", LargeBinary, nullable=False),  # at most 4 KB of the body around it
)
"""What can never become a reading, with the reason."""

Index("hub_quarantine_time", quarantine.c.received_at)
