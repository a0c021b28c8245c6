"""Pieces of fields that do not depend on where they stand: constants, repairs, readers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hub.mapping import text
from hub.mapping.lookups import LookupTable
from hub.mapping.numbers import rounded
from hub.mapping.results import LINK_MISSING, Links, reject
from hub.mapping.syntax import Layout
from hub.sdk.errors import ConfigError, RecordRejected


def constant(value: Any, where: str) -> Any:
    """A literal of a mapping file as an output value. Raises ConfigError."""
    try:
        return text.copied(value)
    except RecordRejected as error:
        raise ConfigError("mapping.not_a_constant", where=where, found=error.code) from error


def rejoined(items: list[Any]) -> list[Any]:
    """`[a | replace(x, y), b]`: YAML splits at the comma inside the parentheses; undo that."""
    joined: list[Any] = []
    for item in items:
        last = joined[-1] if joined else None
        if isinstance(last, str) and isinstance(item, str) and _unclosed(last) and ")" in item:
            joined[-1] = f"{last}, {item}"
        else:
            joined.append(item)
    return joined


def repaired(spec: dict[Any, Any]) -> dict[Any, Any]:
    """`{type: decimal(18,4)}`: YAML reads `4)` as a further key without value; undo that."""
    fixed: dict[Any, Any] = {}
    last: Any = None
    for key, value in spec.items():
        if value is None and isinstance(fixed.get(last), str) and _unclosed(fixed[last]):
            fixed[last] = f"{fixed[last]}, {key}"
        else:
            fixed[key], last = value, key
    return fixed


def _unclosed(value: str) -> bool:
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", value)
    return bare.count("(") > bare.count(")")


def plain_constant(value: Any) -> bool:
    """Whether a constant needs no text check when it is written."""
    return not isinstance(value, str | list | dict)


def flag(spec: dict[str, Any], key: str, where: str) -> bool:
    """A true/false key of a spec. Raises ConfigError for anything else."""
    value = spec.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError("yaml.value", file=where, path=key, problem="true or false", value=value)
    return value


def template_lines(lines: tuple[tuple[str, bool], ...]) -> str:
    """The lines of a template; one whose values are all missing is left out."""
    return "\n".join(line for line, filled_in in lines if line or not filled_in)


def laid_out(layout: Layout) -> Callable[[Any], str]:
    """A function that sets one value of a template in its width and places."""

    def show(value: Any) -> str:
        if layout.places is not None and text.filled(value):
            value = rounded(value, layout.places)
        shown = text.shown(value)
        if layout.width and layout.align in ("<", "^"):
            return shown.ljust(layout.width) if layout.align == "<" else shown.center(layout.width)
        return shown.rjust(layout.width, layout.fill)

    return show


def table_reader(table: LookupTable, spec: dict[str, Any], where: str) -> Callable[[Any], Any]:
    """Reads the table; with `default` an unknown or missing word becomes that."""
    find = table.find
    if "default" not in spec:
        return find
    fallback = constant(spec["default"], where)
    entries, normal = table.entries, table.normal

    def read(value: Any) -> Any:
        return entries.get(normal(text.shown(value)), fallback) if text.filled(value) else fallback

    return read


def linker(entity: str, missing: str | None) -> Callable[[Any, Links], str | None]:
    """A function that follows one link, or does what `missing` says."""

    def follow(value: Any, links: Links) -> str | None:
        if not text.filled(value):
            return None
        word = text.clean(text.shown(value))
        found = links.get((entity, word))
        if found is None and missing in ("hold", "reject"):
            hold = missing == "hold"
            raise reject(LINK_MISSING, word, entity=entity, hold=hold)
        return found

    return follow
