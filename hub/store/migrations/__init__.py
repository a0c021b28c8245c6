"""Alembic revisions of the hub's tables."""
