"""Alembic's entry to the history of the inbox of telemetry."""

from __future__ import annotations

from hub.store.migrate import TELEMETRY_INBOX, run_in_context

run_in_context(TELEMETRY_INBOX)
