"""Every format that the hub reads, by name."""

from __future__ import annotations

from hub.sdk.telemetry import Decode

DECODERS: dict[str, Decode] = {}
