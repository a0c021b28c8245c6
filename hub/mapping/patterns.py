"""Regular expressions of `matches`: compiled once, and refused when they could run away."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from re import _parser  # type: ignore[attr-defined]  # the parse tree has no public door
from typing import Any

from hub.mapping.results import reject
from hub.mapping.text import MAX_TEXT
from hub.sdk.errors import ConfigError

MAX_PATTERN = 300
MAX_STEPS = 2e7
"""Bound on the work of one search, some tenths of a second at worst."""
MIN_LENGTH = 60
"""A pattern that could not be run on even this much text is refused."""
_OPEN = 16
"""A repeat that may run more often than this counts as open-ended."""
_REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}
_REFUSED = {"GROUPREF", "GROUPREF_EXISTS"}
_MANY = 10**9


def matcher(pattern: str, where: str) -> Callable[[str], bool]:
    """Whether a text contains the pattern. Raises ConfigError for one that may run away."""
    try:
        if len(pattern) > MAX_PATTERN:
            raise ValueError(f"longer than {MAX_PATTERN} characters")
        search = re.compile(pattern).search
        limit = _longest(*_freedom(_parser.parse(pattern)))
    except (re.error, RecursionError, OverflowError, ValueError) as error:
        raise ConfigError("mapping.pattern", where=where, pattern=pattern, problem=error) from error

    def matches(text: str) -> bool:
        if len(text) > limit:
            raise reject("mapping.text_too_long", text[:60], length=len(text), limit=limit)
        return search(text) is not None

    return matches


def _longest(open_repeats: int, ways: int) -> int:
    """The longest text for which a search stays within MAX_STEPS."""
    depth = open_repeats + 1  # the search itself tries every start
    longest = int((MAX_STEPS * math.factorial(depth) / ways) ** (1 / depth))
    if longest < MIN_LENGTH:
        raise ValueError("too many ways to match")
    return min(longest, MAX_TEXT)


def _freedom(tree: Any) -> tuple[int, int]:
    """Open repeats in a pattern, and in how many ways its bounded choices can be combined."""
    open_repeats, ways = 0, 1
    for operation, argument in tree:
        name = str(operation)
        if name in _REFUSED:
            raise ValueError("references to groups are not allowed")
        inner = [_freedom(part) for part in _parts(argument)]
        opened = sum(count for count, _ in inner)
        combined = math.prod(found for _, found in inner)
        if name == "BRANCH":
            combined = sum(found for _, found in inner)
        elif name in _REPEATS:
            opened, combined = _repeat(argument[0], argument[1], opened, combined)
        open_repeats, ways = open_repeats + opened, min(ways * combined, _MANY)
    return open_repeats, ways


def _repeat(low: int, high: int, opened: int, ways: int) -> tuple[int, int]:
    if high > _OPEN and (opened or ways > 1):
        raise ValueError("a repeat or alternatives inside an open repeat are not allowed")
    if opened and high > 1:
        raise ValueError("an open repeat inside a repeat is not allowed")
    if high > _OPEN:
        return 1, 1
    return opened, min(ways**high, _MANY) * (high - low + 1)


def _parts(argument: Any) -> list[Any]:
    if isinstance(argument, _parser.SubPattern):
        return [argument]
    if isinstance(argument, tuple | list):
        return [part for item in argument for part in _parts(item)]
    return []
