"""What this process accepts of telemetry: the port, the faces over HTTP, the listeners."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp

from hub.api.telemetry import TelemetryEdge
from hub.engine.hub import Hub
from hub.engine.telemetry_sources import declared_sources
from hub.sdk.connection import connector_of
from hub.sdk.errors import HubError
from hub.sdk.registry import Connector
from hub.sdk.telemetry import Faces, HttpFace, Listener
from hub.sdk.telemetry_source import TelemetrySource
from hub.telemetry.bus_keeper import BusKeeper
from hub.telemetry.listening import Listening
from hub.telemetry.port import HubPort

log = logging.getLogger("hub.api.front")


class Front:
    """Telemetry as it comes in. Use `open_front`."""

    def __init__(self, hub: Hub) -> None:
        chosen = hub.deployment.settings.telemetry
        sources = declared_sources(hub.deployment)
        embedded = hub.deployment.telemetry_inbox_url.startswith("sqlite")
        bus = hub.telemetry.bus
        self.port = HubPort(
            lambda: hub.telemetry.inbox,
            lambda: hub.telemetry.readings,
            sources,
            parts=1 if embedded else chosen.parts,
            keep_hours=chosen.inbox_hours,
            now_ms=hub.now_ms,
            keeper=None if bus is None else BusKeeper(bus),
        )
        self.http: list[HttpFace] = []
        listeners: list[Listener] = []
        for connector in hub.discovery.connectors.values():
            faces = _faces(hub, connector, self.port, sources)
            self.http.extend(faces.http)
            listeners.extend(faces.listeners)
        self.listening = Listening(listeners)

    def edge(self, app: ASGIApp) -> ASGIApp:
        """`app` behind the faces over HTTP."""
        return TelemetryEdge(app, self.http) if self.http else app

    def status(self) -> dict[str, Any]:
        """What an operator sees of it, and `/metrics`."""
        ingest = self.port.ingest
        return {
            "waiting": ingest.queue.waiting,
            "room": round(ingest.room(), 3),
            "messages": dict(ingest.counts),
            "faces": {f"{face}.{what}": n for (face, what), n in self.port.counted.items()},
            "listeners": self.listening.status(),
        }

    def start(self) -> None:
        """Let the listeners in. Raises ConfigError (port in use, …)."""
        self.listening.start()
        self.port.trimmer.start()

    def close(self) -> None:
        """Take nothing more; what was taken is kept before this returns."""
        self.listening.stop()
        self.port.close()


@contextmanager
def open_front(hub: Hub, *, listen: bool = True) -> Iterator[Front]:
    """Accept telemetry; without `listen` over HTTP only. Raises ConfigError."""
    front = Front(hub)
    try:
        if listen:
            front.start()
        hub.accepting = front.status
        yield front
    finally:
        hub.accepting = None
        front.close()


def _faces(
    hub: Hub, connector: Connector, port: HubPort, sources: Mapping[str, TelemetrySource]
) -> Faces:
    """The faces that a connector adds. Its code may be broken: then others are not."""
    telemetry = connector.manifest.telemetry
    if telemetry is None:
        return Faces()
    try:
        make = connector.telemetry_code(telemetry.faces)
    except HubError as error:
        log.error("no telemetry by %s: %s", connector.name, error)
        return Faces()
    settings = {
        "mqtt": hub.deployment.settings.mqtt.model_dump(),
        "sources": sources,
        "connections": _connections(hub, connector, sources),
        "folder": hub.deployment.folder,
    }
    try:
        faces: Faces = make(port, settings)
    except HubError:
        raise  # what is declared cannot be, and an operator mends that
    except Exception as error:
        log.error("no telemetry by %s", connector.name, exc_info=error)
        return Faces()
    return faces


def _connections(
    hub: Hub, connector: Connector, sources: Mapping[str, TelemetrySource]
) -> dict[str, dict[str, Any]]:
    """The accounts of brokers that sources name, secrets resolved. Raises ConfigError."""
    named = {one.broker.connection for one in sources.values() if one.broker is not None}
    entries = hub.deployment.connections
    return {
        name: dict(hub.connection(name).config)
        for name in sorted(named)
        if name not in entries or connector_of(name, entries[name]) == connector.name
    }
