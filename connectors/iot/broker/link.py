"""One connection to a broker: MQTT 5, a session that stays, acknowledged by hand and in order.

The only place that knows gmqtt. A `Link` lives for one connection, and so does gmqtt's client in
it: an acknowledgement can never be written to a later connection, where the same packet number
belongs to another message. gmqtt has no public call for an acknowledgement that comes later, so two
of its private ones are used; `tests/connectors/iot/test_gmqtt_contract.py` holds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gmqtt  # type: ignore[import-untyped]  # it has no types
from gmqtt.storage import PersistentStorage  # type: ignore[import-untyped]  # the same

from connectors.iot.broker.account import Account
from connectors.iot.broker.keeping import leave, settled
from hub.sdk.errors import HubError

SESSION_SECONDS = 7 * 86_400
LARGEST = 16 * 1024 * 1024
IN_FLIGHT = 2000
KEEP_ALIVE = 30
_PATIENCE = 15.0
_MOST_WAITING = 32 * 1024 * 1024

_log = logging.getLogger("connectors.iot.broker")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A delivered message; `subscriptions` holds the identifiers of what it was delivered for."""

    topic: str
    body: bytes
    qos: int
    retained: bool
    subscriptions: tuple[int, ...] = ()


class Subscription(NamedTuple):
    pattern: str
    identifier: int
    no_local: bool = False


class Will(NamedTuple):
    topic: str
    body: bytes


Take = Callable[[Incoming], Awaitable[object] | None]
"""Takes a message. What it returns is awaited before the message is acknowledged; an error in it,
or at once, ends the connection. None: there is nothing to wait for."""


class LinkFailed(Exception):
    """The broker cannot be reached, or refuses us; the text says why."""


class _Waiting(NamedTuple):
    mid: int | None
    size: int
    kept: Awaitable[object] | None
    error: HubError | None = None


class Link:
    """See the module. `ended` resolves to the reason once the connection is no longer of use."""

    def __init__(
        self, account: Account, client_id: str, take: Take, will: Will | None = None
    ) -> None:
        self._account = account
        self._take = take
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._waiting = 0
        self._paused = False
        self._answers: dict[int, asyncio.Future[Sequence[int]]] = {}
        self._acknowledging: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.session_present = False
        self.properties: Mapping[str, Any] = {}
        self.received = 0
        self._outgoing = PersistentStorage()
        self._client = self._make_client(client_id, will)

    @property
    def waiting(self) -> int:
        """Messages that are not safe yet."""
        return self._queue.qsize()

    def _make_client(self, client_id: str, will: Will | None) -> Any:
        parting = gmqtt.Message(will.topic, will.body, qos=1, retain=True) if will else None
        client = _OneConnection(
            client_id,
            clean_session=False,
            optimistic_acknowledgement=False,
            will_message=parting,
            logger=_quiet_logger(),
            persistent_storage=self._outgoing,
            session_expiry_interval=SESSION_SECONDS,
            receive_maximum=IN_FLIGHT,
            maximum_packet_size=LARGEST,
        )
        if self._account.username is not None:
            client.set_auth_credentials(self._account.username, self._account.password)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client._package_handler._handle_qos_1_publish_packet = self._on_qos_1
        return client

    # --- doing ---

    async def open(self) -> None:
        """Connect. Raises LinkFailed."""
        account = self._account
        self._acknowledging = asyncio.create_task(self._acknowledge())
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._client.connect(
                    account.host, account.port, ssl=account.tls or False, keepalive=KEEP_ALIVE
                )
        except TimeoutError:
            raise LinkFailed("no answer; does the broker speak MQTT 5?") from None
        except (OSError, ValueError, gmqtt.mqtt.handler.MQTTError) as error:
            raise LinkFailed(str(error) or type(error).__name__) from error

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> list[str]:
        """Ask for messages; the patterns that the broker refuses. Raises LinkFailed."""
        asked = [(one.pattern, self._ask(one)) for one in subscriptions]
        refused = []
        for pattern, answer in asked:
            either: list[asyncio.Future[Any]] = [answer, self.ended]
            await asyncio.wait(either, timeout=_PATIENCE, return_when="FIRST_COMPLETED")
            if not answer.done():
                raise LinkFailed(self._why("no answer to a subscription"))
            if any(code >= 128 for code in answer.result()):
                refused.append(pattern)
        return refused

    def _ask(self, one: Subscription) -> asyncio.Future[Sequence[int]]:
        wanted = gmqtt.Subscription(
            one.pattern,
            qos=1,
            no_local=one.no_local,
            retain_handling_options=1,  # retained messages once, not at every reconnect
            subscription_identifier=one.identifier,
        )
        mid = self._client.subscribe(wanted)
        answer: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()
        self._answers[mid] = answer
        return answer

    def unsubscribe(self, patterns: Sequence[str]) -> None:
        if patterns:
            # As bytes: gmqtt counts letters of a text where the packet has bytes.
            self._client.unsubscribe([pattern.encode() for pattern in patterns])

    def publish(self, topic: str, body: bytes, *, qos: int = 0, retain: bool = False) -> None:
        self._client.publish(topic, body, qos=qos, retain=retain)

    async def published(self) -> None:
        """Wait (2 s at most) until the broker has what was published with QoS 1.

        A socket that is closed with something unread takes what it sent last with it.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._outgoing.wait_empty()

    async def close(self, *, forget: bool = False) -> None:
        """Disconnect. `forget` ends the session at the broker."""
        self._end("closed")
        if self._acknowledging is not None:
            self._acknowledging.cancel()
            await asyncio.wait([self._acknowledging])
        self._drop_waiting()
        properties = {"session_expiry_interval": 0} if forget else {}
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2):
                await self._client.disconnect(**properties)
                return
        if (transport := self._transport()) is not None:
            transport.abort()

    # --- what the broker sends ---

    def _on_connect(self, client: Any, flags: int, code: int, properties: Any) -> None:
        self.session_present = bool(flags)
        self.properties = {
            name: value[0] if isinstance(value, list) else value
            for name, value in properties.items()
        }

    def _on_disconnect(self, client: Any, packet: Any, *more: Any) -> None:
        code = packet[0] if isinstance(packet, bytes) and packet else None
        self._end("the connection broke" if code is None else f"the broker left: 0x{code:02x}")

    def _on_subscribe(self, client: Any, mid: int, codes: Sequence[int], properties: Any) -> None:
        answer = self._answers.pop(mid, None)
        if answer is not None and not answer.done():
            answer.set_result(codes)

    def _on_message(
        self, client: Any, topic: str, body: bytes, qos: int, properties: dict[str, Any]
    ) -> None:
        self._accept(None, topic, body, 0, properties)

    def _on_qos_1(self, mid: int, body: bytes, topic: str, properties: dict[str, Any]) -> None:
        self._accept(mid, topic, body, 1, properties)

    def _accept(
        self,
        mid: int | None,
        topic: str | bytes,
        body: bytes,
        qos: int,
        properties: dict[str, Any],
    ) -> None:
        if self.ended.done():
            return  # not acknowledged: the broker sends it again
        if isinstance(topic, bytes):
            topic = topic.decode("utf-8", "replace")
        identifiers = tuple(properties.get("subscription_identifier", ()))
        message = Incoming(topic, bytes(body), qos, bool(properties["retain"]), identifiers)
        self.received += 1
        try:
            entry = _Waiting(mid, len(body) + 500, self._take(message))
        except HubError as error:
            entry = _Waiting(mid, 0, None, error)
        self._queue.put_nowait(entry)
        self._waiting += entry.size
        if self._waiting > _MOST_WAITING and not self._paused:
            self._pause(paused=True)

    # --- acknowledging ---

    async def _acknowledge(self) -> None:
        """In the order of arrival, each when it is safe; the first that is not ends it all."""
        while True:
            mid, size, kept, error = await self._queue.get()
            try:
                if error is not None:
                    raise error
                if isinstance(kept, asyncio.Future) and kept.done():
                    kept.result()
                elif kept is not None:
                    await settled(kept)
            except HubError as problem:
                self._end(f"a message could not be kept: {problem.code}")
                return
            if mid is not None:
                self._client._package_handler._send_puback(mid)
            self._waiting -= size
            if self._paused and self._waiting < _MOST_WAITING // 2:
                self._pause(paused=False)

    def _pause(self, *, paused: bool) -> None:
        """Stop reading: the broker feels it, and nothing is thrown away on our side."""
        transport = self._transport()
        if transport is None or transport.is_closing():
            return
        self._paused = paused
        if paused:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _transport(self) -> Any:
        connection = self._client._connection
        return None if connection is None else connection._transport

    def _drop_waiting(self) -> None:
        while not self._queue.empty():
            leave(self._queue.get_nowait().kept)

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    def _why(self, otherwise: str) -> str:
        return self.ended.result() if self.ended.done() else otherwise


class _OneConnection(gmqtt.Client):  # type: ignore[misc]  # it has no types
    """gmqtt connects again on its own; here somebody else decides when, with a new client."""

    async def reconnect(self, delay: bool = False) -> None:
        return


def _quiet_logger() -> logging.Logger:
    """gmqtt writes whole packets into its log; a payload has no place in ours."""
    # Not from the registry: what is set here must not change a logger of others.
    logger = logging.Logger("connectors.iot.broker.gmqtt", logging.WARNING)  # noqa: LOG001
    logger.parent = _log
    logger.addFilter(_without_payloads)
    return logger


def _without_payloads(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple("…" if isinstance(one, bytes) else one for one in record.args)
    return True
