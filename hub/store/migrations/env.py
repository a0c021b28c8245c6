"""Alembic's entry: always online, on the connection that `hub.store.migrate` opened."""

from __future__ import annotations

from alembic import context

from hub.store.migrate import VERSION_TABLE
from hub.store.tables import metadata


def _ours(name: str | None, kind: str, _parents: object) -> bool:
    # The workflow engine keeps its tables in the same file; autogenerate must not drop them.
    return kind != "table" or (name or "").startswith("hub_")


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=_ours,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
