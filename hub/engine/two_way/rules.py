"""Who wins where both sides changed the same field, as the flow declares it."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import Field

from hub.engine.sameness import form, same
from hub.sdk.body import MISSING, dig
from hub.sdk.envelope import holds
from hub.sdk.loading import Strict
from hub.sdk.manifest_values import Condition, Path_

TIE = timedelta(seconds=5)
HUMAN_FOR = timedelta(hours=24)

_OWNER = r"owner:[a-z][a-z0-9_]*"
_RULE = rf"^({_OWNER}|latest|human_wins|fill_blank|union|max|min|manual)$"

Rule = Annotated[str, Field(pattern=_RULE)]
Winner = Literal["source", "target", "merged", "nobody", "person"]


class Policy(Strict):
    """Who wins. `owner` (a connection) decides ties; `default` is what holds for fields without a
    rule of their own, the owner unless something else is said.

    `deletions` says whether a deletion beats an edit that nobody has brought over yet: always
    (`win`), never (`lose`), or when the owner deleted.
    """

    owner: str
    default: Rule | None = None
    fields: dict[str, Rule] = {}
    deletions: Literal["owner", "win", "lose"] = "owner"

    @property
    def otherwise(self) -> str:
        """The rule of fields that have none of their own."""
        return self.default or f"owner:{self.owner}"

    @property
    def rules(self) -> list[str]:
        return [self.otherwise, *self.fields.values()]


class RowClock(Strict):
    """Where a row says when it was last changed."""

    path: Path_
    zone: str = "UTC"


class TwoWay(Strict):
    """The other direction; in one of the two also who wins where both sides changed.

    `clock` and `human` say per connection when a row was changed, and whether by a person.
    """

    with_: str = Field(alias="with")
    policy: Policy | None = None
    clock: dict[str, RowClock] = {}
    human: dict[str, Condition] = {}


class Party(NamedTuple):
    """One side of a conflict: its connection, its row as it is now, and the field's value."""

    connection: str
    row: dict[str, Any]
    value: Any


class Ruling(NamedTuple):
    """The value that stands, whose it is, and the rule that said so."""

    value: Any
    winner: Winner
    rule: str


class Referee(NamedTuple):
    """What a pair of flows declares, and the time at which it is asked."""

    spec: TwoWay
    policy: Policy
    now: datetime

    def judge(self, rule: str, source: Party, target: Party, base: Any) -> Ruling:
        """Decide one field that both sides changed to different values."""
        if rule == "manual":
            return Ruling(target.value, "nobody", rule)
        if rule == "union":
            merged = _union(source.value, target.value, base)
            if merged is not None:
                return Ruling(merged, "merged", rule)
        winner = _winner(self.spec, rule, source, target, self.now)
        if winner is None:
            owner = f"owner:{self.policy.owner}"
            winner, rule = _owner(owner, source, target), f"{rule} → {owner}"
        return Ruling(source.value if winner == "source" else target.value, winner, rule)


def _winner(
    spec: TwoWay, rule: str, source: Party, target: Party, now: datetime
) -> Literal["source", "target"] | None:
    """Whom the rule names; None where it cannot tell, and the owner decides."""
    if rule.startswith("owner:"):
        return _owner(rule, source, target)
    if rule == "latest":
        return _later(_changed_at(spec, source), _changed_at(spec, target))
    if rule == "human_wins":
        ours, theirs = _by_human(spec, source, now), _by_human(spec, target, now)
        return None if ours == theirs else "source" if ours else "target"
    if rule == "fill_blank":
        blank = [form(one.value) == form(None) for one in (source, target)]
        return None if blank[0] == blank[1] else "target" if blank[0] else "source"
    if rule in ("max", "min"):
        return _greater(rule, source.value, target.value)
    return None


def _owner(rule: str, source: Party, target: Party) -> Literal["source", "target"]:
    return "target" if rule.removeprefix("owner:") == target.connection else "source"


def _later(ours: datetime | None, theirs: datetime | None) -> Literal["source", "target"] | None:
    if ours is None or theirs is None or abs(ours - theirs) < TIE:
        return None
    return "source" if ours > theirs else "target"


def _changed_at(spec: TwoWay, party: Party) -> datetime | None:
    clock = spec.clock.get(party.connection)
    found = MISSING if clock is None else dig(party.row, clock.path)
    if clock is None or not isinstance(found, str):
        return None
    try:
        moment = datetime.fromisoformat(found)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(clock.zone))


def _by_human(spec: TwoWay, party: Party, now: datetime) -> bool:
    condition = spec.human.get(party.connection)
    if condition is None or not holds(condition, party.row):
        return False
    at = _changed_at(spec, party)
    return at is None or now - at <= HUMAN_FOR


def _greater(rule: str, ours: Any, theirs: Any) -> Literal["source", "target"] | None:
    numbers = _number(ours), _number(theirs)
    if None not in numbers:
        first, second = numbers
        less = first < second  # type: ignore[operator]  # neither is None
    elif isinstance(ours, str) and isinstance(theirs, str):
        less = ours < theirs
    else:
        return None
    return "target" if less == (rule == "max") else "source"


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _union(ours: Any, theirs: Any, base: Any) -> list[Any] | None:
    """What either side has, without what one side took away and the other left as it was."""
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return None
    was = base if isinstance(base, list) else []
    merged: list[Any] = []
    for item in [*theirs, *ours]:
        removed = _in(item, was) and not (_in(item, ours) and _in(item, theirs))
        if not removed and not _in(item, merged):
            merged.append(item)
    return merged


def _in(item: Any, items: list[Any]) -> bool:
    return any(same(item, one) for one in items)
