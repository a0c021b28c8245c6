"""Where the projector reads raw messages from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from hub.store.database import Store
from hub.store.telemetry.inbox import StoredMessage, last_seqs, read_after

log = logging.getLogger("hub.telemetry.feed")


class Taken(NamedTuple):
    """Messages in the order of their parts, and how many wait, these among them."""

    messages: list[StoredMessage]
    waiting: int


class Feed(Protocol):
    """Messages part by part, in the order of their numbers."""

    def take(self, held: Mapping[int, int], most_bytes: int, most_rows: int) -> Taken:
        """The messages behind the positions in `held`; at least one, however large, when one waits.

        `held` says what is committed: whatever was taken beyond it is given out again. Raises
        LostRace when positions were changed, TransientError when the messages cannot be reached.
        """


class TableFeed:
    """The inbox in the database."""

    def __init__(self, inbox: Store) -> None:
        self._inbox = inbox
        self._turns = Turns()

    def take(self, held: Mapping[int, int], most_bytes: int, most_rows: int) -> Taken:
        """See `Feed`."""
        found: list[StoredMessage] = []
        with self._inbox.reading() as connection:
            heads = last_seqs(connection)
            behind = {part: heads[part] - seq for part, seq in held.items() if part in heads}
            for part in self._turns.of([part for part in behind if behind[part] > 0]):
                rows = most_rows - len(found)
                if most_bytes <= 0 or rows <= 0:
                    break
                page = read_after(connection, part, held[part], most_bytes, rows)
                if page and page[0].seq > held[part] + 1:
                    # Numbers are gapless: the readings are older than the inbox, or were lost.
                    gap = part, held[part] + 1, page[0].seq - 1
                    log.error("part %d: messages %d to %d are gone; going on", *gap)
                most_bytes -= sum(len(message.body) for message in page)
                found += page
        return Taken(found, sum(max(0, number) for number in behind.values()))


class Feeds:
    """Several feeds as one; they take turns at being asked first."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = feeds
        self._turns = Turns()

    def take(self, held: Mapping[int, int], most_bytes: int, most_rows: int) -> Taken:
        """See `Feed`."""
        found: list[StoredMessage] = []
        waiting = 0
        for at in self._turns.of(list(range(len(self._feeds)))):
            rows = most_rows - len(found)
            left = most_bytes - sum(len(message.body) for message in found)
            taken = self._feeds[at].take(held, left, rows) if left > 0 and rows > 0 else None
            if taken is not None:
                found += taken.messages
                waiting += taken.waiting
        return Taken(found, waiting)


class Turns:
    """A part that fills whole batches must not hold up the others."""

    def __init__(self) -> None:
        self._turn = 0

    def of(self, parts: Sequence[int]) -> Iterator[int]:
        """`parts`, another one first each time."""
        self._turn += 1
        start = self._turn % len(parts) if parts else 0
        yield from parts[start:]
        yield from parts[:start]
