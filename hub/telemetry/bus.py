"""NATS JetStream as the bus between accepting and projecting: one stream, a subject per part.

A connection lives on a thread with its own event loop; everyone else calls `Bus.run`. A connection
that is lost is not mended but replaced by the next call: nothing is sent twice behind our back.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from hub.sdk.errors import ConfigError, TransientError
from hub.store.telemetry.inbox import NewMessage, StoredMessage

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

BUS_PART = 256
"""Added to the part of a message that waits in the stream: below it are the parts of the table."""

KEYS_SECONDS = 600.0
"""How long the stream recognises a message that is sent again under its key."""

CALL_SECONDS = 8.0
_CONNECT_SECONDS = 2.0
_UNREADABLE = "bus.unreadable"

T = TypeVar("T")

log = logging.getLogger("hub.telemetry.bus")


class BusAt(NamedTuple):
    """Where the bus is. Servers are divided by commas; `name` begins stream and subjects."""

    url: str
    name: str = "hub"

    @property
    def stream(self) -> str:
        return f"{self.name}_telemetry"

    def subject(self, part: int | str) -> str:
        """Of one part, numbered from 0."""
        return f"{self.name}.telemetry.{part}"


class Link(NamedTuple):
    """A connection. `created` tells the stream from an earlier one of its name (ms)."""

    at: BusAt
    client: Client
    jetstream: JetStreamContext
    created: int
    closed: asyncio.Event

    @property
    def alive(self) -> bool:
        return not self.closed.is_set()


class Bus:
    """The way to the server, for any thread. Raises ConfigError when nats-py is not installed."""

    def __init__(self, at: BusAt) -> None:
        try:
            import nats  # noqa: F401 (an extra: said now, not by a device)
        except ImportError as error:
            raise ConfigError("telemetry.bus_extra", url=_plain(at.url)) from error
        if not all(one.strip().startswith(("nats://", "tls://")) for one in at.url.split(",")):
            raise ConfigError("telemetry.bus_url", url=_plain(at.url))
        self.at = at
        self._link: Link | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connecting: asyncio.Lock | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def run(self, work: Callable[[Link], Awaitable[T]], seconds: float = CALL_SECONDS) -> T:
        """Do something on the bus's thread, connected. Raises TransientError (`telemetry.bus_away`)
        when the server is away or does not answer in time."""
        loop = self._started()
        future = asyncio.run_coroutine_threadsafe(self._run(work, seconds), loop)
        return future.result()

    def soon(self, call: Callable[..., None], *arguments: object) -> None:
        """Call something on the bus's thread, without waiting."""
        self._started().call_soon_threadsafe(call, *arguments)

    def close(self) -> None:
        """Let go of the connection and end the thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._leave(), loop).result(CALL_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)
        loop.close()
        self._loop = self._thread = None

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._connecting = asyncio.Lock()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="hub-bus", daemon=True
                )
                self._thread.start()
            return self._loop

    async def _run(self, work: Callable[[Link], Awaitable[T]], seconds: float) -> T:
        from nats.errors import Error
        from nats.js.errors import NotFoundError

        try:
            async with asyncio.timeout(seconds):
                return await work(await self._linked())
        except NotFoundError as error:  # somebody deleted the stream: the next link makes it anew
            if self._link is not None:
                self._link.closed.set()
            raise away(self.at, error) from error
        except (OSError, TimeoutError, Error) as error:
            raise away(self.at, error) from error

    async def _linked(self) -> Link:
        assert self._connecting is not None  # noqa: S101 (for mypy: made with the loop)
        async with self._connecting:
            if self._link is None or not self._link.alive:
                if self._link is not None:
                    await self._link.client.close()
                    self._link = None
                self._link = await _connect(self.at)
            return self._link

    async def _leave(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.client.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def _connect(at: BusAt) -> Link:
    """A connection to the first server that lets us in, and the stream there."""
    from nats.aio.client import Client
    from nats.errors import Error

    problem: Exception = OSError("no server")
    for server in at.url.split(","):
        closed, client = asyncio.Event(), Client()

        async def ended(closed: asyncio.Event = closed) -> None:
            closed.set()

        try:
            await client.connect(
                server.strip(),
                name=at.stream,
                allow_reconnect=False,
                connect_timeout=int(_CONNECT_SECONDS),
                max_reconnect_attempts=1,  # otherwise even the first one is tried for ever
                reconnect_time_wait=0,
                disconnected_cb=ended,
                closed_cb=ended,
                error_cb=_noted,
                ping_interval=5,
            )
        except (OSError, TimeoutError, Error) as error:
            problem = error
            continue
        try:
            jetstream = client.jetstream(timeout=CALL_SECONDS)
            return Link(at, client, jetstream, await _stream(at, jetstream), closed)
        except BaseException:
            await client.close()
            raise
    raise problem


async def _noted(error: Exception) -> None:
    log.info("the bus: %s", type(error).__name__)


async def _stream(at: BusAt, jetstream: JetStreamContext) -> int:
    """When the stream was made (ms); it is made when it is missing.

    Nothing in it goes by age or to make room: what is projected is deleted by the projector.
    """
    from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
    from nats.js.errors import NotFoundError

    try:
        found = await jetstream.stream_info(at.stream)
    except NotFoundError:
        wanted = StreamConfig(
            name=at.stream,
            subjects=[at.subject("*")],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            duplicate_window=KEYS_SECONDS,
        )
        found = await jetstream.add_stream(wanted)
        log.info("stream %s was made", at.stream)
    return 0 if found.created is None else int(found.created.timestamp() * 1000)


def away(at: BusAt, error: BaseException) -> TransientError:
    """That the bus cannot be used at present."""
    reason = str(error) or type(error).__name__
    return TransientError("telemetry.bus_away", url=_plain(at.url), reason=reason, retry_after=5.0)


def _plain(url: str) -> str:
    """Without users and passwords."""
    return ",".join(
        f"{scheme}{mark}{rest.rpartition('@')[2]}"
        for scheme, mark, rest in (one.strip().partition("://") for one in url.split(","))
    )


# --- messages ---------------------------------------------------------------------------------

_Envelope = tuple[int, str, str, int, str, str, int, bytes]
"""received_at, source, sender, gateway, format, details, counted, body."""

_decoder = msgspec.msgpack.Decoder(_Envelope)


def pack(message: NewMessage) -> bytes:
    """A message as it travels."""
    return msgspec.msgpack.encode(message[1:9])


def unpack(part: int, seq: int, at_ms: int, data: bytes) -> StoredMessage:
    """A message as the projector takes it. What somebody else put into the stream gets a format
    that nobody reads: it ends in quarantine."""
    try:
        return StoredMessage(part, seq, *_decoder.decode(data))
    except msgspec.DecodeError:
        return StoredMessage(part, seq, at_ms, "iot", "", 0, _UNREADABLE, "", 0, data)
