"""CloudEvents 1.0: what an event is, and the readings in its data.

`subject` is the device and `time` the time of readings that do not say otherwise. `data` is
readings as in `connectors.iot.readings`, or an object of metrics: `{metric: value}`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from connectors.iot.entries import Entry, Read, as_decoded, device_of
from connectors.iot.readings import read_entries
from connectors.iot.times import read_time
from connectors.iot.values import dumps, loads, shown
from hub.sdk.telemetry import Decoded, Details, Refused

HEADER = "ce-"
LONGEST_ATTRIBUTE = 2048
MODE = "mode"
BINARY = "binary"

_REQUIRED = ("id", "source", "type", "specversion")
_OPTIONAL = ("subject", "time", "datacontenttype", "dataschema")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


class Event(NamedTuple):
    """An event whose attributes are in order. `data` is the JSON in it, None when there is none."""

    id: str
    source: str
    subject: str | None
    time: str | None
    data: Any


def decode(body: bytes, details: Details, received_at: int) -> Decoded:
    """One event. In binary mode its attributes are `ce-…` in the details. Places are positions of
    readings in its data; what is wrong with the event is at -1."""
    return as_decoded(read(body, details, received_at))


def read(body: bytes, details: Details, received_at: int) -> Read:
    """See `decode`."""
    event = from_details(details, body) if details.get(MODE) == BINARY else from_json(loads(body))
    if isinstance(event, Refused):
        return Read([], [event])
    return read_event(event, details, received_at)


def read_event(event: Event, details: Details, received_at: int) -> Read:
    """The readings in an event."""
    zone = details.get("zone", "")
    ts = received_at if event.time is None else read_time(event.time, zone, "rfc3339")
    if isinstance(ts, str):
        return _only(ts, event.time)
    data = event.data
    if data is None:
        return Read([], [])
    if isinstance(data, dict) and isinstance(data.get("readings"), list):
        data = data["readings"]
    elif isinstance(data, dict) and isinstance(data.get("values"), dict):
        data = [data]
    if isinstance(data, list):
        return read_entries(data, details, ts, event.subject)
    if not isinstance(data, dict):
        return _only("malformed", "data is neither an object nor a list of readings")
    device, code = device_of(event.subject, details)
    if code:
        return _only(code, event.subject)
    return Read([Entry(0, device, ts, data)], [])


def _only(code: str, detail: object) -> Read:
    return Read([], [Refused(-1, code, shown(detail))])


# --- from JSON ----------------------------------------------------------------------------------


def from_json(raw: Any) -> Event | Refused:
    """An event in structured mode."""
    if isinstance(raw, Refused):
        return raw
    if not isinstance(raw, dict):
        return _broken("an event is an object")
    wrong = _wrong_attribute(raw)
    if wrong:
        return _broken(wrong)
    data = _json_data(raw)
    return data if isinstance(data, Refused) else _event(raw, data)


def _json_data(raw: Mapping[str, Any]) -> Any:
    packed, data = raw.get("data_base64"), raw.get("data")
    if packed is not None and data is not None:
        return _broken("data and data_base64 exclude each other")
    media = raw.get("datacontenttype")
    if packed is None:
        return data if data is None or is_json(media) else _not_json(media)
    try:
        unpacked = base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError, TypeError):
        return _broken("data_base64 is no base64")
    return _data(unpacked, media)


def _data(body: bytes, media: str | None) -> Any:
    if not body:
        return None
    return loads(body) if is_json(media) else _not_json(media)


def _event(attributes: Mapping[str, Any], data: Any) -> Event:
    subject, time = attributes.get("subject"), attributes.get("time")
    return Event(attributes["id"], attributes["source"], subject, time, data)


def _wrong_attribute(attributes: Mapping[str, Any]) -> str:
    """What is wrong with the context attributes; "" when nothing is."""
    for name in _REQUIRED:
        if not _is_text(attributes.get(name)):
            return f"{name} is missing or no text"
    for name in _OPTIONAL:
        value = attributes.get(name)
        if value is not None and not _is_text(value):
            return f"{name} is no text"
    version = attributes["specversion"]
    return "" if version == "1.0" else f"specversion is {shown(version)}, not 1.0"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_ATTRIBUTE


# --- from headers -------------------------------------------------------------------------------


def details_of(headers: Mapping[str, str]) -> dict[str, str] | Refused:
    """What must be kept beside the body of an event in binary mode. Header names are lower-case."""
    details = {MODE: BINARY}
    for name in (*_REQUIRED, "subject", "time", "dataschema"):
        value = headers.get(HEADER + name)
        if value is None:
            continue
        unpacked = _unpacked(value)
        if unpacked is None:
            return _broken(f"{HEADER}{name} is no text")
        details[HEADER + name] = unpacked
    media = headers.get("content-type", "")
    return {**details, "media": media.encode(errors="replace").decode()} if media else details


def from_details(details: Details, body: bytes) -> Event | Refused:
    """An event in binary mode; see `details_of`."""
    raw = {
        name.removeprefix(HEADER): value
        for name, value in details.items()
        if name.startswith(HEADER)
    }
    wrong = _wrong_attribute(raw)
    if wrong:
        return _broken(wrong)
    data = _data(body, details.get("media"))
    return data if isinstance(data, Refused) else _event(raw, data)


def _unpacked(value: str) -> str | None:
    """The text of a header: unquoted, then percent-decoded; None when that is no UTF-8."""
    quoted = _QUOTED.fullmatch(value)
    if quoted:
        value = _ESCAPED.sub(r"\1", quoted[1])
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeError:
        return None


def is_json(media: str | None) -> bool:
    """Whether data of this media type is JSON; without one it is."""
    if not media:
        return True
    kind = media.partition(";")[0].strip().lower()
    return kind.endswith(("/json", "+json"))


def as_body(raw: Any) -> bytes | None:
    """The JSON of one event out of a batch; None when it is nested too deeply."""
    text = dumps(raw)
    return None if text is None else text.encode()


def _broken(detail: str) -> Refused:
    return Refused(-1, "malformed", detail)


def _not_json(media: object) -> Refused:
    return Refused(-1, "unsupported", f"data is {shown(media)}, not JSON")
