"""Plain JSON readings: `{"readings": [{"device", "ts", "values": {metric: value}}, …]}`.

Also the bare array, one reading alone, and a reading per line (`details["media"] = "ndjson"`).
`ts` is milliseconds, or RFC 3339 text whose offset may be missing only where the source declares a
zone. Without `ts` a reading has the time of its receipt.
"""

from __future__ import annotations

from typing import Any

from connectors.iot.entries import MOST_ENTRIES, Entry, Read, as_decoded, device_of, too_many
from connectors.iot.times import read_time
from connectors.iot.values import has_too_many_parts, loads, shown
from hub.sdk.telemetry import Decoded, Details, Refused

NDJSON = "ndjson"


def decode(body: bytes, details: Details, received_at: int) -> Decoded:
    """Places are positions of readings; with NDJSON of lines that are not blank."""
    return as_decoded(read(body, details, received_at))


def read(body: bytes, details: Details, received_at: int) -> Read:
    """See the module."""
    raw = _lines(body) if details.get("media") == NDJSON else _listed(loads(body))
    if isinstance(raw, Refused):
        return Read([], [raw])
    return read_entries(raw, details, received_at)


def read_entries(
    raw: list[Any], details: Details, received_at: int, subject: str | None = None
) -> Read:
    """Readings as they are in JSON. `subject` is the device of those that name none."""
    if (refused := too_many(raw)) is not None:
        return Read([], [refused])
    found = Read([], [])
    for place, one in enumerate(raw):
        entry = _entry(place, one, details, received_at, subject)
        if isinstance(entry, Entry):
            found.entries.append(entry)
        else:
            found.refused.append(entry)
    return found


def _entry(
    place: int, raw: Any, details: Details, received_at: int, subject: str | None
) -> Entry | Refused:
    if isinstance(raw, Refused):
        return raw._replace(place=place)
    if not isinstance(raw, dict) or not isinstance(raw.get("values"), dict):
        return Refused(place, "malformed", "a reading has `device`, `ts` and `values`")
    named = raw.get("device")
    device, code = device_of(subject if named is None else named, details)
    if code:
        return Refused(place, code, shown(named), device)
    said = raw.get("ts")
    ts = received_at if said is None else read_time(said, details.get("zone", ""))
    if isinstance(ts, str):
        return Refused(place, ts, shown(said), device)
    return Entry(place, device, ts, raw["values"])


def _listed(parsed: Any) -> list[Any] | Refused:
    if isinstance(parsed, dict) and "readings" in parsed:
        parsed = parsed["readings"]
    elif isinstance(parsed, dict) and "values" in parsed:
        return [parsed]
    if isinstance(parsed, Refused):
        return parsed
    return parsed if isinstance(parsed, list) else Refused(-1, "malformed", "no list of readings")


def _lines(body: bytes) -> list[Any] | Refused:
    # Before they are split: a body of nothing but line ends would take gigabytes.
    if body.count(b"\n") > MOST_ENTRIES:
        return Refused(-1, "too_many", f"more than {MOST_ENTRIES} lines")
    if has_too_many_parts(body):
        return Refused(-1, "too_many", "more values than one message may hold")
    return [loads(line) for line in body.split(b"\n") if line.strip()]
