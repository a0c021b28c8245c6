"""The declared telemetry sources: `mappings/telemetry/*.yaml`, and the source `iot` by default."""

from __future__ import annotations

from hub.engine.deployment import Deployment
from hub.sdk.errors import ConfigError
from hub.sdk.loading import load_yaml, suggestion, validate
from hub.sdk.telemetry_source import DEFAULT_SOURCE, TelemetrySource

FOLDER = "telemetry"


def telemetry_sources(deployment: Deployment) -> dict[str, TelemetrySource]:
    """All sources by name, for what happens in local days: one without a zone has the deployment's.

    Raises ConfigError for a file that is wrong.
    """
    zone = deployment.settings.zone
    return {
        name: one if one.zone else one.model_copy(update={"zone": zone})
        for name, one in declared_sources(deployment).items()
    }


def declared_sources(deployment: Deployment) -> dict[str, TelemetrySource]:
    """All sources as they are declared, for faces: a time without offset is refused where no zone
    is declared. One in the deployment goes before one of the checkout or the bundle.

    Raises ConfigError for a file that is wrong.
    """
    found: dict[str, TelemetrySource] = {}
    for place in deployment.mapping_folders:
        for path in sorted((place / FOLDER).glob("*.yaml")):
            declared = validate(TelemetrySource, load_yaml(path), path)
            if declared.source != path.stem:
                raise ConfigError("telemetry.source_name", file=path, name=declared.source)
            found.setdefault(declared.source, declared)
    found.setdefault(DEFAULT_SOURCE, TelemetrySource())
    return found


def telemetry_source(deployment: Deployment, name: str) -> TelemetrySource:
    """One source. Raises ConfigError, with a suggestion, for an unknown one."""
    sources = telemetry_sources(deployment)
    if name not in sources:
        raise ConfigError("telemetry.no_source", name=name, hint=suggestion(name, sources))
    return sources[name]
