"""What one look at a pair leads to. Nothing here writes or asks anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from hub.engine.sameness import same
from hub.engine.two_way.looking import Look
from hub.engine.two_way.merge import Conflict, Merge, Sides, merge
from hub.engine.two_way.pairs import Direction
from hub.engine.two_way.rules import Party, Referee, Ruling
from hub.sdk.manifest import Sink

TURNS = 3
WITHIN_MS = 3_600_000
"""A field that turns its direction this often within this time is in a circle nobody wants."""


class Step(StrEnum):
    """What is done at the target, and in one word why nothing is."""

    CREATE = "create"
    UPDATE = "update"
    REVIVE = "revive"
    REMOVE = "remove"
    SAME = "same"
    BOTH_GONE = "both_gone"
    SOURCE_GONE = "source_gone"
    SOURCE_BACK = "source_back"
    TARGET_GONE = "target_gone"
    TARGET_EDITED = "target_edited"
    REPLACED = "replaced"
    STOPPED = "stopped"


WRITES = (Step.CREATE, Step.UPDATE, Step.REVIVE, Step.REMOVE)
_LEAVES_THE_BASE = (
    Step.SOURCE_GONE,
    Step.SOURCE_BACK,
    Step.TARGET_GONE,
    Step.TARGET_EDITED,
    Step.REPLACED,
    Step.STOPPED,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, how each field came to it, and which fields turn which way."""

    step: Step
    merge: Merge = field(default_factory=Merge)
    data: Mapping[str, Any] = field(default_factory=dict)
    turns: Mapping[str, Any] = field(default_factory=dict)
    stopped: tuple[str, ...] = ()
    is_new: bool = False

    @property
    def needs_partner(self) -> bool:
        """Whether the other side must change too, although nobody has edited the target: a person
        said so, or the two were compared for the first time."""
        kept = self.merge.kept.values()
        return "person" in kept or (self.is_new and any(one != "nobody" for one in kept))

    @property
    def agrees(self) -> bool:
        """Whether what both sides say now is what they agree on from then on."""
        return self.step not in _LEAVES_THE_BASE


def plan_write(
    look: Look,
    sides: Sides | None,
    sink: Sink,
    now: datetime,
    *,
    maybe_landed: bool = False,
) -> Plan:
    """Bring the target up to what the source says, as far as the policy lets it.

    `sides` is None when the source's row is gone or its mapping does not take it.
    """
    direction = look.direction
    if look.is_replaced:
        return Plan(Step.REPLACED)
    if sides is None or not direction.source.is_alive(look.source):
        return Plan(Step.SOURCE_GONE)
    if not direction.target.is_alive(look.target):
        return _plan_without_target(look, sides)
    found = merge(
        _without_key(sides, sink),
        _judge(look, now),
        maybe_landed=maybe_landed,
        said=look.said,
        disputed=look.disputed,
    )
    if not found.changed:
        return Plan(Step.SAME, found, is_new=sides.is_new)
    turns = _turned(look, found, now)
    stopped = _circling(look, turns)
    if stopped:
        return Plan(Step.STOPPED, found, turns=turns, stopped=stopped)
    return Plan(Step.UPDATE, found, _data(found, sides, sink), turns, is_new=sides.is_new)


def plan_removal(look: Look, sides: Sides, now: datetime) -> Plan:
    """Remove what the source says is gone, unless an edit of the target beats that."""
    direction = look.direction
    if look.is_replaced:
        return Plan(Step.REPLACED)
    if direction.source.is_alive(look.source):
        return Plan(Step.SOURCE_BACK)
    if not direction.target.is_alive(look.target):
        return Plan(Step.BOTH_GONE)
    edited = _edited(sides.target, sides.target_base)
    if edited and not _deletion_wins(look, deleted_by=direction.source.connection):
        return Plan(Step.TARGET_EDITED, Merge(conflicts=[_over_deletion(edited, "target", look)]))
    conflicts = [_over_deletion(edited, "source", look)] if edited else []
    return Plan(Step.REMOVE, Merge(conflicts=conflicts))


def _plan_without_target(look: Look, sides: Sides) -> Plan:
    """The target's record was never there, is gone, or is switched off."""
    data = dict(sides.source)
    if look.other_key is None:
        return Plan(Step.CREATE, data=data)
    back = Step.CREATE if look.target is None else Step.REVIVE
    if look.mine.gone:
        return Plan(back, data=data)  # both sides had let it go, and the source has it again
    edited = _edited(sides.source, sides.source_base)
    if not edited or _deletion_wins(look, deleted_by=look.direction.target.connection):
        conflicts = [_over_deletion(edited, "target", look)] if edited else []
        return Plan(Step.TARGET_GONE, Merge(conflicts=conflicts))
    return Plan(back, Merge(conflicts=[_over_deletion(edited, "source", look)]), data)


def _edited(now: Mapping[str, Any], base: Mapping[str, Any] | None) -> list[str]:
    """Fields that changed since both sides agreed; none while nothing was agreed on."""
    if base is None:
        return []
    return [name for name, value in now.items() if name in base and not same(value, base[name])]


def _deletion_wins(look: Look, deleted_by: str) -> bool:
    policy = look.direction.policy
    return policy.deletions == "win" or (policy.deletions == "owner" and policy.owner == deleted_by)


def _over_deletion(edited: Sequence[str], winner: str, look: Look) -> Conflict:
    """The entry that an edit met a deletion. The winner is a side of this direction."""
    rule = f"deletions:{look.direction.policy.deletions}"
    ruling = Ruling(None, "source" if winner == "source" else "target", rule)
    return Conflict("*", None, ", ".join(edited), ruling)


def _judge(look: Look, now: datetime) -> Any:
    direction = look.direction
    referee = Referee(direction.spec, direction.policy, now)

    def decide(name: str, ours: Any, theirs: Any, was: Any) -> Ruling:
        source = Party(direction.source.connection, look.source or {}, ours)
        target = Party(direction.target.connection, look.target or {}, theirs)
        return referee.judge(direction.rule_of(name), source, target, was)

    return decide


def _without_key(sides: Sides, sink: Sink) -> Sides:
    """The field that holds our key says who the record is, not what it says."""
    source = {name: value for name, value in sides.source.items() if name != sink.key}
    return replace(sides, source=source)


def _data(found: Merge, sides: Sides, sink: Sink) -> dict[str, Any]:
    """What the update sends: a PATCH only what is new, anything else the whole record."""
    data = dict(found.data)
    if sink.update is not None and sink.update.method == "PATCH":
        data = {name: data[name] for name in found.changed}
    if sink.key in sides.source:
        data[sink.key] = sides.source[sink.key]
    return data


# --- circles ----------------------------------------------------------------------------------


def _turned(look: Look, found: Merge, now: datetime) -> dict[str, Any]:
    """The turns of the pair as they are once this write is done."""
    now_ms = int(now.timestamp() * 1000)
    flow = look.direction.flow.id
    turns: dict[str, Any] = {} if look.released else dict(look.lead.turns)
    for name in _moved(look.direction, look, found):
        known = turns.get(name)
        recent = [at for at in known["at"] if now_ms - at < WITHIN_MS] if known else []
        turned = known is not None and known["by"] != flow
        turns[name] = {"by": flow, "at": [*recent, now_ms] if turned else recent}
    return turns


def _moved(direction: Direction, look: Look, found: Merge) -> list[str]:
    """The fields this write carries over, as the rows of the leader's target name them."""
    if direction.leads:
        paths = direction.paths
        return sorted({paths[name].split(".")[0] for name in found.changed if name in paths})
    now, base = look.source or {}, look.mine.base or {}
    return [name for name in base if not same(now.get(name), base[name])]


def _circling(look: Look, turns: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields for which the pair stands still, until a person lets it go on."""
    if look.released:
        return ()
    found = {name for name, one in turns.items() if len(one["at"]) >= TURNS}
    return tuple(sorted(found.union(look.lead.stopped)))
