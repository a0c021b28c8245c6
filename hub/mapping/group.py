"""Source rows folded into one before they are mapped (U8 reports stock per batch)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, Overflow
from typing import Any

from hub.mapping import numbers
from hub.mapping.functions import CONTEXT
from hub.mapping.keys import group_key
from hub.mapping.results import Row, Unusable
from hub.sdk.errors import ConfigError, RecordRejected
from hub.sdk.loading import unknown_key

Fold = Callable[[list[Any]], Any]


class Group:
    """`key` says which rows belong together, `fold` makes one row of them.

    A field that is not listed keeps the value of the first row that has one.
    """

    def __init__(
        self, by: tuple[str, ...], folds: dict[str, Fold], spec: dict[str, list[str]]
    ) -> None:
        self.by = by
        self.spec = spec
        self._folds = folds

    @property
    def source_fields(self) -> frozenset[str]:
        """Source fields the grouping reads."""
        return frozenset(self.by) | frozenset(self._folds)

    def key(self, row: Row) -> str:
        """The same text for rows that belong together. Never raises."""
        return group_key([row.get(name) for name in self.by])

    def fold(self, rows: Sequence[Row]) -> Row:
        """One row for the rows of one key, in the order given.

        A field that cannot be summed holds `Unusable`; the mapping rejects the record for it.
        """
        if not rows:
            raise ValueError("fold needs at least one row")
        folded: Row = {}
        for row in rows:
            for name, value in row.items():
                if folded.get(name) is None:
                    folded[name] = value
        for name, fold in self._folds.items():
            values = [row.get(name) for row in rows]
            folded[name] = fold(values)
        return folded


def read_group(spec: Any, where: str) -> Group:
    """The grouping of a `group:` block. Raises ConfigError."""
    if not isinstance(spec, dict):
        raise ConfigError("mapping.group_form", where=where)
    for key in spec:
        if key != "by" and key not in _FOLDS:
            raise unknown_key(where, f"group.{key}", str(key), ["by", *_FOLDS])
    lists = {key: _names(value, f"{where}.{key}") for key, value in spec.items()}
    if not lists.get("by"):
        raise ConfigError("mapping.group_form", where=where)
    folds: dict[str, Fold] = {}
    for kind, names in lists.items():
        for name in names if kind != "by" else ():
            if name in folds or name in lists["by"]:
                raise ConfigError("mapping.group_twice", where=where, name=name)
            folds[name] = _FOLDS[kind]
    return Group(tuple(lists["by"]), folds, lists)


def _names(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise ConfigError("mapping.needs_list", where=where, value=value)
    return list(value)


def _numbers(values: list[Any]) -> list[Any] | Unusable:
    found = []
    for value in values:
        try:
            number = numbers.number(value)
        except RecordRejected:
            return Unusable(value)
        if number is not None:
            found.append(number)
    return found


def _sum(values: list[Any]) -> Any:
    found = _numbers(values)
    if isinstance(found, Unusable) or not found:
        return found or None
    total = Decimal(0)
    try:
        for number in found:
            total = CONTEXT.add(total, number)
    except Overflow:
        return Unusable(str(found[0]))
    return total


def _extreme(choose: Callable[[list[Any]], Any]) -> Fold:
    def fold(values: list[Any]) -> Any:
        present = [value for value in values if value is not None and value != ""]
        found = _numbers(present)
        if isinstance(found, Unusable):
            all_text = all(isinstance(value, str) for value in present)
            return choose(present) if all_text else found
        return choose(found) if found else None

    return fold


_FOLDS: dict[str, Fold] = {
    "sum": _sum,
    "min": _extreme(min),
    "max": _extreme(max),
    "first": lambda values: next((v for v in values if v is not None), None),
    "last": lambda values: next((v for v in reversed(values) if v is not None), None),
    "count": lambda values: sum(value is not None and value != "" for value in values),
}
