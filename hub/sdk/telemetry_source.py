"""A telemetry source as `mappings/telemetry/NAME.yaml` declares it: policies and mappings.

Without a file there is the source `iot` with the defaults below.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import Field, field_validator, model_validator

from hub.sdk.loading import Strict
from hub.sdk.manifest_values import Path_, Seconds

DEFAULT_SOURCE = "iot"

TimeUnit = Literal["ns", "us", "ms", "s", "rfc3339"]


class ClockPolicy(Strict):
    """Devices' clocks are not trusted: what is later than the receipt by more than `future` is
    quarantined, or kept under the time of its receipt."""

    future: Seconds = 300.0
    future_policy: Literal["quarantine", "receive_time"] = "quarantine"


class LineProtocol(Strict):
    """Device = the first of `device_tags` that a line has. A metric is named `measurement_field`,
    or by its field alone in `measurement`.

    `metric_tags` tell series of one device apart (`cpu`, `interface`): their values stand between
    measurement and field."""

    device_tags: list[str] = Field(default=["device", "device_id", "sn", "host"], min_length=1)
    measurement: str | None = None
    metric_tags: list[str] = []


class TimeField(Strict):
    path: Path_
    unit: TimeUnit = "ms"


class JsonMapping(Strict):
    """Readings out of any JSON.

    `each` leads to a list of entries (none: the message is one entry). `device` is a template over
    captures (`{device}`) or, as `$.path`, a path in the entry. `metrics` maps names to paths in the
    entry; `all_of` takes every number below a path instead.
    """

    each: Path_ | None = None
    device: str
    metrics: dict[str, Path_] = {}
    all_of: Path_ | None = None
    time: TimeField | None = None
    attributes: dict[str, Path_] = {}

    @model_validator(mode="after")
    def _reads_something(self) -> Self:
        if not self.metrics and self.all_of is None:
            raise ValueError("give `metrics` {name: path} or `all_of: path`")
        return self


class Topic(Strict):
    """Messages of a broker: `plant/{line}/{device}/telemetry` names levels, `+` and `#` do not.

    `format` is a decoder's name, or `mapped` with `mapping`.
    """

    filter: str
    format: str = "mapped"
    mapping: JsonMapping | None = None
    details: dict[str, str] = {}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.format == "mapped") != (self.mapping is not None):
            raise ValueError("`format: mapped` needs `mapping`, other formats take none")
        return self


class Sparkplug(Strict):
    """Taking part as a host application. `commands` allows asking for rebirths."""

    groups: list[str] = ["+"]
    primary_host: str | None = None
    commands: bool = True
    reorder: Seconds = 2.0


class Broker(Strict):
    """A broker whose client the hub is: `connection` names its account in `connections.yaml`."""

    connection: str
    client_id: str = Field(pattern=r"^[A-Za-z0-9_.:-]{1,200}$")
    share: str | None = None
    slots: int = Field(default=1, ge=1, le=64)
    topics: list[Topic] = []
    sparkplug: Sparkplug | None = None

    @model_validator(mode="after")
    def _slots_share(self) -> Self:
        if self.slots > 1 and not self.share:
            raise ValueError("several `slots` need `share`, or each of them gets every message")
        if self.share and any(one in self.share for one in "/+#"):
            raise ValueError("`share` is a name without / + and #")
        return self


class DeviceClass(Strict):
    """Devices whose name fits `match` (`*` and `?`) get the class unless they have one."""

    match: str
    kind: str = Field(alias="class")


class TelemetrySource(Strict):
    """See the module."""

    source: str = Field(default=DEFAULT_SOURCE, pattern=r"^[a-z][a-z0-9_-]{0,59}$")
    title: str | None = None
    tenant: str = Field(default="default", pattern=r"^[a-z][a-z0-9_-]{0,59}$")
    unknown_devices: Literal["auto", "approve", "reject"] = "auto"
    zone: str | None = None
    clock: ClockPolicy = ClockPolicy()
    classes: list[DeviceClass] = []
    units: dict[str, str] = {}
    line_protocol: LineProtocol = LineProtocol()
    http: Annotated[
        dict[str, JsonMapping], Field(description="POST /telemetry/v1/mapped/NAME")
    ] = {}
    broker: Broker | None = None

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str | None) -> str | None:
        if zone is not None and zone not in available_timezones():
            raise ValueError(f"unknown time zone {zone!r}; use a name like Asia/Shanghai")
        return zone


def as_settings(source: TelemetrySource) -> dict[str, Any]:
    """JSON of a source, as the projector's process gets it."""
    return source.model_dump(mode="json", by_alias=True)
