"""Why a transaction failed, by what should happen next."""

from __future__ import annotations

from enum import Enum

import sqlalchemy as sa

from hub.sdk.errors import ContractBroken, HubError


class Trouble(Enum):
    """`AGAIN`: another process was in the way. `MESSAGE`: something in the batch is not taken.
    `STORE`: the database is away, full or not as it should be, or the work is not ours any more."""

    AGAIN = "again"
    MESSAGE = "message"
    STORE = "store"


_DATA = ("22", "23", "54")  # data, constraint, limit of the program
_AGAIN = ("40",)  # deadlock, serialization


def trouble_of(error: Exception) -> Trouble:
    """What to do about a failed transaction."""
    if isinstance(error, ContractBroken):
        return Trouble.MESSAGE  # a damaged chunk: all but what belongs to it goes on
    if isinstance(error, HubError | OSError | MemoryError):
        return Trouble.STORE
    if not isinstance(error, sa.exc.SQLAlchemyError):
        return Trouble.MESSAGE
    if not isinstance(error, sa.exc.DBAPIError):
        return Trouble.STORE
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return _of_state(state)
    return _of_kind(error)


def _of_state(state: str) -> Trouble:
    if state.startswith(_AGAIN):
        return Trouble.AGAIN
    return Trouble.MESSAGE if state.startswith(_DATA) else Trouble.STORE


def _of_kind(error: sa.exc.DBAPIError) -> Trouble:
    """Without a state: SQLite, or a driver that refuses a value before it sends it."""
    text = str(error.orig)
    if "locked" in text or "busy" in text:
        return Trouble.AGAIN
    # SQLite says neither more nor less of a damaged file: no message is to blame for it.
    damaged = type(error) is sa.exc.DatabaseError
    away = damaged or isinstance(error, sa.exc.OperationalError | sa.exc.InternalError)
    return Trouble.STORE if away or error.connection_invalidated else Trouble.MESSAGE
