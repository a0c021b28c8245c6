"""Messages that wait for their commit, and their PUBACKs in the order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from connectors.iot.mqtt.answers import puback
from connectors.iot.mqtt.packets import Publish
from connectors.iot.mqtt.wire import V5, Reason, broken

MOST_BYTES = 4_194_304
"""Payloads of one connection that may wait for their commit."""


class Entry:
    """One message. Called with its future when that is done."""

    __slots__ = ("_flight", "done", "error", "packet_id", "reason", "size")

    def __init__(self, flight: Flight, packet_id: int, size: int, reason: Reason) -> None:
        self._flight = flight
        self.packet_id = packet_id
        self.size = size
        self.reason = reason
        self.done = False
        self.error: BaseException | None = None

    def __call__(self, future: asyncio.Future[Any]) -> None:
        self.error = asyncio.CancelledError() if future.cancelled() else future.exception()
        self.done = True
        self._flight.settled(self)


class Flight:
    """`send` gets the PUBACKs, `failed` the error of a message that was not kept: nothing after
    it is acknowledged. `relieved` is called when there may be room again."""

    def __init__(
        self,
        version: int,
        most: int,
        *,
        send: Callable[[bytes], None],
        failed: Callable[[BaseException], None],
        relieved: Callable[[int], None],
    ) -> None:
        self._version = version
        self._most = most
        self._send, self._failed, self._relieved = send, failed, relieved
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Entry] = deque()
        self._ids: set[int] = set()
        self._bytes = 0
        self._due = False
        self._over = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        """No more may be read. In version 5 the client itself counts its messages of QoS 1."""
        counted = len(self._queue) - (len(self._ids) if self._version == V5 else 0)
        return counted >= self._most or self._bytes >= MOST_BYTES

    def check(self, publish: Publish) -> None:
        """Raises ContractBroken when the client may not send this now."""
        if self._version == V5 and len(self._ids) >= self._most:
            raise broken(Reason.RECEIVE_MAXIMUM, f"more than {self._most} are unacknowledged")
        if publish.packet_id in self._ids and not publish.dup:
            raise broken(Reason.PROTOCOL, f"packet id {publish.packet_id} is in use")

    def add(
        self,
        publish: Publish,
        work: Awaitable[object] | None,
        reason: Reason = Reason.SUCCESS,
    ) -> None:
        """Acknowledge the message with `reason` once `work` is done and its turn has come."""
        entry = Entry(self, publish.packet_id, len(publish.payload), reason)
        self._queue.append(entry)
        self._bytes += entry.size
        if publish.qos:
            self._ids.add(publish.packet_id)
        if work is None:
            entry.done = True
            self.settled(entry)
        else:
            asyncio.ensure_future(work).add_done_callback(entry)

    def settled(self, entry: Entry) -> None:
        """Those that are done together are acknowledged in one write."""
        if not self._due and self._queue and self._queue[0].done:
            self._due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Acknowledge what is done at the front of the queue."""
        self._due = False
        if self._over:
            return
        queue, sent = self._queue, 0
        acks: list[bytes] = []
        error = None
        while queue and queue[0].done:
            entry = queue.popleft()
            if entry.error is not None:
                error = entry.error
                break
            self._bytes -= entry.size
            sent += 1
            if entry.packet_id:
                self._ids.discard(entry.packet_id)
                acks.append(puback(self._version, entry.packet_id, entry.reason))
        if acks:
            self._send(b"".join(acks))
        if error is not None:
            self.stop()
            self._failed(error)
        elif sent:
            self._relieved(sent)

    def stop(self) -> None:
        """No more PUBACKs. What was handed over is kept all the same."""
        self._over = True
