"""Every format that the hub reads, by name."""

from __future__ import annotations

from connectors.iot import cloud_events, line_protocol, mapped, readings, thingsboard
from connectors.iot.mqtt import presence
from connectors.iot.retained import knows_retained
from connectors.iot.sparkplug.decode import decode_sparkplug
from hub.sdk.telemetry import Decode

_PLAIN: dict[str, Decode] = {
    "iot.thingsboard": thingsboard.decode_telemetry,
    "iot.thingsboard_gateway": thingsboard.decode_gateway_telemetry,
    "iot.thingsboard_attributes": thingsboard.decode_attributes,
    "iot.thingsboard_gateway_attributes": thingsboard.decode_gateway_attributes,
    "iot.gateway_connect": thingsboard.decode_connect,
    "iot.gateway_disconnect": thingsboard.decode_disconnect,
    presence.FORMAT: presence.decode_presence,
    "iot.readings": readings.decode,
    "iot.cloud_events": cloud_events.decode,
    "iot.mapped": mapped.decode,
    line_protocol.FORMAT: line_protocol.decode,
    "iot.sparkplug": decode_sparkplug,
}

DECODERS: dict[str, Decode] = {name: knows_retained(one) for name, one in _PLAIN.items()}
"""Any of them may come through a broker, retained."""
