"""The grammar of InfluxDB line protocol, clause by clause, for one line.

    measurement[,tag=value…] field=value[,field=value…] [timestamp]

`\\,` `\\=` and `\\ ` stand for themselves in names and tag values, every other backslash is one; a
comma after two backslashes is still escaped, as InfluxDB reads it. `\\"` and `\\\\` are escapes
inside of quoted strings, which may span lines. Every pattern is possessive: nothing is ever read
twice, whatever it looks like.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import NamedTuple

LONGEST_LINE = 1_048_576
LONGEST_HEAD = 65_535
"""Bytes of measurement and tags, as in InfluxDB."""

_NAME = rb"(?:[^\\,= \n]++|\\++[,= ]?+)++"
_MEASUREMENT = re.compile(rb"(?:[^\\, \n]++|\\++[,= ]?+)++")
_TAG = re.compile(rb",(%b)=(%b)" % (_NAME, _NAME))
_KEY = re.compile(rb"(%b)=" % _NAME)
_STRING = re.compile(rb'"((?:[^"\\]++|\\\\|\\[^\\])*+)"', re.DOTALL)
_BARE = re.compile(rb'[^, \n\r"]*+')
_BLANKS = re.compile(rb" [ \t]*+")
_TIME = re.compile(rb"-?[0-9]++")
_END = re.compile(rb"[ \t]*+\r?(?:\n|\Z)")
_ESCAPED = re.compile(rb"\\([,= ])")
_ESCAPED_IN_STRING = re.compile(rb'\\(["\\])')

NUMBER = rb"-?(?:[0-9]{1,400}+(?:\.[0-9]{0,400}+)?+|\.[0-9]{1,400}+)(?:[eE][+-]?[0-9]{1,9}+)?+"
_NUMBER = re.compile(NUMBER)
_INTEGER = re.compile(rb"-?[0-9]{1,19}+i|[0-9]{1,20}+u")
_NO_NUMBER = re.compile(
    rb"[+-]?(?i:nan|inf|infinity)|-?[0-9]++[iu]"
    rb"|-?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+"
)
_BOOLEANS = dict.fromkeys((b"t", b"T", b"true", b"True", b"TRUE"), True)
_BOOLEANS |= dict.fromkeys((b"f", b"F", b"false", b"False", b"FALSE"), False)

Value = float | bool | str


class Head(NamedTuple):
    """What a line is about."""

    measurement: str
    tags: dict[str, str]


class Line(NamedTuple):
    """A line that was read: its parts, and where the next one begins. `time` is b"" for none."""

    head: bytes
    fields: dict[bytes, Value]
    time: bytes
    end: int


class BadLine(Exception):
    """A line that cannot be read. `at`: a byte of it, after which reading may go on."""

    def __init__(self, code: str, detail: str, at: int) -> None:
        self.code = code
        self.detail = detail
        self.at = at
        super().__init__(code, detail, at)


def read_line(body: bytes, start: int) -> Line:
    """The line that begins at `start`, which is neither blank nor a comment. Raises BadLine."""
    most = min(len(body), start + LONGEST_LINE)
    at = _past_head(body, start, most)
    head = body[start:at]
    blanks = _BLANKS.match(body, at, most)
    if blanks is None:
        raise BadLine("malformed", "no fields", at)
    fields: dict[bytes, Value] = {}
    bad: BadLine | None = None
    at = blanks.end() - 1
    while True:
        key = _KEY.match(body, at + 1, most)
        if key is None:
            raise BadLine("malformed", "a field has no name or no value", at + 1)
        try:
            value, at = _value(body, key.end(), most)
        except _BadValue as problem:
            at = problem.end
            bad = bad or BadLine(problem.code, problem.detail, at)
        else:
            fields[key[1]] = value
        if body[at : at + 1] != b",":
            break
    time, end = _time(body, at, most)
    if most < len(body) and body[end - 1 : end] != b"\n":
        raise BadLine("malformed", f"a line has more than {LONGEST_LINE} bytes", end)
    if bad is not None:
        raise BadLine(bad.code, bad.detail, end - 1)
    return Line(head, fields, time, end)


def _past_head(body: bytes, at: int, most: int) -> int:
    found = _MEASUREMENT.match(body, at, most)
    if found is None:
        raise BadLine("malformed", "no measurement", at)
    end = found.end()
    while body[end : end + 1] == b",":
        tag = _TAG.match(body, end, most)
        if tag is None:
            raise BadLine("malformed", "a tag has no name or no value", end)
        end = tag.end()
    if body[end : end + 1] == b"=":
        raise BadLine("malformed", "a tag's value holds a bare =", end)
    return end


def read_head(head: bytes) -> Head:
    """Measurement and tags of a head that `read_line` or the fast path found. Raises BadLine."""
    if len(head) > LONGEST_HEAD:
        raise BadLine("malformed", f"measurement and tags have more than {LONGEST_HEAD} bytes", 0)
    measurement, pairs = _split_escaped(head) if b"\\" in head else _split(head)
    tags: dict[str, str] = {}
    for name, value in pairs:
        if not name or not value or (b"\\" not in head and "=" in value):
            raise BadLine("malformed", "a tag has no name or no value, or a bare = in it", 0)
        if name in tags:
            raise BadLine("malformed", "a tag is there twice", 0)
        tags[name] = value
    return Head(measurement, tags)


def _split(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    measurement, *tags = _text(head, 0).split(",")
    pairs = [tag.partition("=") for tag in tags]
    return measurement, [(name, value) for name, _, value in pairs]


def _split_escaped(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    found = _MEASUREMENT.match(head)
    if found is None:
        raise BadLine("malformed", "no measurement", 0)
    pairs = []
    at = found.end()
    while at < len(head):
        tag = _TAG.match(head, at)
        if tag is None:
            raise BadLine("malformed", "a tag has no name or no value", at)
        pairs.append((plain_name(tag[1]), plain_name(tag[2])))
        at = tag.end()
    return plain_name(found[0]), pairs


def plain_name(raw: bytes) -> str:
    """A name or tag value without its escapes. Raises BadLine when it is no UTF-8."""
    if b"\\" in raw:
        raw = _ESCAPED.sub(rb"\1", raw)
    return _text(raw, 0)


def _text(raw: bytes, at: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadLine("malformed", "not UTF-8", at) from None


class _BadValue(Exception):
    """A value that cannot be one, though it is clear where it ends."""

    def __init__(self, code: str, detail: str, end: int) -> None:
        self.code = code
        self.detail = detail
        self.end = end
        super().__init__(code, detail, end)


def _value(body: bytes, at: int, most: int) -> tuple[Value, int]:
    """A field's value and where it ends."""
    if body[at : at + 1] == b'"':
        found = _STRING.match(body, at, most)
        if found is None:
            raise BadLine("malformed", "a quoted text does not end", at)
        try:
            text = _ESCAPED_IN_STRING.sub(rb"\1", found[1]).decode()
        except UnicodeDecodeError:
            raise _BadValue("malformed", "not UTF-8", found.end()) from None
        return text, found.end()
    bare = _BARE.match(body, at, most)
    raw = bare[0] if bare else b""
    end = at + len(raw)
    if raw in _BOOLEANS:
        return _BOOLEANS[raw], end
    value = number_of(raw)
    if value is None:
        code = "invalid" if _NO_NUMBER.fullmatch(raw) else "malformed"
        raise _BadValue(code, "a value is no number, boolean or quoted text", end)
    return value, end


def number_of(raw: bytes) -> float | None:
    """A number as line protocol writes it, within its type; None when it is none."""
    if _INTEGER.fullmatch(raw):
        whole = int(raw[:-1])
        low, high = (0, 2**64) if raw.endswith(b"u") else (-(2**63), 2**63)
        return float(whole) if low <= whole < high else None
    if _NUMBER.fullmatch(raw) is None:
        return None
    number = float(raw)
    return number if isfinite(number) else None


def _time(body: bytes, at: int, most: int) -> tuple[bytes, int]:
    """The timestamp (b"" for none), and where the next line begins."""
    time = b""
    blanks = _BLANKS.match(body, at, most)
    if blanks is not None:
        found = _TIME.match(body, blanks.end(), most)
        if found is not None:
            time, at = found[0], found.end()
    end = _END.match(body, at, most)
    if end is None:
        code = "malformed" if blanks is None else "bad_time"
        detail = "something follows a value" if blanks is None else "the timestamp is no integer"
        raise BadLine(code, detail, at)
    return time, end.end()
