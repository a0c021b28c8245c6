"""Flows as their YAML files declare them, found in the mapping folders of a deployment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping as Dict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from croniter import croniter
from pydantic import BeforeValidator, Field, model_validator

from hub.mapping import Library, Mapping, load_mapping
from hub.sdk.errors import ConfigError, HubError
from hub.sdk.loading import Strict, load_yaml, suggestion, validate


def _percent(value: object) -> object:
    """`10%` or `10` as a number."""
    return value.strip().removesuffix("%") if isinstance(value, str) else value


Percent = Annotated[float, BeforeValidator(_percent), Field(ge=0, le=100)]


class Source(Strict):
    connection: str
    stream: str


class Schedule(Strict):
    """When the flow starts by itself. `catch_up` says what follows a downtime: one run for the
    last missed time, or none."""

    cron: str
    zone: str = "Asia/Shanghai"
    catch_up: Literal["last", "none"] = "last"


class Target(Strict):
    """Either a sink of a connection or an entity of the hub's own store.

    `delete` says what to do with records that the source deleted; never more than `delete_guard`
    per cent of them because of one read.
    """

    entity: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]*$")
    connection: str | None = None
    sink: str | None = None
    delete: Literal["ignore", "deactivate", "delete"] = "ignore"
    delete_guard: Percent = 10.0

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        to_sink = self.connection is not None and self.sink is not None
        half = (self.connection is None) != (self.sink is None)
        if half or to_sink == (self.entity is not None):
            raise ValueError("give either `entity`, or `connection` with `sink`")
        return self

    @property
    def ref(self) -> str:
        """The target's name in the ledger: `connection/sink` or `hub/entity`."""
        return f"{self.connection}/{self.sink}" if self.sink else f"hub/{self.entity}"


class FlowFile(Strict):
    """The shape of `mappings/flows/NAME.yaml`."""

    flow: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: dict[str, str] | None = None
    from_: Source = Field(alias="from")
    schedule: Schedule | None = None
    mapping: dict[str, Any]
    to: Target


@dataclass(frozen=True, slots=True)
class Flow:
    """A checked flow with its compiled mapping."""

    id: str
    path: Path
    source: Source
    schedule: Schedule | None
    mapping: Mapping
    target: Target

    @property
    def origin(self) -> str:
        """A fingerprint of what is read and how it is mapped: another one means read it all."""
        text = "\x1f".join((self.source.connection, self.source.stream, self.mapping.version))
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    @property
    def version(self) -> str:
        """`origin`, and where the records go."""
        return f"{self.origin}:{hashlib.sha256(self.target.ref.encode()).hexdigest()[:20]}"


def load_flow(path: Path, library: Library) -> Flow:
    """The flow in a file. Raises ConfigError for the first thing that is wrong."""
    spec = validate(FlowFile, load_yaml(path), path)
    if spec.flow != path.stem:
        raise ConfigError("flow.name", file=path, flow=spec.flow, name=path.stem)
    if spec.schedule is not None:
        _check_schedule(spec.schedule, path)
    mapping = load_mapping(spec.mapping, where=str(path), library=library)
    return Flow(spec.flow, path, spec.from_, spec.schedule, mapping, spec.to)


class Catalogue:
    """Every flow of a deployment by name; a broken one does not hide the others."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._library = Library(folders)
        self._paths: dict[str, Path] = {}
        self._loaded: dict[str, Flow] = {}
        for folder in reversed(folders):
            for path in sorted((folder / "flows").glob("*.yaml")):
                self._paths[path.stem] = path

    @property
    def names(self) -> list[str]:
        return sorted(self._paths)

    def flow(self, name: str) -> Flow:
        """The flow of this name, loaded once. Raises ConfigError."""
        if name not in self._paths:
            raise ConfigError("flow.unknown", name=name, hint=suggestion(name, self._paths))
        if name not in self._loaded:
            self._loaded[name] = load_flow(self._paths[name], self._library)
        return self._loaded[name]

    def all(self) -> tuple[list[Flow], Dict[str, HubError]]:
        """The flows that load, and the error of each that does not."""
        flows: list[Flow] = []
        broken: dict[str, HubError] = {}
        for name in self.names:
            try:
                flows.append(self.flow(name))
            except HubError as error:
                broken[name] = error
        return flows, broken

    def feeding(self, connection: str | None, name: str) -> list[str]:
        """Flows whose target is sink `name` of the connection, or the hub's entity `name`."""
        flows, _ = self.all()
        return [
            flow.id
            for flow in flows
            if flow.target.entity == name
            or (flow.target.sink == name and flow.target.connection == connection)
        ]


def _check_schedule(schedule: Schedule, path: Path) -> None:
    # A sixth field means different things to different libraries; five fields are unambiguous.
    if len(schedule.cron.split()) != 5 or not croniter.is_valid(schedule.cron):
        raise ConfigError("flow.cron", file=path, cron=schedule.cron)
    try:
        ZoneInfo(schedule.zone)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigError("flow.zone", file=path, zone=schedule.zone) from error
