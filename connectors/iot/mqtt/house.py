"""What all connections of the listener share: who is here, who may enter, whether there is room."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectors.iot.mqtt.answers import connack
from connectors.iot.mqtt.packets import Connect
from connectors.iot.mqtt.presence import presence
from connectors.iot.mqtt.serving import Serving
from connectors.iot.mqtt.session import LONGEST_EXPIRY, Sessions
from connectors.iot.mqtt.topics import Routes
from connectors.iot.mqtt.wire import V5, Property, PropertyValues, Reason
from hub.sdk.errors import HubError
from hub.sdk.telemetry import Decode, Message, Port, Sender

if TYPE_CHECKING:
    from connectors.iot.mqtt.connection import Connection

_LOW_ROOM, _ENOUGH_ROOM = 0.1, 0.3
_LOOK_SECONDS = 0.02
_EXTRA_CONNECTIONS = 500
"""Connections above the limit that are told so instead of being cut off."""
_LONGEST_CLIENT_ID = 256
_LATEST = 20


@dataclass(frozen=True, slots=True)
class Options:
    """`[mqtt]` of `hub.toml`; paths are complete."""

    host: str = "127.0.0.1"
    port: int | None = None
    tls_port: int | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    receive_maximum: int = 200
    max_packet: int = 1_048_576
    most_connections: int = 10_000

    @classmethod
    def of(cls, given: Mapping[str, Any], folder: Path) -> Options:
        """From settings whose paths are relative to the deployment's folder."""
        known = {
            name: given[name] for name in cls.__dataclass_fields__ if given.get(name) is not None
        }
        for name in ("certificate", "key", "client_ca"):
            if name in known:
                known[name] = folder / known[name]
        return cls(**known)


class House:
    """See the module. Everything here runs on one event loop."""

    def __init__(self, port: Port, options: Options, decoders: Mapping[str, Decode]) -> None:
        self.port = port
        self.options = options
        self.routes = Routes(decoders)
        self.sessions = Sessions()
        self.connections: set[Connection] = set()
        self.closing: set[Connection] = set()
        """Closed by us, but what the client still sends is being read."""
        self.loop = asyncio.get_running_loop()
        self.latest: deque[dict[str, Any]] = deque(maxlen=_LATEST)
        self.is_closing = False
        self._here: Counter[tuple[str, str]] = Counter()
        self._waiting: set[Connection] = set()
        self._looking = False
        self._messages: set[asyncio.Future[Any]] = set()

    # --- room ---------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Nothing more is read until the queue has emptied a good deal."""
        return self.port.room() < (_ENOUGH_ROOM if self._waiting else _LOW_ROOM)

    def waits(self, connection: Connection) -> None:
        """It reads on once there is room."""
        self._waiting.add(connection)
        if not self._looking:
            self._looking = True
            self.port.count("mqtt", "paused")
            self.loop.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        if self.is_full:
            self.loop.call_later(_LOOK_SECONDS, self._look)
            return
        self._looking = False
        waiting, self._waiting = self._waiting, set()
        for connection in waiting:
            connection.pump()

    # --- coming and going -----------------------------------------------------------------------

    def enters(self, connection: Connection) -> bool:
        """Whether another connection may be held at all."""
        held = len(self.connections) + len(self.closing)
        if held >= self.options.most_connections + _EXTRA_CONNECTIONS:
            self.port.count("mqtt", "too_many")
            return False
        self.connections.add(connection)
        return True

    def closes(self, connection: Connection) -> None:
        """It counts no more, and is not gone yet."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.closing.add(connection)

    def leaves(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.closing.discard(connection)
        self._waiting.discard(connection)
        serving = connection.serving
        if serving is None:
            return
        if serving.session.connection is connection:
            self.sessions.leave(serving.session, serving.expiry, self.loop.time())
        self._count(serving.sender, -1)

    def _count(self, sender: Sender, change: int) -> None:
        """Tell the projector when the first connection of a sender begins and the last ends."""
        key = (sender.source, sender.device)
        self._here[key] += change
        first = change > 0 and self._here[key] == 1
        last = self._here[key] == 0
        if last:
            del self._here[key]
        if (first or last) and not self.is_closing:
            state = "online" if first else "offline"
            self._tell(presence(sender, state, self.port.now_ms()))

    def _tell(self, message: Message) -> None:
        try:
            future = asyncio.ensure_future(self.port.keep(message))
        except HubError:
            self.port.count("mqtt", "presence_lost")
            return
        self._messages.add(future)
        future.add_done_callback(self._told)

    def _told(self, future: asyncio.Future[Any]) -> None:
        self._messages.discard(future)
        if not future.cancelled() and future.exception() is not None:
            self.port.count("mqtt", "presence_lost")

    def trouble(self, connection: Connection, outcome: str, problem: str) -> None:
        """For the operating view: the latest few, and how many of each."""
        self.port.count("mqtt", outcome)
        peer = connection.transport.get_extra_info("peername")
        serving = connection.serving
        self.latest.append(
            {
                "at": self.port.now_ms(),
                "peer": f"{peer[0]}:{peer[1]}" if peer else "",
                "device": serving.sender.device if serving else "",
                "outcome": outcome,
                "problem": problem,
            }
        )

    # --- CONNECT ------------------------------------------------------------------------------

    async def admit(self, connection: Connection, packet: Connect) -> Serving | None:
        """Answers CONNECT; None when the client was turned away."""
        refusal = self._formal_refusal(packet)
        if refusal is not None:
            connection.turn_away(*refusal)
            return None
        try:
            sender = await self._sender(connection, packet)
        except HubError as error:
            connection.turn_away(Reason.UNAVAILABLE, "unavailable", str(error))
            return None
        if connection.is_closed:
            return None
        if sender is None:
            problem = "nobody holds this token, password or certificate"
            connection.turn_away(Reason.NOT_AUTHORIZED, "unauthorized", problem)
            return None
        return self._open(connection, packet, sender)

    def _formal_refusal(self, packet: Connect) -> tuple[Reason, str, str] | None:
        if self.is_closing or len(self.connections) > self.options.most_connections:
            return Reason.BUSY, "too_many", f"more than {self.options.most_connections} connections"
        if Property.AUTH_METHOD in packet.values:
            return Reason.AUTH_METHOD, "protocol", "no authentication methods are offered"
        nameless = not packet.client_id and packet.version != V5 and not packet.clean
        if nameless or len(packet.client_id) > _LONGEST_CLIENT_ID:
            return Reason.CLIENT_ID, "protocol", "the client id is missing or too long"
        if packet.version == V5 and packet.will_qos == 2:
            return Reason.QOS, "protocol", "a will of QoS 2"
        return None

    async def _sender(self, connection: Connection, packet: Connect) -> Sender | None:
        """By user name (a token, or with a password), else by the certificate of TLS."""
        if packet.user:
            if not packet.password:
                return await self.port.admit_token(packet.user)
            try:
                password = packet.password.decode()
            except UnicodeDecodeError:
                return None
            return await self.port.admit_password(packet.user, password)
        layer = connection.transport.get_extra_info("ssl_object")
        shown = layer.getpeercert(binary_form=True) if isinstance(layer, ssl.SSLObject) else None
        if not shown:
            return None
        return await self.port.admit_certificate(hashlib.sha256(shown).hexdigest())

    def _open(self, connection: Connection, packet: Connect, sender: Sender) -> Serving:
        client_id = packet.client_id or f"hub-{secrets.token_hex(8)}"
        known = self.sessions.find(sender, client_id)
        if known is not None and known.connection is not None:
            old = known.connection
            old.end(Reason.TAKEN_OVER, "taken_over", "another client came with this client id")
            if old.serving is not None:
                self.sessions.leave(known, old.serving.expiry, self.loop.time())
        expiry = _expiry(packet)
        now = self.loop.time()
        session, present = self.sessions.open(sender, client_id, now, clean=packet.clean)
        session.connection = connection
        connection.keep_alive = packet.keep_alive
        self._count(sender, 1)
        values = self._offer(packet, client_id, expiry)
        connection.transport.write(connack(packet.version, Reason.SUCCESS, values, present=present))
        return Serving(connection, self, session, packet, expiry)

    def _offer(self, packet: Connect, client_id: str, expiry: int) -> PropertyValues:
        values: PropertyValues = {
            Property.RECEIVE_MAXIMUM: self.options.receive_maximum,
            Property.MAXIMUM_QOS: 1,
            Property.MAXIMUM_PACKET: self.options.max_packet,
            Property.SHARED_AVAILABLE: 0,
        }
        if not packet.client_id:
            values[Property.ASSIGNED_CLIENT_ID] = client_id
        if expiry != packet.values.get(Property.SESSION_EXPIRY, 0):
            values[Property.SESSION_EXPIRY] = expiry
        return values


def _expiry(packet: Connect) -> int:
    """Seconds that the session may outlive this connection."""
    if packet.version == V5:
        return min(int(packet.values.get(Property.SESSION_EXPIRY, 0)), LONGEST_EXPIRY)
    return 0 if packet.clean else LONGEST_EXPIRY
