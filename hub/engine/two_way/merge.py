"""Three-way: what each side says now against how both stood when they last agreed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from hub.engine.sameness import same
from hub.engine.two_way.rules import Ruling, Winner
from hub.sdk.body import MISSING

_SHORTEST_CUT = 8

Judge = Callable[[str, Any, Any, Any], Ruling]
"""Rules on a field, given the source's value, the target's, and what they agreed on."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field both sides changed to different values, and what became of it.

    `known` when a person was asked about it before and nobody has touched it since.
    """

    field: str
    source: Any
    target: Any
    ruling: Ruling
    known: bool = False


@dataclass(slots=True)
class Merge:
    """The record as the target should have it, and how each field came to it.

    `changed` is what the target does not say yet; `kept` the fields where the source's value does
    not stand, with whose does.
    """

    data: dict[str, Any] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    kept: dict[str, Winner] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)

    @property
    def disputed(self) -> list[str]:
        """The fields that wait for a person."""
        return [one.field for one in self.conflicts if one.ruling.winner == "nobody"]


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides in the words of the target; a field that it does not show is not in `target`.

    A base that is None or lacks a field says nothing: whatever differs then counts as changed on
    both sides. `sent` is what earlier tries may have written.
    """

    source: Mapping[str, Any]
    target: Mapping[str, Any]
    source_base: Mapping[str, Any] | None
    target_base: Mapping[str, Any] | None
    sent: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def is_new(self) -> bool:
        """Whether these two were never compared."""
        return self.source_base is None or self.target_base is None


def merge(
    sides: Sides,
    judge: Judge,
    *,
    maybe_landed: bool = False,
    said: Mapping[str, Any] | None = None,
    disputed: Sequence[str] = (),
) -> Merge:
    """What the target should say.

    `maybe_landed`: an earlier try of this write may be what the target shows. `said` is what a
    person decided, by field; `disputed` names fields a person was asked about.
    """
    result = Merge()
    for name, ours in sides.source.items():
        theirs = sides.target.get(name, MISSING)
        if said is not None and name in said:
            _obey(result, name, ours, theirs, said[name])
        elif theirs is MISSING:
            result.data[name] = ours
            if _differs(ours, sides.source_base, name):
                result.changed.append(name)
        elif same(ours, theirs):
            result.data[name] = theirs
        else:
            _weigh(result, sides, name, judge, maybe_landed, name in disputed)
    return result


def _weigh(
    result: Merge, sides: Sides, name: str, judge: Judge, maybe_landed: bool, disputed: bool
) -> None:
    """Decide a field about which the two sides differ."""
    ours, theirs = sides.source[name], sides.target[name]
    ours_new = _differs(ours, sides.source_base, name)
    theirs_new = _differs(theirs, sides.target_base, name)
    if ours_new and theirs_new and (maybe_landed or sides.is_new) and alike(ours, theirs):
        ours_new = theirs_new = False  # as the target kept what we wrote
    tried = sides.sent.get(name, ())
    if theirs_new and any(same(one, theirs) or alike(one, theirs) for one in tried):
        theirs_new = False  # our own write, of which nobody heard; the source has moved on
    if ours_new and theirs_new:
        was = None if sides.source_base is None else sides.source_base.get(name)
        ruling = judge(name, ours, theirs, was)
        result.conflicts.append(Conflict(name, ours, theirs, ruling))
        _settle(result, name, theirs, ruling)
    elif ours_new:
        result.data[name] = ours
        result.changed.append(name)
    elif disputed and not theirs_new:
        ruling = Ruling(theirs, "nobody", "manual")
        result.conflicts.append(Conflict(name, ours, theirs, ruling, known=True))
        _settle(result, name, theirs, ruling)
    else:
        result.data[name] = theirs
        if theirs_new:
            result.kept[name] = "target"


def _settle(result: Merge, name: str, theirs: Any, ruling: Ruling) -> None:
    result.data[name] = ruling.value
    if not same(ruling.value, theirs):
        result.changed.append(name)
    if ruling.winner != "source":
        result.kept[name] = ruling.winner


def _obey(result: Merge, name: str, ours: Any, theirs: Any, word: Any) -> None:
    result.data[name] = word
    if theirs is MISSING or not same(word, theirs):
        result.changed.append(name)
    if not same(word, ours):
        result.kept[name] = "person"


def _differs(value: Any, base: Mapping[str, Any] | None, name: str) -> bool:
    return base is None or name not in base or not same(value, base[name])


def alike(ours: Any, theirs: Any) -> bool:
    """Whether `theirs` may be how a target keeps `ours`: cut, rounded, in another case."""
    if isinstance(ours, str) and isinstance(theirs, str):
        mine, kept = (" ".join(one.split()).casefold() for one in (ours, theirs))
        if mine == kept:
            return True
        if len(kept) >= _SHORTEST_CUT and mine.startswith(kept):
            return True
    return _rounded(ours, theirs)


def _rounded(ours: Any, theirs: Any) -> bool:
    try:
        mine, kept = Decimal(str(ours)), Decimal(str(theirs))
        places = -int(kept.as_tuple().exponent)  # raises for what is no number
        return abs(mine - kept) < Decimal(1).scaleb(-places)
    except (InvalidOperation, ValueError, OverflowError):
        return False
