"""What the projector's process is told on its standard input: one line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hub.sdk.errors import ConfigError, HubError
from hub.sdk.loading import Strict
from hub.sdk.manifest_values import Seconds
from hub.sdk.registry import discover
from hub.sdk.telemetry import Decode
from hub.sdk.telemetry_source import TelemetrySource
from hub.telemetry.calendar import Zones
from hub.telemetry.leases import LEASE_SECONDS
from hub.telemetry.upkeep import Keeping


class ProjectorSettings(Strict):
    """`decoders` are (connector, dotted name in its package); `connectors` a folder with further
    connectors. `owner` is new for each process, `after` the owner that this one replaces and that
    is dead. `careful`: that one died by itself, so messages are to be taken singly at first.
    `lease` is how long (seconds) a process may be silent before others take its parts.
    `zone` and what follows: for roll-ups, retention and archive; `folder` is the deployment.
    `bus` is its URL and the name that its stream begins with; what is projected stays in it for
    `inbox_hours`.
    """

    url: str
    inbox_url: str
    sources: dict[str, TelemetrySource]
    decoders: list[tuple[str, str]]
    connectors: Path | None = None
    parts: int
    owner: str
    after: str = ""
    careful: bool = False
    lease: Seconds = LEASE_SECONDS
    zone: str = "UTC"
    keep_days: int = 0
    quarantine_days: int = 30
    archive: str | None = None
    archive_endpoint: str | None = None
    folder: Path = Path()
    bus: tuple[str, str] | None = None
    inbox_hours: float = 1.0

    def keeping(self) -> Keeping:
        """What becomes of readings later."""
        zones = Zones(self.zone, {name: one.zone for name, one in self.sources.items()})
        return Keeping(
            zones,
            self.keep_days,
            self.archive,
            self.archive_endpoint,
            self.folder,
            self.quarantine_days,
        )


class Formats(dict[str, Decode]):
    """Decoders by format. A format of a connector that is broken at present raises why: its
    messages must wait, not be refused."""

    def __init__(self, broken: Mapping[str, HubError]) -> None:
        super().__init__()
        self._broken = broken

    def __missing__(self, name: str) -> Decode:
        connector = name.partition(".")[0]
        if connector in self._broken:
            raise self._broken[connector]
        raise KeyError(name)


def load_decoders(settings: ProjectorSettings) -> Formats:
    """Every format by name. Raises ConfigError when the code of a connector is broken."""
    known = discover(settings.connectors)
    found = Formats(known.broken)
    for connector, name in settings.decoders:
        if connector in known.broken:
            continue
        decoders = known.get(connector).telemetry_code(name)
        try:
            found.update(decoders)
        except (TypeError, ValueError) as error:
            folder = known.get(connector).folder
            raise ConfigError(
                "connector.broken_code", connector=connector, folder=folder, problem=error
            ) from error
    return found
