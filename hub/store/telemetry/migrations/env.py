"""Alembic's entry to the history of readings and devices."""

from __future__ import annotations

from hub.store.migrate import TELEMETRY, run_in_context

run_in_context(TELEMETRY)
