"""What held records wait for: items of a sink or of an entity that are not there yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.rows import key_filters
from hub.store.tables import link, waiting


class Wait(NamedTuple):
    """A held record and one item it waits for; the fields are the table's columns."""

    flow_id: str
    source_key: str
    scope_name: str
    item_name: str
    item_key: str
    ready: int = 0


def put_waits(connection: Connection, waits: Iterable[Wait]) -> None:
    """Note what held records wait for."""
    rows = [one._asdict() for one in dict.fromkeys(waits)]
    if rows:
        connection.execute(waiting.insert(), rows)


def forget_waits(connection: Connection, flow_id: str, source_keys: Sequence[str]) -> None:
    """These records wait no longer, or for something else."""
    for condition, params in key_filters(connection, waiting.c.source_key, source_keys):
        statement = waiting.delete().where(waiting.c.flow_id == sa.bindparam("flow"), condition)
        connection.execute(statement, {"flow": flow_id, **params})


def mark_ready(
    connection: Connection, scope: str, item: str, item_keys: Sequence[str]
) -> list[str]:
    """These items have arrived; the flows that waited for one of them.

    Nearly always nothing waits, which one look into the index tells.
    """
    this = (waiting.c.scope_name == scope, waiting.c.item_name == item)
    anyone = sa.select(waiting.c.flow_id).where(*this).limit(1)
    if not item_keys or connection.execute(anyone).first() is None:
        return []
    flows: set[str] = set()
    for condition, params in key_filters(connection, waiting.c.item_key, item_keys):
        here = (
            waiting.c.scope_name == sa.bindparam("scope"),
            waiting.c.item_name == sa.bindparam("item"),
            # Not the bare column: all that wait would be walked for these few items.
            sa.func.coalesce(waiting.c.ready, 0) == 0,
            condition,
        )
        bound = {"scope": scope, "item": item, **params}
        found = sa.select(waiting.c.flow_id).where(*here).distinct()
        flows.update(connection.execute(found, bound).scalars())
        connection.execute(waiting.update().where(*here).values(ready=1), bound)
    return sorted(flows)


def ready_records(connection: Connection, flow_id: str, limit: int) -> list[str]:
    """Source keys of held records that wait for nothing any more."""
    other = waiting.alias("other_wait")
    still = sa.exists().where(
        other.c.flow_id == waiting.c.flow_id,
        other.c.source_key == waiting.c.source_key,
        other.c.ready == 0,
    )
    statement = (
        sa.select(waiting.c.source_key)
        .distinct()
        .where(waiting.c.flow_id == flow_id, waiting.c.ready == 1, ~still)
        .order_by(waiting.c.source_key)
        .limit(limit)
    )
    return list(connection.execute(statement).scalars())


def flows_with_ready(connection: Connection) -> list[str]:
    """Flows with an item that has arrived; its record may wait for others still."""
    statement = sa.select(waiting.c.flow_id).distinct().where(waiting.c.ready == 1)
    return sorted(connection.execute(statement).scalars())


def wanted_items(connection: Connection) -> list[tuple[str, str]]:
    """Scope and name of everything some record waits for."""
    statement = sa.select(waiting.c.scope_name, waiting.c.item_name).distinct()
    return [(scope, item) for scope, item in connection.execute(statement)]


def mark_there(connection: Connection, scope: str, item: str, feeding: Sequence[str]) -> list[str]:
    """Mark the items that one of the `feeding` flows has brought; the flows that waited for one.

    Looks at every wait: for what `mark_ready` cannot see, such as a flow that was added.
    """
    there = sa.exists().where(
        link.c.flow_id.in_(feeding),
        link.c.source_key == waiting.c.item_key,
        link.c.target_id.is_not(None),
    )
    here = (
        waiting.c.scope_name == scope,
        waiting.c.item_name == item,
        waiting.c.ready == 0,
        there,
    )
    flows = connection.execute(sa.select(waiting.c.flow_id).where(*here).distinct()).scalars()
    found = sorted(flows)
    if found:
        connection.execute(waiting.update().where(*here).values(ready=1))
    return found
