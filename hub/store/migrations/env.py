"""Alembic's entry to the history of the hub's own tables."""

from __future__ import annotations

from hub.store.migrate import HUB, run_in_context

run_in_context(HUB)
