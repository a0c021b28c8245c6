"""What the stream holds: how much waits per part, and deleting what is projected and old enough."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from hub.sdk.errors import TransientError
from hub.store.database import Store
from hub.store.telemetry.positions import part_name, positions
from hub.telemetry.bus import BUS_PART, Bus, Link, unpack

_EVERY_SECONDS = 30.0
_HOUR_SECONDS = 3600.0
_CALLS = 8

log = logging.getLogger("hub.telemetry.bus")


class InStream(NamedTuple):
    """One part of the stream. `since`: when the oldest waiting message came (UTC ms)."""

    part: int
    messages: int
    waiting: int
    since: int | None


async def last_number(link: Link) -> int:
    """The number of the stream's newest message; 0 when it has never had one."""
    info = await link.jetstream.stream_info(link.at.stream)
    return int(info.state.last_seq)


async def parts_of(link: Link) -> dict[int, int]:
    """How many messages the stream holds per part, numbered from BUS_PART."""
    info = await link.jetstream.stream_info(link.at.stream, subjects_filter=">")
    found = (info.state.subjects or {}).items()
    numbers = {subject.rpartition(".")[2]: count for subject, count in found}
    known = {int(part): count for part, count in numbers.items() if part.isdecimal()}
    return {BUS_PART + part: count for part, count in known.items() if part < BUS_PART}


async def look(link: Link, reached: Mapping[int, int]) -> list[InStream]:
    """Every part that holds messages, seen from the positions in `reached`."""
    limit = asyncio.Semaphore(_CALLS)

    async def one(part: int, messages: int) -> InStream:
        async with limit:
            waiting = await _behind(link, part, reached.get(part, 0))
            since = await _since(link, part, reached.get(part, 0)) if waiting else None
        return InStream(part, messages, waiting, since)

    held = await parts_of(link)
    return list(await asyncio.gather(*(one(part, held[part]) for part in sorted(held))))


async def _behind(link: Link, part: int, position: int) -> int:
    """What a consumer from there on would have before it: the server counts exactly."""
    from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=position + 1,
        ack_policy=AckPolicy.NONE,
        filter_subject=link.at.subject(part - BUS_PART),
        inactive_threshold=5.0,
        mem_storage=True,
    )
    info = await link.jetstream.add_consumer(link.at.stream, config)
    await link.jetstream.delete_consumer(link.at.stream, info.name)
    return info.num_pending or 0


async def _since(link: Link, part: int, position: int) -> int | None:
    from nats.js.errors import NotFoundError

    subject = link.at.subject(part - BUS_PART)
    try:
        found = await link.jetstream.get_msg(
            link.at.stream, seq=position + 1, subject=subject, next=True
        )
    except NotFoundError:  # projected and deleted meanwhile
        return None
    now = time.time_ns() // 1_000_000
    return unpack(part, found.seq or 0, now, found.data or b"").received_at


def bus_positions(store: Store) -> dict[int, int]:
    """How far each part of the stream is projected."""
    with store.reading() as connection:
        known = positions(connection)
    numbered = {part_name(part): part for part in range(BUS_PART, 2 * BUS_PART)}
    return {numbered[name]: seq for name, seq in known.items() if name in numbered}


class Cleaning:
    """Deletes what has been projected for `hours`. Any number of processes may do it."""

    def __init__(self, bus: Bus, store: Store, hours: float) -> None:
        self._bus = bus
        self._store = store
        self._keep = hours * _HOUR_SECONDS
        self._seen: deque[tuple[float, int]] = deque()
        self._due = 0.0

    def now_and_then(self) -> None:
        """Clean when it is time."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _EVERY_SECONDS
            try:
                self.clean()
            except TransientError as error:
                log.warning("projected messages stay in the stream: %s", error)

    def clean(self) -> None:
        """Note how far everything is projected, and delete up to where it was `hours` ago."""
        end = self._bus.run(self._projected)
        now = time.monotonic()
        if not self._seen or self._seen[-1][1] < end:
            self._seen.append((now, end))
        up_to = 0
        while self._seen and self._seen[0][0] <= now - self._keep:
            up_to = self._seen.popleft()[1]
        if up_to:
            self._bus.run(lambda link: link.jetstream.purge_stream(link.at.stream, seq=up_to + 1))

    async def _projected(self, link: Link) -> int:
        """Up to here nothing waits. A part in which nothing waits holds up nobody."""
        last = await last_number(link)
        reached = await asyncio.to_thread(bus_positions, self._store)
        waiting = [one.part for one in await look(link, reached) if one.waiting]
        return min([last, *(reached.get(part, 0) for part in waiting)])
