"""InfluxDB line protocol as readings: a fast path for plain lines, a strict one for the others.

    device     the first of `device_tags` that the line has, else the sender itself
    metric     measurement_field, or the field alone in the measurement that is named so; values of
               `metric_tags` stand between the two
    attributes the other tags, once per message and set of tags
    ts         milliseconds: of points that fall into one, the last one counts

A line with anything wrong in it is refused whole, as InfluxDB does it, the lines around it are
kept; so is a tag that is there twice in one line. Of a field that is there twice the last one
counts. Only a quoted text that looks like NaN or infinity, or is too long, is refused by itself.
Booleans are 1 or 0 beside their text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from math import isfinite
from typing import NamedTuple, cast

import orjson

from connectors.iot.line_grammar import (
    LONGEST_LINE,
    NUMBER,
    BadLine,
    Head,
    Line,
    number_of,
    plain_name,
    read_head,
    read_line,
)
from connectors.iot.values import LONGEST_TEXT, MOST_REFUSED, cast_value, name_of
from hub.sdk.telemetry import Decoded, Details, Refused, Text
from hub.sdk.telemetry_source import LineProtocol

FORMAT = "iot.line_protocol"
PRECISIONS = {
    "ns": 1,
    "n": 1,
    "us": 10**3,
    "u": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
"""Nanoseconds in each unit of time."""

MOST_READINGS = 500_000
"""In one message; a body with more is kept as several by the face."""
MOST_BAD = 100_000
"""Bad lines after which the rest of a message is not looked at."""
MOST_ATTRIBUTES = 100_000
_MOST_CACHED = 10_000
_MOST_NAMED = 100

_PLAIN = re.compile(
    rb'([^\s"\\#,\0][^\s"\\]*+)\x20([^\s"\\]++)(?:\x20(-?[0-9]{1,19}+))?+\r?(?:\n|\Z)'
)
_FIELD = rb"[^,=]++=%b[iu]?+" % NUMBER
_NUMBERS = re.compile(rb"%b(?:,%b)*+" % (_FIELD, _FIELD))
"""Fields that hold numbers, as good as certainly; the types are looked at one by one."""
_SKIPPED = re.compile(rb"[ \t\r\n\0]*+(?:#[^\n]*+[ \t\r\n\0]*+)*+")
_LAST_NS = 2**63

_Row = Callable[[tuple[str, str, int, float]], None]


class Setup(NamedTuple):
    """What a message's details say. `gateway`: the sender is no device itself."""

    unit: int
    device_tags: tuple[str, ...]
    metric_tags: tuple[str, ...]
    measurement: str
    gateway: bool


class _Series(NamedTuple):
    """What the head of a line means: the device, and the names of metrics by field."""

    device: str
    prefix: str
    metrics: dict[bytes, str]


def decode(body: bytes, details: Details, received_at: int) -> Decoded:
    """See `hub.sdk.telemetry.Decode`.

    Details: `precision` (ns), `device_tags` and `metric_tags` (JSON lists), `measurement`,
    `gateway` ("1": a line without a device is refused).
    """
    setup = setup_of(details)
    if isinstance(setup, Refused):
        return Decoded(refused=[setup])
    reader = LineReader(body, setup, received_at)
    reader.read(MOST_READINGS)
    if reader.at < len(body):
        reader.refuse_rest()
    return reader.result()


def setup_of(details: Details) -> Setup | Refused:
    """Details as a setup, or why they make none."""
    return _setup_of(*(details.get(name, "") for name in _DETAILS))


_DETAILS = ("precision", "device_tags", "metric_tags", "measurement", "gateway")


@lru_cache(maxsize=1024)
def _setup_of(
    precision: str, device_tags: str, metric_tags: str, measurement: str, gateway: str
) -> Setup | Refused:
    unit = PRECISIONS.get(precision or "ns")
    if unit is None:
        return Refused(-1, "malformed", "unknown precision; use ns, u, ms, s, m or h")
    devices = _names(device_tags) if device_tags else tuple(LineProtocol().device_tags)
    metrics = _names(metric_tags) if metric_tags else ()
    if devices is None or metrics is None:
        return Refused(-1, "malformed", "device_tags or metric_tags is no JSON list of names")
    return Setup(unit, devices, metrics, measurement, gateway == "1")


def _names(listed: str) -> tuple[str, ...] | None:
    try:
        names = orjson.loads(listed)
    except ValueError:
        return None
    fits = isinstance(names, list) and all(isinstance(one, str) for one in names)
    return tuple(names) if fits else None


class LineReader:
    """Reads a body, all at once or in parts.

    `at` is how far it is; `bad` how much was refused since the last `result`, `first_bad` the first
    of all; `devices` the names that lines gave (some of them). With `gave_up` too much was bad:
    `refuse_rest` closes the body.
    """

    def __init__(self, body: bytes, setup: Setup, received_at: int) -> None:
        self.at = 0
        self.bad = 0
        self.first_bad: Refused | None = None
        self.devices: set[str] = set()
        self.gave_up = False
        self._body = body
        self._setup = setup
        self._received_at = received_at
        self._place = 0
        self._decoded = Decoded()
        self._series: dict[bytes, _Series | BadLine] = {}
        self._metrics: dict[str, dict[bytes, str]] = {}
        self._attributes = 0
        self._time = b""
        self._ts: int | None = received_at

    @property
    def readings(self) -> int:
        """How many were found since the last `result`."""
        return len(self._decoded.samples) + len(self._decoded.texts)

    def result(self) -> Decoded:
        """What was found since the last time."""
        decoded, left = self._decoded, self.bad - MOST_REFUSED
        if left > 0:
            decoded.refused.append(Refused(-1, "too_many", f"{left} more lines were refused"))
        self._decoded, self.bad, self._attributes = Decoded(), 0, 0
        self._series.clear()  # each part tells its attributes itself
        return decoded

    def read(self, most: int) -> None:
        """Read on until about `most` readings are found, or the end."""
        body, end = self._body, len(self._body)
        plain, samples, texts = _PLAIN.match, self._decoded.samples, self._decoded.texts
        while self.at < end and len(samples) + len(texts) < most:
            found = plain(body, self.at)
            if found is not None and self._take(found):
                self.at = found.end()
                self._place += 1
            elif self._skip():
                continue
            elif self.bad >= MOST_BAD:
                self.gave_up = True
                return
            else:
                self._take_strictly()

    def refuse_rest(self) -> None:
        """Refuse all from here to the end."""
        self._refuse(Refused(self._place, "too_many", "the rest of the message was not read"))
        self.at = len(self._body)

    def _take(self, found: re.Match[bytes]) -> bool:
        """Add a plain line; false when it needs a closer look."""
        head, listed, time = found.groups(b"")
        series = self._series.get(head) or self._series_of(head)
        if not isinstance(series, _Series) or len(listed) > LONGEST_LINE:
            return False
        ts = self._ts if time == self._time else self._time_of(time)
        if ts is None or _NUMBERS.fullmatch(listed) is None:
            return False
        device, _, metrics = series
        values: dict[str, float] = {}
        for part in listed.split(b","):
            key, _, raw = part.partition(b"=")
            value = float(raw) if raw[-1] < 58 else number_of(raw)
            metric = metrics.get(key) or self._metric_of(series, key)
            if not metric or value is None or not isfinite(value):
                return False
            values[metric] = value
        add = cast("_Row", self._decoded.samples.append)
        for metric, value in values.items():
            add((device, metric, ts, value))
        return True

    def _skip(self) -> bool:
        """Pass blank lines, comments and what stands before a line; false: there is none."""
        found = _SKIPPED.match(self._body, self.at)
        if found is None or found.end() == self.at:
            return False
        self._place += self._body.count(b"\n", self.at, found.end())
        self.at = found.end()
        return True

    def _take_strictly(self) -> None:
        start, place = self.at, self._place
        try:
            line = read_line(self._body, start)
            self.at = line.end
            self._add(line, place)
        except BadLine as problem:
            if self.at == start:
                after = self._body.find(b"\n", max(start, problem.at))
                self.at = after + 1 if after >= 0 else len(self._body)
            self._refuse(Refused(place, problem.code, problem.detail))
        self._place += self._body.count(b"\n", start, self.at)

    def _add(self, line: Line, place: int) -> None:
        series = self._series.get(line.head) or self._series_of(line.head)
        if isinstance(series, BadLine):
            raise series
        ts = self._time_of(line.time)
        if ts is None:
            raise BadLine("bad_time", "the timestamp is out of range", 0)
        metrics = {key: self._metric_of(series, key) for key in line.fields}
        if not all(metrics.values()):
            raise BadLine("name", "a field's name is too long, not printable or no UTF-8", 0)
        # Different spellings of one field (escaped or not) are one metric: the last one counts.
        values = {metrics[key]: value for key, value in line.fields.items()}
        for metric, value in values.items():
            number, text, code = cast_value(value)
            if number is not None:
                cast("_Row", self._decoded.samples.append)((series.device, metric, ts, number))
            if text is not None:
                self._decoded.texts.append(Text(series.device, metric, ts, text))
            if code:
                detail = "a text that cannot be a value"
                self._refuse(Refused(place, code, detail, series.device, metric))

    def _refuse(self, refused: Refused) -> None:
        self.bad += 1
        self.first_bad = self.first_bad or refused
        if self.bad <= MOST_REFUSED:
            self._decoded.refused.append(refused)

    # --- what is looked at once ---------------------------------------------------------------

    def _time_of(self, raw: bytes) -> int | None:
        """UTC milliseconds; None when a 64-bit count of nanoseconds does not reach it."""
        self._time = raw
        if not raw:
            self._ts = self._received_at
        elif len(raw) > 25:
            self._ts = None
        else:
            ns = int(raw) * self._setup.unit
            self._ts = ns // 1_000_000 if -_LAST_NS <= ns < _LAST_NS else None
        return self._ts

    def _series_of(self, head: bytes) -> _Series | BadLine:
        if len(self._series) >= _MOST_CACHED:
            self._series.clear()
        try:
            made: _Series | BadLine = self._made(read_head(head))
        except BadLine as problem:
            made = problem
        self._series[head] = made
        return made

    def _made(self, head: Head) -> _Series:
        measurement, tags = head
        device = ""
        for tag in self._setup.device_tags:
            if tag in tags:
                device = name_of(tags.pop(tag))
                if not device:
                    raise BadLine("name", "the device's name is too long or not printable", 0)
                break
        if device and len(self.devices) < _MOST_NAMED:
            self.devices.add(device)
        if not device and self._setup.gateway:
            raise BadLine("no_device", "no tag says which device this is", 0)
        parts = [] if measurement == self._setup.measurement else [measurement]
        parts += [tags.pop(tag) for tag in self._setup.metric_tags if tag in tags]
        self._tell(device, tags)
        prefix = "".join(f"{part}_" for part in parts)
        return _Series(device, prefix, self._metrics.setdefault(prefix, {}))

    def _tell(self, device: str, tags: dict[str, str]) -> None:
        """Tags that can be no attribute (control characters, too long) are left out."""
        told = {name_of(key): value for key, value in tags.items() if len(value) <= LONGEST_TEXT}
        told.pop("", None)
        self._attributes += len(told)
        if told and self._attributes <= MOST_ATTRIBUTES:
            self._decoded.attributes.setdefault(device, {}).update(told)

    def _metric_of(self, series: _Series, key: bytes) -> str:
        """The metric's name, "" when there can be none."""
        known = series.metrics.get(key)
        if known is not None:
            return known
        try:
            name = name_of(series.prefix + plain_name(key))
        except BadLine:
            name = ""
        if len(series.metrics) >= _MOST_CACHED:
            series.metrics.clear()
        series.metrics[key] = name
        return name
