"""Which flow is the other direction of which, and whether the two fit together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

from hub.engine.flows import Catalogue, Flow
from hub.engine.two_way.rules import Policy, TwoWay
from hub.sdk.body import MISSING, dig
from hub.sdk.envelope import holds
from hub.sdk.errors import ConfigError
from hub.sdk.loading import suggestion
from hub.sdk.manifest import Sink, Stream, Verify
from hub.sdk.records import Row

if TYPE_CHECKING:
    from hub.engine.hub import Hub


class Ends(Protocol):
    """What a connection can read and write."""

    @property
    def streams(self) -> Mapping[str, Stream]: ...
    @property
    def sinks(self) -> Mapping[str, Sink]: ...


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two systems: the stream it is read by, the sink it is written through."""

    connection: str
    stream: Stream
    sink: Sink
    verify: Verify

    def is_alive(self, row: Row | None) -> bool:
        """Whether the row is there and neither says that it is deleted nor that it is off."""
        if row is None or (self.stream.deleted is not None and holds(self.stream.deleted, row)):
            return False
        return self.verify.live is None or holds(self.verify.live, row)

    def is_gone(self, row: Row) -> bool:
        return not self.is_alive(row)

    def our_key(self, row: Row) -> str | None:
        """The key under which the hub wrote this row, when it did."""
        found = dig(row, self.verify.key)
        return None if found is MISSING or found in (None, "") else str(found)

    def paths(self, fields: tuple[str, ...]) -> dict[str, str]:
        """Where each field that is written here stands in a row, but for those not shown."""
        shown = [name for name in fields if name not in self.verify.ignore]
        return {name: self.verify.fields.get(name, name) for name in shown}


@dataclass(frozen=True, slots=True)
class Direction:
    """One flow of a checked pair as it is about to write: `partner` brings back what the target
    changed. One of the two leads: what concerns both is kept with its records."""

    flow: Flow
    partner: Flow
    spec: TwoWay
    policy: Policy
    leads: bool
    source: Side
    target: Side

    @property
    def leader(self) -> Flow:
        return self.flow if self.leads else self.partner

    @property
    def paths(self) -> dict[str, str]:
        """Where each field of ours stands in a row of the target."""
        return self.target.paths(self.flow.mapping.fields)

    @property
    def source_names(self) -> list[str]:
        """The fields of a source row that either direction reads or writes."""
        return _names(self.flow, self.source.paths(self.partner.mapping.fields))

    @property
    def target_names(self) -> list[str]:
        """The same for a row of the target."""
        return _names(self.partner, self.paths)

    def shown(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row of the target in the flow's fields. A field left out says nothing: null."""
        values = {name: dig(row, path) for name, path in self.paths.items()}
        return {name: None if value is MISSING else value for name, value in values.items()}

    def rule_of(self, field: str) -> str:
        """The rule for one of our fields, by its own name or by the partner's name for it."""
        rules = self.policy.fields
        if field in rules:
            return rules[field]
        path = self.paths.get(field)
        for name, found in self.partner.mapping.lineage().items():
            if name in rules and path in found.sources:
                return rules[name]
        return self.policy.otherwise


def used(row: Row, names: list[str]) -> Row:
    """The part of a row that counts; a field left out is null."""
    return {name: row.get(name) for name in names}


def direction_in(hub: Hub, flow: Flow) -> Direction | None:
    """The flow as one direction of a pair in the running hub; None for a flow that goes one way."""
    return direction_of(hub.catalogue, flow, lambda name: hub.session(name).connection.manifest)


def direction_of(
    catalogue: Catalogue, flow: Flow, ends_of: Callable[[str], Ends]
) -> Direction | None:
    """The flow as one direction of a checked pair; None for a flow that goes one way.

    Raises ConfigError for the first thing that does not fit.
    """
    if flow.two_way is None:
        return None
    partner = catalogue.flow(flow.two_way.with_)
    leader = _leader(flow, partner)
    spec = leader.two_way
    assert spec is not None  # noqa: S101 (what leading means)
    policy = spec.policy
    assert policy is not None  # noqa: S101 (the same)
    _check_ends(flow, partner)
    _check_policy(leader, flow, partner, spec, policy)
    source, target = _side(flow, partner, ends_of), _side(partner, flow, ends_of)
    return Direction(flow, partner, spec, policy, leader is flow, source, target)


def _leader(flow: Flow, partner: Flow) -> Flow:
    """The flow of the two that declares the policy."""
    if partner.id == flow.id:
        raise ConfigError("two_way.itself", file=flow.path)
    if partner.two_way is None or partner.two_way.with_ != flow.id:
        raise ConfigError("two_way.one_sided", file=partner.path, flow=flow.id, other=partner.id)
    both = [one for one in (flow, partner) if one.two_way and one.two_way.policy is not None]
    if len(both) != 1:
        raise ConfigError("two_way.policies", file=flow.path, other=partner.id, found=len(both))
    return both[0]


def _check_ends(flow: Flow, partner: Flow) -> None:
    for one, other in ((flow, partner), (partner, flow)):
        if one.target.sink is None or one.source.stream is None or one.mapping.group is not None:
            raise ConfigError("two_way.ends", file=one.path, flow=one.id)
        if one.source.connection != other.target.connection:
            raise ConfigError(
                "two_way.apart",
                file=one.path,
                reads=one.source.connection,
                other=other.id,
                writes=other.target.connection,
            )
    if flow.source.connection == partner.source.connection:
        raise ConfigError("two_way.alone", file=flow.path, connection=flow.source.connection)


def _side(reading: Flow, writing: Flow, ends_of: Callable[[str], Ends]) -> Side:
    """The system that one flow reads and the other writes."""
    ends, name = ends_of(reading.source.connection), reading.source.connection
    stream, sink = (
        ends.streams.get(reading.source.stream_name),
        ends.sinks.get(str(writing.target.sink)),
    )
    if stream is None:
        hint = suggestion(reading.source.stream_name, ends.streams)
        raise ConfigError(
            "connection.unknown_stream", connection=name, name=reading.source.stream_name, hint=hint
        )
    if sink is None:
        hint = suggestion(str(writing.target.sink), ends.sinks)
        raise ConfigError(
            "connection.unknown_sink", connection=name, name=writing.target.sink, hint=hint
        )
    gives_id = sink.id or (sink.receipts and sink.receipts.id)
    needed = {"verify": sink.verify, "show": sink.show, "update": sink.update, "id": gives_id}
    missing = [word for word, found in needed.items() if found is None]
    if missing or sink.verify is None:
        raise ConfigError(
            "two_way.sink", file=writing.path, sink=writing.target.ref, name=missing[0]
        )
    verify = sink.verify
    if verify.stream != reading.source.stream or [verify.id] != stream.key:
        raise ConfigError(
            "two_way.stream",
            file=reading.path,
            sink=writing.target.ref,
            stream=verify.stream,
            id=verify.id,
            other=reading.source.ref,
            key=", ".join(stream.key),
        )
    return Side(name, stream, sink, verify)


def _check_policy(leader: Flow, flow: Flow, partner: Flow, spec: TwoWay, policy: Policy) -> None:
    sides = [flow.source.connection, partner.source.connection]
    fields = [*flow.mapping.fields, *partner.mapping.fields]
    for name in policy.fields:
        if name not in fields:
            hint = suggestion(name, fields)
            raise ConfigError("two_way.field", file=leader.path, field=name, hint=hint)
    named = [rule.removeprefix("owner:") for rule in policy.rules if rule.startswith("owner:")]
    for name in [policy.owner, *named, *spec.clock, *spec.human]:
        if name not in sides:
            hint = suggestion(name, sides)
            raise ConfigError("two_way.side", file=leader.path, name=name, hint=hint)
    for clock in spec.clock.values():
        _check_zone(leader, clock.zone)
    for rule, what, given in (("latest", "clock", spec.clock), ("human_wins", "human", spec.human)):
        missing = [side for side in sides if side not in given]
        if rule in policy.rules and missing:
            raise ConfigError(
                "two_way.needs", file=leader.path, rule=rule, what=what, side=missing[0]
            )


def _check_zone(leader: Flow, zone: str) -> None:
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigError("two_way.zone", file=leader.path, zone=zone) from error


def _names(flow: Flow, paths: Mapping[str, str]) -> list[str]:
    return sorted(flow.mapping.source_fields | {path.split(".")[0] for path in paths.values()})
