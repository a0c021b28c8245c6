"""One client: bytes to packets, back-pressure, and how a connection begins and ends."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from connectors.iot.mqtt.answers import connack, disconnect
from connectors.iot.mqtt.packets import Connect, Packet, Parser
from connectors.iot.mqtt.wire import V5, V311, Reason, reason_of
from hub.sdk.errors import ContractBroken, HubError, TransientError

if TYPE_CHECKING:
    from connectors.iot.mqtt.house import House
    from connectors.iot.mqtt.serving import Serving

CONNECT_SECONDS = 10.0
"""From the connection to the end of CONNECT and its answer."""
_SLOW_READER_SECONDS = 60.0
_CLOSE_SECONDS = 5.0
_LINGER_SECONDS = 1.0
_WRITE_AHEAD = 65_536
_OVERLOAD = "telemetry.overload"

log = logging.getLogger("connectors.iot.mqtt")


class Connection(asyncio.Protocol):
    """`serving` is there from CONNACK on."""

    transport: asyncio.Transport

    def __init__(self, house: House) -> None:
        self.house = house
        self.version = 0
        self.serving: Serving | None = None
        self.keep_alive = 0
        self.is_closed = False
        self._parser = Parser(house.options.max_packet)
        self._pumping = False
        self._paused = False
        self._again: Packet | None = None
        self._admitting: asyncio.Task[None] | None = None
        self._stuck_since: float | None = None
        self._heard_at = self._began_at = house.loop.time()

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream always gets one
        self.transport = transport
        transport.set_write_buffer_limits(high=_WRITE_AHEAD)
        if not self.house.enters(self):
            self.abort()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.house.loop.time()
        if not self.is_closed:
            self._parser.feed(data)
            self.pump()

    def pause_writing(self) -> None:
        self._stuck_since = self.house.loop.time()
        self._govern()

    def resume_writing(self) -> None:
        self._stuck_since = None
        self.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._close()
        self.house.leaves(self)

    # --- reading ------------------------------------------------------------------------------

    def pump(self) -> None:
        """Handle what has been read, as far as there is room for it."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while not self._must_wait():
                packet = self._again or self._parser.next()
                if packet is None:
                    break
                self._again = None
                self._handle_or_wait(packet)
                if self._again is not None:
                    break
        except ContractBroken as error:
            self._refuse(error)
        except HubError as error:
            self.give_up(error)
        finally:
            self._pumping = False
        self._govern()

    def _must_wait(self) -> bool:
        if self.is_closed or self._stuck_since is not None or self._admitting is not None:
            return True
        return self.serving is not None and (self.serving.flight.is_full or self.house.is_full)

    def _govern(self) -> None:
        """Reading stands still while there is no room: TCP tells the client."""
        if self.is_closed:
            return
        wait = self._must_wait() or self._again is not None
        if wait and (self.house.is_full or self._again is not None):
            self.house.waits(self)
        if wait == self._paused:
            return
        self._paused = wait
        if wait:
            self.transport.pause_reading()
        else:
            self._heard_at = self.house.loop.time()
            self.transport.resume_reading()

    def _handle_or_wait(self, packet: Packet) -> None:
        """The last room may have gone to others since we looked: then it is the packet's turn again
        when there is some."""
        try:
            self._handle(packet)
        except TransientError as error:
            if error.code != _OVERLOAD:
                raise
            self._again = packet

    def _handle(self, packet: Packet) -> None:
        if self.serving is not None:
            self.serving.handle(packet)
        elif isinstance(packet, Connect):
            self.version = packet.version
            self._admitting = self.house.loop.create_task(self._admit(packet))

    async def _admit(self, packet: Connect) -> None:
        try:
            self.serving = await self.house.admit(self, packet)
        except Exception as error:
            log.error("an MQTT client could not be admitted", exc_info=error)
            self.abort()
        finally:
            self._admitting = None
        self.pump()

    # --- ending -------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Called every second: ends a client that is silent, or does not read its answers."""
        if self.serving is None:
            if now - self._began_at > CONNECT_SECONDS:
                self.house.trouble(self, "no_connect", "nothing, or no whole CONNECT")
                self.abort()
        elif self._stuck_since is not None:
            if now - self._stuck_since > _SLOW_READER_SECONDS:
                self.house.trouble(self, "slow_reader", "it does not read its answers")
                self.abort()
        elif self.keep_alive and not self._paused and now - self._heard_at > self.keep_alive * 1.5:
            self.end(Reason.KEEP_ALIVE, "keep_alive", "nothing came for 1.5 × its keep-alive")

    def end(self, reason: Reason, outcome: str, problem: str) -> None:
        """Close with a reason that version 5 is told."""
        if self.is_closed:
            return
        self.house.trouble(self, outcome, problem)
        if self.serving is not None:
            self.serving.flight.flush()
            if self.version == V5 and not self.is_closed:
                self.transport.write(disconnect(reason, problem))
        self.close()

    def turn_away(self, reason: Reason, outcome: str, problem: str) -> None:
        """CONNACK with a reason, and close."""
        self.house.trouble(self, outcome, problem)
        if not self.is_closed:
            self.transport.write(connack(self.version or V311, reason))
            self.close()

    def give_up(self, error: BaseException) -> None:
        """A message could not be kept: without PUBACK the client sends it again."""
        if not isinstance(error, HubError):
            log.error("an MQTT message could not be kept", exc_info=error)
        self.end(Reason.BUSY, "not_kept", str(error) or type(error).__name__)

    def _refuse(self, error: ContractBroken) -> None:
        reason = reason_of(error)
        problem = str(error.params.get("problem", ""))
        if self.version == 0 and reason is Reason.VERSION:
            self.turn_away(reason, "version", problem)
        else:
            self.end(reason, "protocol", problem)

    def close(self) -> None:
        """Close once everything is written; a client that does not read it is cut off.

        What still comes is read and thrown away for a moment: closed over unread bytes, TCP
        resets the connection, and the client never sees our last packets.
        """
        if self.is_closed:
            return
        self._close()
        self.house.closes(self)
        loop = self.house.loop
        if self.transport.can_write_eof():
            with suppress(OSError):  # the client went first
                self.transport.write_eof()
            self.transport.resume_reading()
            loop.call_later(_LINGER_SECONDS, self.transport.close)
        else:  # TLS has an end of its own
            self.transport.close()
        loop.call_later(_CLOSE_SECONDS, self.transport.abort)

    def abort(self) -> None:
        self._close()
        self.transport.abort()

    def _close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        if self._admitting is not None:
            self._admitting.cancel()
        if self.serving is not None:
            self.serving.ended()
