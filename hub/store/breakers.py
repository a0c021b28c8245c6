"""Circuit breakers as every process sees them. Times are milliseconds of the database's clock."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.tables import breaker


@dataclass(frozen=True, slots=True)
class Standing:
    """How a connection stands: `failures` in a row; open since `opened_at`, closed when None."""

    connection_id: str
    failures: int = 0
    opened_at: int | None = None
    no_call_until: int = 0
    probe_holder: str | None = None
    probe_until: int = 0
    reason_text: str | None = None

    @property
    def faultless(self) -> bool:
        return self.failures == 0 and self.opened_at is None


def load_standing(connection: Connection, name: str) -> Standing:
    """How the connection stands; faultless when nothing was ever wrong with it."""
    found = connection.execute(sa.select(breaker).where(breaker.c.connection_id == name)).first()
    return Standing(name) if found is None else Standing(**found._mapping)


def lock_standing(connection: Connection, name: str) -> Standing:
    """The same, and everybody else who changes it waits for our commit."""
    row = sa.select(breaker).where(breaker.c.connection_id == name).with_for_update()
    found = connection.execute(row).first()
    if found is None:
        try:
            with connection.begin_nested():
                connection.execute(breaker.insert().values(_values(Standing(name))))
        except sa.exc.IntegrityError:
            pass  # another process was first; its row is there now
        found = connection.execute(row).one()
    return Standing(**found._mapping)


def save_standing(connection: Connection, standing: Standing) -> None:
    """Replace what is known; the row is locked by `lock_standing`."""
    this = breaker.c.connection_id == standing.connection_id
    connection.execute(breaker.update().where(this).values(_values(standing)))


def open_standings(connection: Connection) -> list[Standing]:
    """Every connection that is left alone at present."""
    statement = sa.select(breaker).where(breaker.c.opened_at.is_not(None))
    found = connection.execute(statement.order_by(breaker.c.connection_id))
    return [Standing(**row._mapping) for row in found]


def _values(standing: Standing) -> dict[str, object]:
    return {name: getattr(standing, name) for name in Standing.__slots__}
