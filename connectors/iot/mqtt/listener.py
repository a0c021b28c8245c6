"""The MQTT listener: ports, the clock of keep-alives, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from connectors.iot.mqtt.connection import Connection
from connectors.iot.mqtt.house import House, Options
from connectors.iot.mqtt.shared import tell_shared_attributes
from connectors.iot.mqtt.wire import Reason
from hub.sdk.errors import ConfigError, HubError
from hub.sdk.telemetry import Decode, Port

_BACKLOG = 1024
_CHECK_SECONDS = 1.0
_REVOKED_SECONDS = 3.0
_HANDSHAKE_SECONDS = 10.0
_DRAIN_SECONDS = 2.0
_IDLE_SECONDS = 300
"""TCP asks after this long whether the other side is still there: keep-alive may be 0."""


class MqttListener:
    """See `hub.sdk.telemetry.Listener`."""

    name = "mqtt"

    def __init__(self, port: Port, options: Options, decoders: Mapping[str, Decode]) -> None:
        self._port, self._options, self._decoders = port, options, decoders
        self._servers: list[asyncio.Server] = []
        self._house: House | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.ports: dict[str, int] = {}
        """The ports in use by name (`port`, `tls_port`): 0 in the settings takes a free one."""

    async def start(self) -> None:
        """Raises ConfigError: a port in use, an unreadable certificate."""
        options = self._options
        context = None if options.tls_port is None else tls_context(options)
        self._house = house = House(self._port, options, self._decoders)
        try:
            if options.port is not None:
                await self._serve("port", house, options.port, None)
            if options.tls_port is not None:
                await self._serve("tls_port", house, options.tls_port, context)
        except ConfigError:
            await self.stop()
            raise
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(_check_often(house)),
            loop.create_task(tell_shared_attributes(house)),
            loop.create_task(_end_revoked(house)),
        ]

    async def stop(self) -> None:
        """What is being committed is still acknowledged; then every client is told."""
        house, self._house = self._house, None
        if house is None:
            return
        house.is_closing = True
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await _drain(house)
        for connection in list(house.connections):
            connection.end(Reason.SHUTTING_DOWN, "shut_down", "the hub stops")
        await _until(lambda: not house.connections and not house.closing)
        for connection in [*house.connections, *house.closing]:
            connection.abort()
        self._servers, self.ports = [], {}

    def status(self) -> dict[str, Any]:
        house = self._house
        if house is None:
            return {"running": False}
        serving = [one.serving for one in house.connections if one.serving is not None]
        return {
            "running": True,
            **self.ports,
            "connections": len(serving),
            "gateways": sum(one.sender.gateway for one in serving),
            "sessions": len(house.sessions),
            "waiting": sum(len(one.flight) for one in serving),
            "trouble": list(house.latest),
        }

    async def _serve(
        self, name: str, house: House, port: int, context: ssl.SSLContext | None
    ) -> None:
        host = self._options.host
        seconds = None if context is None else _HANDSHAKE_SECONDS
        try:
            server = await house.loop.create_server(
                lambda: Connection(house),
                host,
                port,
                ssl=context,
                ssl_handshake_timeout=seconds,
                ssl_shutdown_timeout=seconds,
                backlog=_BACKLOG,
            )
        except OSError as error:
            problem = error.strerror or str(error)
            raise ConfigError("mqtt.port", host=host, port=port, problem=problem) from error
        self._servers.append(server)
        for one in server.sockets:
            _ask_idle_peers(one)
        self.ports[name] = server.sockets[0].getsockname()[1]


def tls_context(options: Options) -> ssl.SSLContext:
    """Clients may show a certificate that `client_ca` signed. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    file = options.certificate
    try:
        if file is None:
            raise OSError("no certificate is given")
        context.load_cert_chain(file, options.key)
        if options.client_ca is not None:
            file = options.client_ca
            context.load_verify_locations(file)
            context.verify_mode = ssl.CERT_OPTIONAL
    except OSError as error:  # ssl.SSLError is one
        problem = error.strerror or str(error)
        raise ConfigError("mqtt.certificate", file=file, problem=problem) from error
    return context


def _ask_idle_peers(server: socket.socket) -> None:
    """Sockets that are accepted inherit this."""
    server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        with contextlib.suppress(OSError):
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_SECONDS)


async def _check_often(house: House) -> None:
    while True:
        await asyncio.sleep(_CHECK_SECONDS)
        now = house.loop.time()
        for connection in list(house.connections):
            connection.check(now)
        house.sessions.sweep(now)


async def _end_revoked(house: House) -> None:
    """End the connections of those whose credential was revoked, until cancelled."""
    while True:
        try:
            gone = {(one.source, one.device) for one in await house.port.revoked()}
        except HubError:
            gone = set()  # asked again in a moment: what was missed is told then
        for connection in list(house.connections) if gone else ():
            serving = connection.serving
            if serving and (serving.sender.source, serving.sender.device) in gone:
                problem = "a credential of this sender was revoked"
                connection.end(Reason.NOT_AUTHORIZED, "revoked", problem)
        await asyncio.sleep(_REVOKED_SECONDS)


async def _drain(house: House) -> None:
    """Read nothing more, and wait a moment for what is being committed."""
    for connection in house.connections:
        connection.transport.pause_reading()
    serving = [one.serving for one in house.connections if one.serving is not None]
    await _until(lambda: not any(len(one.flight) for one in serving))


async def _until(done: Any) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while not done():
                await asyncio.sleep(0.01)
