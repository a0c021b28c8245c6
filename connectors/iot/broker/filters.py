"""Topic filters with named levels, and which of them a message belongs to.

`plant/{line}/{device}/telemetry` subscribes to `plant/+/+/telemetry`; what stands at the named
levels are the captures.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from hub.sdk.errors import ConfigError

_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MOST_IDENTIFIERS = 268_435_455


@dataclass(frozen=True, slots=True)
class Filter:
    """`pattern` is what the broker is asked for; `names` the captures by level."""

    text: str
    pattern: str
    levels: tuple[str, ...]
    names: tuple[tuple[int, str], ...]
    identifier: int

    def captures(self, topic: str) -> dict[str, str] | None:
        """The named levels of a topic; None when it is not of this filter."""
        parts = topic.split("/")
        if not _fits(self.levels, parts):
            return None
        return {name: parts[level] for level, name in self.names}


def parse_filter(text: str, where: str) -> Filter:
    """Raises ConfigError for a filter that no broker takes."""
    levels, names = [], []
    for number, level in enumerate(text.split("/")):
        if found := _CAPTURE.fullmatch(level):
            names.append((number, found[1]))
            level = "+"
        levels.append(level)
    doubled = len({name for _, name in names}) < len(names)
    if not text or doubled or any(map(_bad, levels)) or "#" in levels[:-1]:
        raise ConfigError("telemetry.broker_filter", source=where, filter=text)
    pattern = "/".join(levels)
    return Filter(text, pattern, tuple(levels), tuple(names), identifier_of(pattern))


def identifier_of(pattern: str) -> int:
    """The subscription identifier of a pattern.

    It depends on nothing but the pattern: messages that a session kept carry the identifiers of
    the settings before, and must not be taken for those of another filter.
    """
    return zlib.crc32(pattern.encode()) % _MOST_IDENTIFIERS + 1


@dataclass(frozen=True, slots=True)
class Match:
    """The filter that reads a message, by its number.

    `copy`: the broker made this delivery for another filter that takes the topic as well; there is
    a second delivery, and that is the one to keep.
    """

    number: int
    captures: dict[str, str]
    copy: bool = False


def first_match(
    filters: Sequence[Filter], topic: str, identifiers: Sequence[int] = ()
) -> Match | None:
    """The first filter that takes a delivered message; None when none does."""
    for number, one in enumerate(filters):
        captures = one.captures(topic)
        if captures is not None:
            known = {other.identifier for other in filters}
            other = bool(identifiers) and known.issuperset(identifiers)
            return Match(number, captures, other and one.identifier not in identifiers)
    return None


def _bad(level: str) -> bool:
    wild = ("+" in level or "#" in level) and len(level) > 1
    return wild or "{" in level or "}" in level or "\0" in level


def _fits(levels: Sequence[str], parts: Sequence[str]) -> bool:
    if parts[0].startswith("$") and levels[0] in ("+", "#"):
        return False  # $SYS and its like are only for those who name them
    if levels[-1] == "#":
        levels = levels[:-1]
        parts = parts[: len(levels)] if len(parts) >= len(levels) else parts
    if len(levels) != len(parts):
        return False
    return all(level in ("+", part) for level, part in zip(levels, parts, strict=True))
