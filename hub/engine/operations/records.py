"""The hub's own records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from hub.engine.operations.base import Opened, Row, capped, iso, storable
from hub.sdk.errors import ConfigError
from hub.sdk.loading import suggestion
from hub.store import records
from hub.store.rows import plain_text


class RecordOperations(Opened):
    """Reading the hub's own records."""

    def count_records(self, entity: str) -> Row:
        """How many live records the entity has."""
        with self._entity(entity) as connection:
            count = records.count_records(connection, entity)
            if count == 0:
                self._know(connection, entity)
        return {"entity": entity, "count": count}

    def records(self, entity: str, since: int, limit: int) -> Row:
        """Records in the order of their changes; ask again with `since` = `next` for more.

        Raises ConfigError when `since` lies ahead of every change: it comes from another database.
        """
        with self._entity(entity) as connection:
            rows = records.records_since(connection, entity, since, capped(limit))
            if not rows:
                self._know(connection, entity)
                _check_cursor(connection, entity, since)
        return {
            "entity": entity,
            "records": [_shown(row) for row in rows],
            "next": rows[-1]["change_no"] if rows else since,
            "more": len(rows) == capped(limit),
        }

    def record(self, entity: str, key: str) -> Row:
        """One record as it is now, also a deleted one. Raises ConfigError when there is none."""
        with self._entity(entity) as connection:
            found = records.load_record(connection, entity, key) if storable(key) else None
            if found is None:
                self._know(connection, entity)
                raise ConfigError("record.unknown", entity=entity, key=plain_text(key))
        return {"entity": entity, **_shown(found)}

    @contextmanager
    def _entity(self, entity: str) -> Iterator[sa.Connection]:
        """A connection to ask for records of the entity."""
        if not storable(entity):
            raise ConfigError("entity.unknown", entity=plain_text(entity), hint="")
        with self._hub.store.reading() as connection:
            yield connection

    def _know(self, connection: sa.Connection, entity: str) -> None:
        """An entity without records must at least be one that a flow writes."""
        known, broken = self.known_entities(connection)
        if entity not in known and not broken:
            raise ConfigError("entity.unknown", entity=entity, hint=suggestion(entity, known))

    def known_entities(self, connection: sa.Connection) -> tuple[set[str], bool]:
        """Every entity with records or a flow that writes it; whether a flow cannot be read."""
        flows, broken = self._hub.catalogue.all()
        declared = {flow.target.entity for flow in flows if flow.target.entity}
        return declared | set(records.entities(connection)), bool(broken)


def _check_cursor(connection: sa.Connection, entity: str, since: int) -> None:
    last = records.last_change_no(connection, entity)
    if since > last:
        raise ConfigError("records.ahead", entity=entity, since=since, last=last)


def _shown(row: Row) -> Row:
    return {**row, "changed_at": iso(row["changed_at"])}
