"""Changes to a JSON answer that any fake offers by name, also to other processes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from hub.sdk.body import MISSING, dig
from hub.sdk.testing.faults import Alteration
from hub.sdk.testing.messages import Request

NamedAlteration = Callable[..., Alteration]


def put(at: str, value: Any) -> Alteration:
    """The value at the dotted path becomes `value` (a wrong total, a cursor going back)."""

    def change(body: Any, request: Request) -> Any:
        return _with(body, at, lambda _: copy.deepcopy(value))

    return change


def drop(at: str) -> Alteration:
    """The value at the dotted path is missing."""

    parent, _, name = at.rpartition(".")

    def without(holder: Any) -> Any:
        return (
            {k: v for k, v in holder.items() if k != name} if isinstance(holder, dict) else holder
        )

    def change(body: Any, request: Request) -> Any:
        found = not parent or dig(body, parent) is not MISSING
        return _with(body, parent, without) if found else body

    return change


def empty_rows(at: str) -> Alteration:
    """The list at the dotted path is empty although there are rows."""
    return put(at, [])


def replace_body(body: Any) -> Alteration:
    """A different body altogether (a throttle code in a 200)."""

    def change(_: Any, request: Request) -> Any:
        return copy.deepcopy(body)

    return change


def change_row(at: str, values: Mapping[str, Any], index: int = 0) -> Alteration:
    """One row of the list at the dotted path gets other values (None removes the field)."""

    def edit(rows: list[Any]) -> list[Any]:
        row = {**rows[index], **values}
        row = {name: value for name, value in row.items() if value is not None}
        return [*rows[:index], row, *rows[index + 1 :]]

    return _on_rows(at, lambda rows: edit(rows) if len(rows) > index else rows)


def bad_row(at: str, row: Any = "not an object", index: int = 0) -> Alteration:
    """One row of the list at the dotted path is replaced by `row`."""

    return _on_rows(at, lambda rows: [*rows[:index], row, *rows[index + 1 :]])


def drop_row(at: str, index: int = 0) -> Alteration:
    """One row of the list at the dotted path is missing (a row deleted between two pages)."""

    return _on_rows(at, lambda rows: [*rows[:index], *rows[index + 1 :]])


def insert_row(at: str, row: Any, index: int = 0) -> Alteration:
    """One more row in the list at the dotted path."""

    return _on_rows(at, lambda rows: [*rows[:index], row, *rows[index:]])


def repeat_previous() -> Alteration:
    """The first answer it sees passes; every later one repeats it (a repeated page)."""
    seen: list[Any] = []

    def change(body: Any, request: Request) -> Any:
        if not seen:
            seen.append(body)
        return seen[0]

    return change


COMMON: Mapping[str, NamedAlteration] = {
    "put": put,
    "drop": drop,
    "empty_rows": empty_rows,
    "replace_body": replace_body,
    "change_row": change_row,
    "bad_row": bad_row,
    "drop_row": drop_row,
    "insert_row": insert_row,
    "repeat_previous": repeat_previous,
}
"""Alterations by the name used at `/_fake/alter`."""


def _on_rows(at: str, edit: Callable[[list[Any]], list[Any]]) -> Alteration:
    """An alteration of the list at `at`; an answer without one passes as it is."""

    def change(body: Any, request: Request) -> Any:
        return _with(body, at, lambda rows: edit(rows) if isinstance(rows, list) else rows)

    return change


def _with(body: Any, path: str, edit: Callable[[Any], Any]) -> Any:
    """A copy of `body` in which the value at `path` went through `edit`."""
    if not path:
        return edit(body)
    name, _, rest = path.partition(".")
    if isinstance(body, list):
        index = int(name) if name.isdecimal() else len(body)
        if index >= len(body):
            return body
        return [*body[:index], _with(body[index], rest, edit), *body[index + 1 :]]
    if not isinstance(body, dict) or (rest and name not in body):
        return body
    return {**body, name: _with(body.get(name), rest, edit)}
