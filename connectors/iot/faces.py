"""The faces of this connector, put together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.iot.broker.listener import make_listeners
from connectors.iot.cloud_events_http import CloudEventsFace
from connectors.iot.decoders import DECODERS
from connectors.iot.influx import InfluxFace
from connectors.iot.json_http import MappedFace, ReadingsFace
from connectors.iot.mqtt.house import Options
from connectors.iot.mqtt.listener import MqttListener
from connectors.iot.thingsboard_http import ThingsBoardFace
from hub.sdk.telemetry import Faces, HttpFace, Listener, Port


def make_faces(port: Port, settings: Mapping[str, Any]) -> Faces:
    """See `hub.sdk.telemetry.MakeFaces`."""
    http: list[HttpFace] = [
        ThingsBoardFace(port),
        InfluxFace(port),
        ReadingsFace(port),
        MappedFace(port),
        CloudEventsFace(port),
    ]
    listeners = [*_listener(port, settings), *make_listeners(port, settings)]
    return Faces(http=http, listeners=listeners)


def _listener(port: Port, settings: Mapping[str, Any]) -> list[Listener]:
    """What `[mqtt]` opens: nothing without a port."""
    options = Options.of(settings.get("mqtt") or {}, Path(settings.get("folder", ".")))
    if options.port is None and options.tls_port is None:
        return []
    return [MqttListener(port, options, DECODERS)]
