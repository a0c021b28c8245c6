"""The hub's own records."""

from __future__ import annotations

import sqlalchemy as sa

from hub.engine.operations.base import Opened, Row, capped
from hub.sdk.errors import ConfigError
from hub.sdk.loading import suggestion
from hub.store import records


class RecordOperations(Opened):
    """Reading the hub's own records."""

    def count_records(self, entity: str) -> Row:
        """How many live records the entity has."""
        with self._hub.store.reading() as connection:
            count = records.count_records(connection, entity)
            if count == 0:
                self._know(connection, entity)
        return {"entity": entity, "count": count}

    def records(self, entity: str, since: int, limit: int) -> Row:
        """Records in the order of their changes; ask again with `since` = `next` for more."""
        with self._hub.store.reading() as connection:
            rows = records.records_since(connection, entity, since, capped(limit))
            if not rows:
                self._know(connection, entity)
        return {
            "entity": entity,
            "records": rows,
            "next": rows[-1]["change_no"] if rows else since,
            "more": len(rows) == capped(limit),
        }

    def _know(self, connection: sa.Connection, entity: str) -> None:
        """An entity without records must at least be one that a flow writes."""
        flows, broken = self._hub.catalogue.all()
        declared = {flow.target.entity for flow in flows if flow.target.entity}
        known = declared | set(records.entities(connection))
        if entity not in known and not broken:
            raise ConfigError("entity.unknown", entity=entity, hint=suggestion(entity, known))
