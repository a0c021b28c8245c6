"""Keeping messages in the stream: all of a batch are on their way at once, each has its PubAck."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from hub.sdk.errors import TransientError
from hub.sdk.telemetry import Receipt
from hub.store.telemetry.inbox import NewMessage
from hub.telemetry.bus import BUS_PART, Bus, Link, pack

if TYPE_CHECKING:
    from nats.aio.msg import Msg

_ACK_SECONDS = 10.0
_RETRY_LATER = 5.0
_OVERHEAD = 1_024
_NO_ROOM = {10002, 10023, 10028, 10047, 10077}
"""What JetStream says when an account, a stream or the disk is full."""

Table = Callable[[Sequence[NewMessage]], list[Receipt]]


class _Problem(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: _Problem | None = None


_decoder = msgspec.json.Decoder(_Ack)


class _Batch:
    """What is on its way, and where each message came to lie."""

    def __init__(self, number: int) -> None:
        self.acks: list[_Ack | None] = [None] * number
        self.left = number
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, at: int, ack: _Ack) -> None:
        self.acks[at] = ack
        self.left -= 1
        if ack.error is not None:
            self.fail(_reason(ack.error))
        elif not self.left and not self.done.done():
            self.done.set_result(None)

    def fail(self, reason: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(reason)

    def end(self) -> None:
        """Nobody waits any more."""
        if not self.done.cancel() and not self.done.cancelled():
            self.done.exception()  # counts as retrieved


class _Post(NamedTuple):
    """The way back of acknowledgements over one connection."""

    link: Link
    inbox: str
    waiting: dict[str, tuple[_Batch, int]]

    async def arrived(self, message: Msg) -> None:
        found = self.waiting.pop(message.subject.rpartition(".")[2], None)
        if found is None:
            return
        batch, at = found
        try:
            batch.settle(at, _decoder.decode(message.data))
        except msgspec.DecodeError:  # empty: no stream takes this subject any more
            self.link.closed.set()
            batch.fail(_store())


class BusKeeper:
    """The way into the stream. Messages that are too large for the server go to the table."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._post: _Post | None = None
        self._numbers = itertools.count()

    def keep(self, messages: Sequence[NewMessage], table: Table) -> list[Receipt]:
        """Where each message is kept. Raises TransientError: some of them are not known to be."""
        packed = [pack(message) for message in messages]

        async def work(link: Link) -> list[Receipt | None]:
            return await self._publish(link, messages, packed)

        try:
            found = self._bus.run(work, _ACK_SECONDS)
        except TransientError as error:
            if error.code == "telemetry.bus_away":
                raise _store() from error
            raise
        large = [one for one, receipt in zip(messages, found, strict=True) if receipt is None]
        kept = iter(table(large) if large else [])
        return [receipt or next(kept) for receipt in found]

    async def _publish(
        self, link: Link, messages: Sequence[NewMessage], packed: Sequence[bytes]
    ) -> list[Receipt | None]:
        post = await self._posting(link)
        most = link.client.max_payload - _OVERHEAD
        chosen = [at for at, data in enumerate(packed) if len(data) <= most]
        batch = _Batch(len(chosen))
        tokens = []
        ended: asyncio.Future[Any] = asyncio.ensure_future(link.closed.wait())
        try:
            for place, at in enumerate(chosen):
                token = str(next(self._numbers))
                tokens.append(token)
                post.waiting[token] = batch, place
                message = messages[at]
                headers = {"Nats-Msg-Id": _id(message)} if message.key else None
                subject = link.at.subject(message.part)
                reply = f"{post.inbox}.{token}"
                await link.client.publish(subject, packed[at], reply, headers)
            if chosen:
                waits: list[asyncio.Future[Any]] = [batch.done, ended]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                batch.fail(_store())
                batch.done.result()
        finally:
            ended.cancel()
            batch.end()
            for token in tokens:
                post.waiting.pop(token, None)
        found: list[Receipt | None] = [None] * len(messages)
        for place, at in enumerate(chosen):
            ack = batch.acks[place]
            if ack is not None:
                found[at] = Receipt(ack.seq, ack.duplicate, BUS_PART + messages[at].part)
        return found

    async def _posting(self, link: Link) -> _Post:
        if self._post is None or self._post.link is not link:
            post = _Post(link, link.client.new_inbox(), {})
            await link.client.subscribe(f"{post.inbox}.*", cb=post.arrived)
            self._post = post
        return self._post


def _id(message: NewMessage) -> str:
    name = f"{message.source}\x1f{message.key}"
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _store() -> TransientError:
    return TransientError("telemetry.store", retry_after=_RETRY_LATER)


def _reason(problem: _Problem) -> TransientError:
    if problem.err_code in _NO_ROOM:
        return TransientError("telemetry.disk_full", retry_after=_RETRY_LATER)
    return _store()
