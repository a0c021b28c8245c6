"""The deployment's archive of readings, for the commands of an operator."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from hub.engine.deployment import Deployment
from hub.engine.telemetry_sources import telemetry_sources
from hub.sdk.errors import ConfigError
from hub.telemetry.archive_places import Place, open_place
from hub.telemetry.calendar import Zones


def archive_of(deployment: Deployment) -> Place:
    """The place that `telemetry.archive` names. Raises ConfigError when there is none."""
    chosen = deployment.settings.telemetry
    if chosen.archive is None:
        raise ConfigError("telemetry.no_archive", file=deployment.folder / "hub.toml")
    return open_place(chosen.archive, chosen.archive_endpoint, Path(deployment.folder).resolve())


def zones_of(deployment: Deployment) -> Zones:
    """In which zone days are: a source's, else the deployment's."""
    sources = {name: one.zone for name, one in telemetry_sources(deployment).items()}
    return Zones(deployment.settings.zone, sources)


def this_process() -> str:
    """A name for the lease on the archive."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}"
