"""Readings out of any JSON, by a `JsonMapping` that is declared in the source.

The mapping travels with the message (`details["mapping"]`, its JSON), as do the parts of a topic or
address (`capture.NAME`): a message is read the same way, however the mapping has changed since.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from connectors.iot.entries import Entry, Read, as_decoded, device_of, too_many
from connectors.iot.times import read_time
from connectors.iot.values import cast_value, loads, shown
from hub.sdk.body import MISSING, dig
from hub.sdk.telemetry import Decoded, Details, Refused
from hub.sdk.telemetry_names import LONGEST_NAME
from hub.sdk.telemetry_source import JsonMapping

CAPTURE = "capture."
MOST_LEVELS = 32

_GAP = re.compile(r"\{([^{}]+)\}")


def mapping_details(mapping: JsonMapping, captures: dict[str, str]) -> dict[str, str]:
    """The details with which a message is kept, so that it can be read."""
    named = {CAPTURE + name: value for name, value in captures.items()}
    return {"mapping": mapping.model_dump_json(exclude_defaults=True), **named}


def decode(body: bytes, details: Details, received_at: int) -> Decoded:
    """Places are positions in the list that `each` leads to."""
    return as_decoded(read(body, details, received_at))


def read(body: bytes, details: Details, received_at: int) -> Read:
    """See the module."""
    mapping = _mapping(details.get("mapping", ""))
    if mapping is None:
        return Read([], [Refused(-1, "malformed", "the message came without its mapping")])
    raw = _listed(loads(body), mapping)
    refused = raw if isinstance(raw, Refused) else too_many(raw)
    if refused is not None or isinstance(raw, Refused):
        return Read([], [refused] if refused else [])
    found = Read([], [])
    for place, one in enumerate(raw):
        _add_entry(found, place, one, mapping, details, received_at)
    return found


@lru_cache(maxsize=64)
def _mapping(text: str) -> JsonMapping | None:
    try:
        return JsonMapping.model_validate_json(text)
    except ValidationError:
        return None


def _listed(parsed: Any, mapping: JsonMapping) -> list[Any] | Refused:
    if isinstance(parsed, Refused):
        return parsed
    if mapping.each is None:
        return [parsed]
    found = dig(parsed, mapping.each)
    if found is MISSING:
        return Refused(-1, "malformed", f"nothing at {mapping.each}")
    return found if isinstance(found, list) else [found]


def _add_entry(
    found: Read, place: int, raw: Any, mapping: JsonMapping, details: Details, received_at: int
) -> None:
    named = _device_name(raw, mapping.device, details)
    device, code = device_of(named, details)
    if code:
        found.refused.append(Refused(place, code, shown(named), device))
        return
    said = _at(raw, mapping.time.path) if mapping.time else None
    unit = mapping.time.unit if mapping.time else "ms"
    ts = received_at if said is None else read_time(said, details.get("zone", ""), unit)
    if isinstance(ts, str):
        found.refused.append(Refused(place, ts, shown(said), device))
        return
    attributes = {name: _at(raw, path) for name, path in mapping.attributes.items()}
    values = {name: _at(raw, path) for name, path in mapping.metrics.items()}
    for name, value in _numbers_below(raw, mapping, found.refused, place, device):
        values.setdefault(name, value)
    if all(one is None for one in (*values.values(), *attributes.values())):
        found.refused.append(Refused(place, "malformed", "nothing that is mapped", device))
    else:
        found.entries.append(Entry(place, device, ts, values, attributes))


def _at(raw: Any, path: str) -> Any:
    """The value at `path`; None when there is none."""
    value = dig(raw, path)
    return None if value is MISSING else value


def _device_name(raw: Any, template: str, details: Details) -> object:
    """`$.path` gives what stands there, a template its text; None when a part is missing."""
    if template.startswith("$"):
        return _at(raw, template)
    lost = False

    def fill(gap: re.Match[str]) -> str:
        nonlocal lost
        name = gap[1]
        value = _at(raw, name) if name.startswith("$") else details.get(CAPTURE + name)
        lost = lost or value is None or isinstance(value, bool | dict | list)
        return str(value)

    filled = _GAP.sub(fill, template)
    return None if lost or not filled else filled


# --- every number below a path ------------------------------------------------------------------


def _numbers_below(
    raw: Any, mapping: JsonMapping, refused: list[Refused], place: int, device: str
) -> Iterator[tuple[str, Any]]:
    """Name and value of each number; names are paths (`motor.speed`, `axes.0`).

    What the mapping uses otherwise (time, device, attributes, named metrics) is left out.
    """
    if mapping.all_of is None:
        return
    top = _at(raw, mapping.all_of)
    base, used = _plain(mapping.all_of), _used(mapping)
    # Iterators instead of recursion: the depth is the sender's, not ours.
    open_levels = [_items("", top)]
    while open_levels:
        name, value = next(open_levels[-1], ("", MISSING))
        if value is MISSING:
            open_levels.pop()
        elif _join(base, name) in used:
            continue
        elif not isinstance(value, dict | list):
            if _is_number(value):
                yield name, value
        elif len(open_levels) >= MOST_LEVELS or len(name) > LONGEST_NAME:
            refused.append(Refused(place, "unsupported", "nested too deeply", device))
        else:
            open_levels.append(_items(name, value))


def _is_number(value: object) -> bool:
    cast = cast_value(value)
    return cast.number is not None or cast.code == "invalid"


def _items(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        return ((_join(prefix, key), one) for key, one in value.items())
    listed = value if isinstance(value, list) else []
    return ((_join(prefix, str(at)), one) for at, one in enumerate(listed))


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _plain(path: str) -> str:
    return "" if path == "$" else path.removeprefix("$.")


def _used(mapping: JsonMapping) -> frozenset[str]:
    paths = [*mapping.metrics.values(), *mapping.attributes.values()]
    paths += [mapping.time.path] if mapping.time else []
    paths += [one for one in _GAP.findall(mapping.device) if one.startswith("$")]
    paths += [mapping.device] if mapping.device.startswith("$") else []
    return frozenset(_plain(path) for path in paths)
