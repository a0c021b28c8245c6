"""The stream as the projector's feed: each part by a consumer of ours, read ahead, in order.

    position in our store → consumer from there on → buffer → transaction with position → ack

What counts is the position, committed with the readings. A consumer begins right behind it and is
ours alone; when one message is missing in its numbering, or the connection is lost, it is thrown
away for a new one from the position. So nothing is skipped when NATS delivers again out of order,
and what was projected is never given out again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from hub.sdk.errors import LostRace
from hub.store.database import Store
from hub.store.telemetry.inbox import StoredMessage
from hub.store.telemetry.positions import rewind
from hub.telemetry.bus import BUS_PART, Bus, Link, unpack
from hub.telemetry.bus_state import Cleaning, last_number, parts_of
from hub.telemetry.feed import Taken, Turns

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

_ROWS, _LEAST_ROWS = 20_000, 2_000
_BYTES, _LEAST_BYTES = 33_554_432, 4_194_304
_EXPIRES_SECONDS = 20
_BEAT_SECONDS = 5
_SILENT_SECONDS = 16.0
_ACK_SECONDS = 60.0
_GONE_SECONDS = 30.0

log = logging.getLogger("hub.telemetry.bus")


class _Row(NamedTuple):
    message: StoredMessage
    reply: str


class _Room(NamedTuple):
    """What may be read ahead of one part."""

    rows: int
    bytes: int


class _Reader:
    """One part: a consumer from behind `after` on, and what it delivered. `broken`: begin anew."""

    def __init__(self, link: Link, part: int, after: int, room: _Room) -> None:
        self.part, self.after, self.link = part, after, link
        self.broken = False
        self.pending = 0
        self._room = room
        self._rows: deque[_Row] = deque()
        self._size = 0
        self._lock = threading.Lock()
        self._name = f"{part - BUS_PART}-{secrets.token_hex(6)}"
        self._inbox = link.client.new_inbox()
        self._subscription: Subscription | None = None
        self._next = 1
        self._asked = self._arrived = 0
        self._seen = time.monotonic()

    async def open(self) -> None:
        """Make the consumer and ask for the first messages."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        config = ConsumerConfig(
            name=self._name,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.after + 1,
            ack_policy=AckPolicy.ALL,
            ack_wait=_ACK_SECONDS,
            max_ack_pending=-1,
            filter_subject=self.link.at.subject(self.part - BUS_PART),
            inactive_threshold=_GONE_SECONDS,
            mem_storage=True,
        )
        info = await self.link.jetstream.add_consumer(self.link.at.stream, config)
        self.pending = info.num_pending or 0
        self._subscription = await self.link.client.subscribe(
            self._inbox, cb=self._take_in, pending_msgs_limit=0, pending_bytes_limit=0
        )
        await self._ask()

    async def close(self) -> None:
        """Let the consumer go; one that is not deleted is forgotten by the server."""
        self.broken = True
        if self.link.alive and self._subscription is not None:
            await self._subscription.unsubscribe()
            await self.link.jetstream.delete_consumer(self.link.at.stream, self._name)

    def silent(self, now: float) -> bool:
        """Whether not even a heartbeat comes for what was asked."""
        return self._asked > 0 and now - self._seen > _SILENT_SECONDS

    def behind(self, position: int) -> int:
        """How many messages wait behind a position."""
        with self._lock:
            known = sum(row.message.seq > position for row in self._rows)
            return known + self.pending

    def rows(self, position: int, most_bytes: int, most_rows: int) -> list[StoredMessage]:
        """What lies behind the position, which is committed."""
        found: list[StoredMessage] = []
        with self._lock:
            for row in islice(self._rows, most_rows):
                if found and most_bytes <= 0:
                    break
                found.append(row.message)
                most_bytes -= len(row.message.body)
        return found

    def forget(self, position: int) -> str:
        """Drop what is committed; the reply that acknowledges it, if there was something."""
        reply = ""
        with self._lock:
            while self._rows and self._rows[0].message.seq <= position:
                row = self._rows.popleft()
                self._size -= len(row.message.body)
                reply = row.reply
            self.after = max(self.after, position)
        return reply

    async def go_on(self, reply: str) -> None:
        """Acknowledge, and ask for more."""
        if self.broken or not self.link.alive:
            return
        if reply:
            await self.link.client.publish(reply, b"+ACK")
        await self._ask()

    async def _ask(self) -> None:
        """For as much as there is room; not before the last request has ended."""
        rows, size = self._room.rows - len(self._rows), self._room.bytes - self._size
        if self._asked > 0 or rows < self._room.rows // 2 or size < self._room.bytes // 2:
            return
        self._asked, self._arrived, self._seen = rows, 0, time.monotonic()
        wanted = {
            "batch": rows,
            "max_bytes": max(size, 2 * self.link.client.max_payload),
            "expires": _EXPIRES_SECONDS * 1_000_000_000,
            "idle_heartbeat": _BEAT_SECONDS * 1_000_000_000,
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.link.at.stream}.{self._name}"
        await self.link.client.publish(subject, msgspec.json.encode(wanted), self._inbox)

    async def _take_in(self, message: Msg) -> None:
        self._seen = time.monotonic()
        headers = message.headers
        if headers and "Status" in headers:
            await self._status(headers["Status"], headers.get("Description", ""))
            return
        # $JS.ACK.[DOMAIN.ACCOUNT.]STREAM.CONSUMER.TRIES.STREAM-SEQ.CONSUMER-SEQ.TIME.PENDING[.…]
        pieces = message.reply.split(".")
        at = 5 if len(pieces) == 9 else 7
        number, place, nanos, pending = (int(piece) for piece in pieces[at : at + 4])
        if self.broken or place != self._next:
            self.broken = True
            return
        self._next += 1
        self._arrived += 1
        self._asked -= 1
        row = _Row(unpack(self.part, number, nanos // 1_000_000, message.data), message.reply)
        with self._lock:
            self._rows.append(row)
            self._size += len(row.message.body)
            self.pending = pending
        if self._asked == 0:
            await self._ask()

    async def _status(self, status: str, description: str) -> None:
        if status == "100":
            return
        full = status == "409" and "MaxBytes" in description and self._arrived > 0
        if status not in ("404", "408") and not full:
            self.broken = True  # the consumer is gone, or the server is about to be
            return
        self._asked = 0
        await self._ask()


class BusFeed:
    """The parts of the stream that this process holds. `store` has the positions."""

    def __init__(self, bus: Bus, store: Store, keep_hours: float) -> None:
        self._bus = bus
        self._store = store
        self._readers: dict[int, _Reader] = {}
        self._turns = Turns()
        self._checked: Link | None = None
        self._cleaning = Cleaning(bus, store, keep_hours)

    def take(self, held: Mapping[int, int], most_bytes: int, most_rows: int) -> Taken:
        """See `Feed`."""
        mine = {part: seq for part, seq in held.items() if part >= BUS_PART}
        self._match(mine)
        found: list[StoredMessage] = []
        for part in self._turns.of(sorted(mine)):
            rows = most_rows - len(found)
            if most_bytes <= 0 or rows <= 0:
                break
            page = self._readers[part].rows(mine[part], most_bytes, rows)
            most_bytes -= sum(len(message.body) for message in page)
            found += page
        if BUS_PART in mine:
            self._cleaning.now_and_then()
        return Taken(found, sum(self._readers[part].behind(mine[part]) for part in mine))

    def _match(self, mine: Mapping[int, int]) -> None:
        """A good reader for every part that is held, and none for others."""
        now = time.monotonic()
        old = [
            reader
            for part, reader in self._readers.items()
            if part not in mine
            or mine[part] < reader.after
            or reader.broken
            or not reader.link.alive
            or reader.silent(now)
        ]
        for reader in old:
            del self._readers[reader.part]
        missing = [part for part in mine if part not in self._readers]
        for part in mine.keys() - missing:
            reader = self._readers[part]
            if reply := reader.forget(mine[part]):
                self._bus.soon(_go_on, reader, reply)
        if old or missing:
            self._bus.run(lambda link: self._open(link, old, {p: mine[p] for p in missing}))

    async def _open(self, link: Link, old: list[_Reader], wanted: Mapping[int, int]) -> None:
        await asyncio.gather(*(reader.close() for reader in old), return_exceptions=True)
        if link is not self._checked:
            await self._check(link)
        most = max(1, len(self._readers) + len(wanted))
        room = _Room(max(_LEAST_ROWS, _ROWS // most), max(_LEAST_BYTES, _BYTES // most))
        new = [_Reader(link, part, after, room) for part, after in wanted.items()]
        await asyncio.gather(*(reader.open() for reader in new))
        self._readers.update({reader.part: reader for reader in new})

    async def _check(self, link: Link) -> None:
        """A stream that is not the one our positions belong to, or has lost its end, would number
        new messages as ones that were projected long ago. Raises LostRace when positions moved."""
        last = await last_number(link)
        changed = await asyncio.to_thread(self._rewind, link, last)
        self._checked = link
        if changed:
            log.error("stream %s is not what it was: reading on from %d", link.at.stream, last)
            raise LostRace("telemetry.lost_part", part=BUS_PART)

    def _rewind(self, link: Link, last: int) -> bool:
        with self._store.transaction() as connection:
            return rewind(connection, BUS_PART, link.created, last)


def bus_parts(bus: Bus, declared: int) -> list[int]:
    """Those declared, and those that hold messages from when there were more."""
    held = bus.run(parts_of)
    return list(range(BUS_PART, max(BUS_PART + declared, *(part + 1 for part in held), 1)))


def dealt(parts: Sequence[int], more: Sequence[int]) -> list[int]:
    """Both in turn: every process gets its share of either."""
    pairs = zip_longest(parts, more)
    return [part for pair in pairs for part in pair if part is not None]


def _go_on(reader: _Reader, reply: str) -> None:
    task = asyncio.ensure_future(reader.go_on(reply))
    task.add_done_callback(_settled)


def _settled(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("the bus was not told: %s", type(error).__name__)
