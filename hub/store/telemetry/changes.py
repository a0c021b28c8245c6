"""The dirty buckets: which (series, UTC hour) each projector transaction changed."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from hub.store.tables.telemetry import change
from hub.store.telemetry.positions import next_number

COUNTER = "change"
"""The name of the position that counts ticks."""


class Change(NamedTuple):
    """`hours` has the shape (k, 2): series, start of the UTC hour (milliseconds)."""

    tick: int
    changed_at: int
    hours: NDArray[np.int64]


def append_change(connection: Connection, hours: NDArray[np.int64], now: int) -> int:
    """Tell the consumers of `change`; the tick. To be called last in the transaction.

    From here to the commit no other process can change anything: ticks are gapless and become
    visible in their order.
    """
    tick = next_number(connection, COUNTER)
    row = {"tick": tick, "changed_at": now, "hours": _packed(hours)}
    connection.execute(change.insert().values(row))
    return tick


def read_changes(connection: Connection, after_tick: int, limit: int) -> list[Change]:
    """The changes behind `after_tick`, oldest first."""
    later = sa.select(change).where(change.c.tick > after_tick)
    found = connection.execute(later.order_by(change.c.tick).limit(limit))
    return [Change(row.tick, row.changed_at, _unpacked(bytes(row.hours))) for row in found]


def trim_changes(connection: Connection, upto_tick: int) -> int:
    """Forget the changes up to a tick that every consumer has passed; how many."""
    return connection.execute(change.delete().where(change.c.tick <= upto_tick)).rowcount


def _packed(hours: NDArray[np.int64]) -> bytes:
    """Sorted by hour and series, the differences column by column: a byte or less per bucket."""
    rows = hours[np.lexsort((hours[:, 0], hours[:, 1]))]
    steps = np.diff(rows, axis=0, prepend=np.zeros((1, 2), np.int64))
    return zlib.compress(steps.T.astype("<i8").tobytes(), 1)


def _unpacked(packed: bytes) -> NDArray[np.int64]:
    steps = np.frombuffer(zlib.decompress(packed), "<i8").reshape(2, -1)
    return np.cumsum(steps, axis=1, dtype=np.int64).T
