"""Several values as one key text that tells every combination apart."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from hub.mapping import text
from hub.mapping.results import reject
from hub.sdk.errors import RecordRejected

MAX_KEY = 512
NULL, ODD = "\\0", "\\?"
"""How null and unstorable parts of a group key start; real text has its backslash doubled."""


def record_key(names: Sequence[str], values: Sequence[Any]) -> str:
    """The key of one record. Raises RecordRejected for a null, blank or non-scalar part."""
    parts = []
    for name, value in zip(names, values, strict=True):
        if not text.filled(value):
            raise reject("mapping.key_empty", value, part=name)
        parts.append(part(value))
    key = "|".join(parts)
    if len(key) > MAX_KEY:
        raise reject("mapping.key_too_long", key[:60], length=len(key), limit=MAX_KEY)
    return key


def group_key(values: Sequence[Any]) -> str:
    """The key of a group of source rows; null parts are equal to each other. Never raises."""
    return "|".join(NULL if value is None else _any_part(value) for value in values)


def _any_part(value: Any) -> str:
    try:
        return part(value)
    except RecordRejected:  # the mapping will reject the record and say why
        return ODD + ascii(value).replace("|", "\\|")[:MAX_KEY]


def part(value: Any) -> str:
    """One value inside a key; equal numbers look equal, the separator is escaped."""
    if isinstance(value, Decimal) and value.is_finite():
        value = abs(value) if not value else value.normalize() if value.adjusted() < 40 else value
    shown = text.clean(text.shown(value))
    return shown.replace("\\", "\\\\").replace("|", "\\|")


def key_lines(positions: Sequence[int]) -> list[str]:
    """Source that sets `key` from plain texts at once, to None for anything unusual."""
    names = [f"v{i}" for i in positions]
    whole = names[0] if len(names) == 1 else "f'" + "|".join(f"{{{name}}}" for name in names) + "'"
    texts = " and ".join(f"{name}.__class__ is STR" for name in names)
    words = " and ".join(f"{name}.isalnum()" for name in names)
    marked = " and ".join(f"{name} and not {name}.isspace()" for name in names)
    clear = f"key.count('|') == {len(names) - 1} and SLASH not in key"
    return [
        f"if not ({texts}): return SLOW(row, links)",
        f"key = {whole}",
        f"if not (({words}) or ({marked} and {clear})) or LEN(key) > {MAX_KEY}:"
        " return SLOW(row, links)",
    ]
