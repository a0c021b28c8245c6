"""Where each target field comes from, told from the compiled plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hub.mapping.fields import Node
from hub.mapping.nested import EachRecord, Plan
from hub.mapping.syntax import Path

Way = tuple[str, ...]
"""Names from the outermost record to a value; a list on the way stands for each of its items."""


@dataclass(frozen=True, slots=True)
class FieldLineage:
    """The source paths of one target field, the steps in words, and the tables it uses."""

    field: str
    sources: tuple[str, ...]
    steps: tuple[str, ...]
    lookups: tuple[str, ...]


class Masked(NamedTuple):
    """What people see as `***`: fields of the target, and all of the source they draw on."""

    target: frozenset[Way]
    source: frozenset[Way]


def masked_fields(plan: Plan) -> Masked:
    """Everything the mapping marks with `masked: true`, nested fields included."""
    found = set(_masked(plan, (), ((),), inherited=False))
    return Masked(
        frozenset(way for side, way in found if side == "target"),
        frozenset(way for side, way in found if side == "source"),
    )


def _masked(
    plan: Plan, prefix: Way, around: tuple[Way, ...], *, inherited: bool
) -> Iterator[tuple[str, Way]]:
    for name, node in plan.nodes.items():
        masked = inherited or node.masked
        if masked:
            yield "target", (*prefix, name)
            yield from (("source", _absolute(path, around)) for path in node.paths)
        for nested in node.nested:
            inner = around
            if isinstance(nested, EachRecord):
                first = node.paths[:1]
                inner = (*around, _absolute(first[0], around) if first else around[-1])
            yield from _masked(nested.plan, (*prefix, name), inner, inherited=masked)


def _absolute(path: Path, around: tuple[Way, ...]) -> Way:
    return (*around[max(0, len(around) - 1 - path.up)], *path.parts)


def describe(plan: Plan, prefix: str = "") -> Iterator[tuple[str, FieldLineage]]:
    """Every field of a plan, nested ones after the field that holds them."""
    for name, node in plan.nodes.items():
        field = prefix + name
        sources = tuple(str(path) for path in node.paths)
        yield field, FieldLineage(field, sources, node.steps, node.lookups)
        for nested in node.nested:
            inner = f"{field}[]." if isinstance(nested, EachRecord) else f"{field}."
            yield from describe(nested.plan, inner)


def top_fields(plan: Plan) -> frozenset[str]:
    """Names of the outermost source record that any field, condition or nested plan reads."""
    return frozenset(_reaching(plan, 0))


def _reaching(plan: Plan, depth: int) -> Iterator[str]:
    for node in _all(plan):
        yield from (path.parts[0] for path in node.paths if path.up == depth)
        for nested in node.nested:
            inner = depth + 1 if isinstance(nested, EachRecord) else depth
            yield from _reaching(nested.plan, inner)


def _all(plan: Plan) -> Iterator[Node]:
    yield from plan.nodes.values()
    if plan.when_node is not None:
        yield plan.when_node
