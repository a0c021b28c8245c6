"""The faces of this connector, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.sdk.telemetry import Faces, Port


def make_faces(port: Port, settings: Mapping[str, Any]) -> Faces:
    """See `hub.sdk.telemetry.MakeFaces`."""
    return Faces(http=[], listeners=[])
