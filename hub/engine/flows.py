"""Flows as their YAML files declare them, found in the mapping folders of a deployment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping as Dict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, model_validator

from hub.engine.cron import ever_comes, is_cron
from hub.engine.two_way.rules import TwoWay
from hub.mapping import Library, Mapping, load_mapping
from hub.sdk.errors import ConfigError, HubError
from hub.sdk.loading import Strict, load_yaml, suggestion, validate


def _percent(value: object) -> object:
    """`10%` or `10` as a number."""
    return value.strip().removesuffix("%") if isinstance(value, str) else value


Percent = Annotated[float, BeforeValidator(_percent), Field(ge=0, le=100)]


class Source(Strict):
    """Either a stream of a connection, read when the flow runs, or an event of its webhook, read
    when it arrives."""

    connection: str
    stream: str | None = None
    event: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.stream is None) == (self.event is None):
            raise ValueError("give `connection` with either `stream` or `event`")
        return self

    @property
    def ref(self) -> str:
        """The source's name for people: `connection/stream` or `connection/event:name`."""
        return f"{self.connection}/{self.stream or f'event:{self.event}'}"

    @property
    def stream_name(self) -> str:
        """The stream, where there can only be one. Raises ConfigError for an event."""
        if self.stream is None:
            raise ConfigError("flow.no_stream", connection=self.connection, event=self.event)
        return self.stream


class Schedule(Strict):
    """When the flow starts by itself. `catch_up` says what follows a downtime: one run for the
    last missed time, or none. At the times of `full` everything is read, not only changes."""

    cron: str
    full: str | None = None
    zone: str = "Asia/Shanghai"
    catch_up: Literal["last", "none"] = "last"


class Target(Strict):
    """Either a sink of a connection or an entity of the hub's own store.

    `delete` says what becomes of records that the source deleted: `unlink` leaves them as they
    are and forgets them. Of those that merely vanished, one read removes at most `delete_guard`
    per cent.
    """

    entity: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]*$")
    connection: str | None = None
    sink: str | None = None
    delete: Literal["ignore", "deactivate", "delete", "unlink"] = "ignore"
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
    two_way: TwoWay | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """A checked flow with its compiled mapping."""

    id: str
    path: Path
    source: Source
    schedule: Schedule | None
    mapping: Mapping
    target: Target
    two_way: TwoWay | None = None

    @property
    def origin(self) -> str:
        """A fingerprint of what is read and how it is mapped: another one means read it all."""
        name = self.source.stream or f"event:{self.source.event}"
        text = "\x1f".join((self.source.connection, name, self.mapping.version))
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
    if spec.from_.event is not None:
        _check_fed_by_events(spec, path)
    mapping = load_mapping(spec.mapping, where=str(path), library=library)
    return Flow(spec.flow, path, spec.from_, spec.schedule, mapping, spec.to, spec.two_way)


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


def _check_fed_by_events(spec: FlowFile, path: Path) -> None:
    """Events come when they come, one by one: there is nothing to plan and no whole to group."""
    if spec.schedule is not None:
        raise ConfigError("flow.event_schedule", file=path, event=spec.from_.event)
    if spec.mapping.get("group") is not None:
        raise ConfigError("flow.event_group", file=path, event=spec.from_.event)


def _check_schedule(schedule: Schedule, path: Path) -> None:
    for name, cron in (("cron", schedule.cron), ("full", schedule.full)):
        if cron is not None and not is_cron(cron):
            raise ConfigError("flow.cron", file=path, name=name, cron=cron)
        if cron is not None and not ever_comes(cron):
            raise ConfigError("flow.cron_never", file=path, name=name, cron=cron)
    try:
        ZoneInfo(schedule.zone)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigError("flow.zone", file=path, zone=schedule.zone) from error
