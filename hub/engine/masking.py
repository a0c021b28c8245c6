"""What people must not read in a dead letter stands there as `***`; what is stored stays whole.

Marked are fields of a mapping (`masked: true`) with whatever they draw on, fields that a stream or
sink of a connector names (`masked: [...]`), secrets of the connections, and names like `password`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hub.engine.flows import Flow
from hub.mapping import Way
from hub.sdk.connection import Connection
from hub.sdk.errors import ConfigError, HubError

if TYPE_CHECKING:
    from hub.engine.hub import Hub

MASK = "***"

_SECRET_NAME = re.compile(
    r"(?i)passw(or)?d|passphrase|pwd|secret|token|api_?key|private_?key|credential|密码|口令|密钥"
)
_SHORTEST = 3
"""A shorter value is not looked for in the words of a message: it would blot out half of them."""


@dataclass(frozen=True, slots=True)
class Masks:
    """What to hide in the letters of one flow; `all` when it is not known what is marked."""

    source: frozenset[Way] = frozenset()
    target: frozenset[Way] = frozenset()
    connections: tuple[Connection, ...] = ()
    all: bool = False

    def hide(self, payload: Any, *, of_source: bool) -> Any:
        """A payload as people may see it."""
        if self.all:
            return _blank(payload)
        return self._walk(payload, (), self.source if of_source else self.target)

    def hide_anywhere(self, payload: Any) -> Any:
        """A payload in which the records lie somewhere, as people may see it."""
        if self.all:
            return _blank(payload)
        return self._walk(payload, (), self.source, anywhere=True)

    def hidden_values(self, payload: Any, *, of_source: bool) -> list[str]:
        """Everything of the payload that is hidden, as text, the longest first."""
        if self.all:
            return _by_length(_leaves(payload))
        ways = self.source if of_source else self.target
        return _by_length(_hidden(payload, (), ways))

    def hides_field(self, name: str | None) -> bool:
        """Whether a target field, or one inside it, is marked."""
        if name is None:
            return False
        way = tuple(part for part in re.sub(r"\[\d+\]", "", name).split(".") if part)
        return self.all or _is_hidden(way, self.target) or _is_hidden(way, self.source)

    def clean(self, text: str, values: Iterable[str]) -> str:
        """A message without the hidden values and without secrets of the connections."""
        for value in values:
            if len(value) >= _SHORTEST:
                text = text.replace(value, MASK)
        for one in self.connections:
            text = one.mask(text)
        return text

    def _walk(self, value: Any, way: Way, ways: frozenset[Way], *, anywhere: bool = False) -> Any:
        begins = range(len(way) if anywhere else min(1, len(way)))
        if any(_is_hidden(way[begin:], ways) for begin in begins):
            return None if value is None else MASK
        if isinstance(value, dict):
            return {
                name: self._walk(item, (*way, name), ways, anywhere=anywhere)
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [self._walk(item, way, ways, anywhere=anywhere) for item in value]
        return self.clean(value, ()) if isinstance(value, str) else value


@dataclass(slots=True)
class MaskBook:
    """The masks of the flows that one answer is about, worked out once each."""

    hub: Hub
    _known: dict[str, Masks] = field(default_factory=dict)

    def of(self, flow_id: str) -> Masks:
        """The masks of a flow; everything is hidden when the flow is gone or broken."""
        if flow_id not in self._known:
            self._known[flow_id] = self._make(flow_id)
        return self._known[flow_id]

    def hide(self, body: Any, name: str, flows: Iterable[str]) -> Any:
        """The body of an event of connection `name` as people may see it.

        Hidden is what any of the flows that read it hides, wherever their records lie in it.
        """
        try:
            masks = Masks(connections=(self.hub.connection(name),))
        except HubError:
            masks = Masks()  # not configured any more: it has no secret to hide
        for one in (masks, *map(self.of, flows)):
            body = one.hide_anywhere(body)
        return body

    def _make(self, flow_id: str) -> Masks:
        try:
            flow = self.hub.catalogue.flow(flow_id)
        except HubError:
            return Masks(all=True)
        marked = flow.mapping.masked()
        source, target = set(marked.source), set(marked.target)
        connections = []
        for name in {flow.source.connection, flow.target.connection} - {None}:
            try:
                connections.append(self.hub.connection(str(name)))
            except HubError:
                continue  # not usable as it stands, so it has brought and taken nothing
        for one in connections:
            source |= set(_of_stream(one, flow))
            target |= set(_of_sink(one, flow))
        return Masks(frozenset(source), frozenset(target), tuple(connections))


def merge_masked(edited: Any, original: Any) -> Any:
    """`edited` where what was left as `***` is what it was.

    Raises ConfigError where a list has changed so that nobody can say what that was.
    """
    if _is_masked_text(edited, original):
        return original
    if isinstance(edited, dict) and isinstance(original, dict):
        return {name: merge_masked(item, original.get(name)) for name, item in edited.items()}
    if isinstance(edited, list) and isinstance(original, list):
        return [merge_masked(item, _old(at, edited, original)) for at, item in enumerate(edited)]
    return edited


def _old(at: int, edited: list[Any], original: list[Any]) -> Any:
    """What an item of a list was before items came, went or changed places."""
    item, same_length = edited[at], len(edited) == len(original)
    if not _holds_mask(item) or (same_length and _fits(item, original[at])):
        return original[at] if same_length else None
    fitting = [old for old in original if _fits(item, old)]
    if fitting and all(old == fitting[0] for old in fitting):
        return fitting[0]
    if same_length and not fitting:
        return original[at]  # changed in its place
    raise ConfigError("dead_letter.edit_masked", item=at + 1)


def _holds_mask(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_mask(item) for item in value.values())
    if isinstance(value, list):
        return any(_holds_mask(item) for item in value)
    return isinstance(value, str) and MASK in value


def _is_masked_text(shown: Any, original: Any) -> bool:
    """Whether `shown` is what people see of `original`: all of it masked, or a secret inside."""
    if shown == MASK:
        return original is not None
    if not (isinstance(shown, str) and isinstance(original, str) and MASK in shown):
        return False
    begin, *inside, end = shown.split(MASK)
    at, last = len(begin), len(original) - len(end)
    for part in inside:  # the earliest place leaves the most room: a pattern would try them all
        at = original.find(part, at + 1)
        if at < 0:
            return False
        at += len(part)
    return original.startswith(begin) and original.endswith(end) and at < last


def _fits(shown: Any, original: Any) -> bool:
    """Whether `shown` is `original` with some of it masked."""
    if _is_masked_text(shown, original):
        return True
    if isinstance(shown, dict) and isinstance(original, dict):
        same = shown.keys() == original.keys()
        return same and all(_fits(item, original[name]) for name, item in shown.items())
    if isinstance(shown, list) and isinstance(original, list):
        same = len(shown) == len(original)
        return same and all(map(_fits, shown, original))
    return bool(shown == original)


def _of_stream(connection: Connection, flow: Flow) -> Iterator[Way]:
    stream = connection.manifest.streams.get(flow.source.stream or "")
    if connection.name == flow.source.connection and stream is not None:
        yield from (tuple(name.split(".")) for name in stream.masked)


def _of_sink(connection: Connection, flow: Flow) -> Iterator[Way]:
    sink = connection.manifest.sinks.get(flow.target.sink or "")
    if connection.name == flow.target.connection and sink is not None:
        yield from (tuple(name.split(".")) for name in sink.masked)


def _is_hidden(way: Way, ways: frozenset[Way]) -> bool:
    if not way:
        return False
    named = any(_SECRET_NAME.search(part) for part in way)
    # A name may hold dots itself.
    return (
        named
        or any(way[:end] in ways for end in range(1, len(way) + 1))
        or (len(way) == 1 and tuple(way[0].split(".")) in ways)
    )


def _hidden(value: Any, way: Way, ways: frozenset[Way]) -> Iterator[str]:
    if way and _is_hidden(way, ways):
        yield from _leaves(value)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _hidden(item, (*way, name), ways)
    elif isinstance(value, list):
        for item in value:
            yield from _hidden(item, way, ways)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _blank(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _blank(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_blank(item) for item in value]
    return None if value is None else MASK


def _by_length(values: Iterable[str]) -> list[str]:
    found = {one for value in values for one in (value, value[:200])}
    return sorted(found, key=len, reverse=True)
