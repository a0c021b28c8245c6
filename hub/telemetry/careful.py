"""A message that kills the process: found out by taking messages singly and marking each before.

A decoder that never returns memory or crashes the interpreter leaves no exception behind. After
such a death messages are taken one by one for a while, and one that was begun three times without
ever being finished is quarantined unread.
"""

from __future__ import annotations

from hub.store.database import Store
from hub.store.telemetry.inbox import StoredMessage
from hub.store.telemetry.positions import advance, position

MOST_TRIES = 3
_SINGLY = 300
_BASE = 16


class Care:
    """How many messages are still to be taken singly."""

    def __init__(self, store: Store, *, careful: bool) -> None:
        self._store = store
        self._left = _SINGLY if careful else 0

    @property
    def singly(self) -> bool:
        """Whether the next message is to be projected alone."""
        return self._left > 0

    def kills(self, message: StoredMessage, now: int) -> bool:
        """Mark that the message is begun; whether it was so too often."""
        self._left -= 1
        name = f"tries:{message.part}"
        with self._store.transaction() as connection:
            seq, tries = divmod(position(connection, name), _BASE)
            tries = tries + 1 if seq == message.seq else 1
            if tries > MOST_TRIES:
                return True
            advance(connection, name, message.seq * _BASE + tries, now)
        return False
