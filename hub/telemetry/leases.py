"""The parts of the inbox that this process works on, for as long as its lease runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hub.store.database import Store
from hub.store.telemetry.positions import evict, leave, renew_parts

LEASE_SECONDS = 6.0
"""Who shows no sign of life for so long loses its parts."""

_RENEWALS = 4
_ALONE_SECONDS = 86_400.0


class Leases:
    """`held` are our parts with their positions.

    On SQLite the caller has made sure that no other projector lives (a lock on a file), so nothing
    has to be renewed. `after` names an owner that is known to be dead.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        parts: Sequence[int],
        *,
        after: str = "",
        seconds: float = LEASE_SECONDS,
    ) -> None:
        self.owner = owner
        self.held: dict[int, int] = {}
        self._store = store
        self._parts = parts
        self._after = after
        self._seconds = _ALONE_SECONDS if store.embedded else seconds
        self._due = 0.0
        self._evicted = False

    def renew(self) -> None:
        """Show that we live, give up parts to others and take abandoned ones, when it is time."""
        if time.monotonic() < self._due:
            return
        with self._store.side_transaction() as connection:
            if self._store.embedded and not self._evicted:
                evict(connection)
            found = renew_parts(
                connection, self.owner, self._parts, self._seconds, after=self._after
            )
        self._evicted = True
        self._due = time.monotonic() + self._seconds / _RENEWALS
        self.held = {one.part: one.seq for one in found}

    def forget(self) -> None:
        """Somebody else has moved on one of our parts: look again."""
        self.held.clear()
        self._due = 0.0

    def give_up(self) -> None:
        """The process ends in order."""
        self.held.clear()
        with self._store.side_transaction() as connection:
            leave(connection, self.owner)
