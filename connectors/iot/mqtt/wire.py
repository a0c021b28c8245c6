"""The atoms of MQTT: reasons, numbers, texts and the properties of version 5."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any

from hub.sdk.errors import ContractBroken

V311 = 4
V5 = 5

PropertyValues = dict[int, Any]


class Reason(IntEnum):
    """Reason codes of version 5, as far as the listener gives or reads them."""

    SUCCESS = 0x00
    WITH_WILL = 0x04
    NOT_FOUND = 0x11
    UNSPECIFIED = 0x80
    MALFORMED = 0x81
    PROTOCOL = 0x82
    VERSION = 0x84
    CLIENT_ID = 0x85
    NOT_AUTHORIZED = 0x87
    UNAVAILABLE = 0x88
    BUSY = 0x89
    SHUTTING_DOWN = 0x8B
    AUTH_METHOD = 0x8C
    KEEP_ALIVE = 0x8D
    TAKEN_OVER = 0x8E
    FILTER = 0x8F
    TOPIC = 0x90
    RECEIVE_MAXIMUM = 0x93
    TOPIC_ALIAS = 0x94
    TOO_LARGE = 0x95
    QUOTA = 0x97
    PAYLOAD_FORMAT = 0x99
    QOS = 0x9B
    SHARED_SUBSCRIPTIONS = 0x9E


class Property(IntEnum):
    """Identifiers of the properties of version 5."""

    PAYLOAD_FORMAT = 0x01
    MESSAGE_EXPIRY = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_ID = 0x0B
    SESSION_EXPIRY = 0x11
    ASSIGNED_CLIENT_ID = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTH_METHOD = 0x15
    AUTH_DATA = 0x16
    PROBLEM_INFORMATION = 0x17
    WILL_DELAY = 0x18
    RESPONSE_INFORMATION = 0x19
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    USER = 0x26
    MAXIMUM_PACKET = 0x27
    SHARED_AVAILABLE = 0x2A


_BYTE, _TWO, _FOUR, _NUMBER, _TEXT, _DATA, _PAIR = range(7)

_KINDS: Mapping[int, int] = {
    Property.PAYLOAD_FORMAT: _BYTE,
    Property.MESSAGE_EXPIRY: _FOUR,
    Property.CONTENT_TYPE: _TEXT,
    Property.RESPONSE_TOPIC: _TEXT,
    Property.CORRELATION_DATA: _DATA,
    Property.SUBSCRIPTION_ID: _NUMBER,
    Property.SESSION_EXPIRY: _FOUR,
    Property.ASSIGNED_CLIENT_ID: _TEXT,
    Property.SERVER_KEEP_ALIVE: _TWO,
    Property.AUTH_METHOD: _TEXT,
    Property.AUTH_DATA: _DATA,
    Property.PROBLEM_INFORMATION: _BYTE,
    Property.WILL_DELAY: _FOUR,
    Property.RESPONSE_INFORMATION: _BYTE,
    Property.REASON_STRING: _TEXT,
    Property.RECEIVE_MAXIMUM: _TWO,
    Property.TOPIC_ALIAS_MAXIMUM: _TWO,
    Property.TOPIC_ALIAS: _TWO,
    Property.MAXIMUM_QOS: _BYTE,
    Property.USER: _PAIR,
    Property.MAXIMUM_PACKET: _FOUR,
    Property.SHARED_AVAILABLE: _BYTE,
}

_FLAGS = {
    Property.PAYLOAD_FORMAT,
    Property.PROBLEM_INFORMATION,
    Property.RESPONSE_INFORMATION,
}
_NEVER_ZERO = {Property.RECEIVE_MAXIMUM, Property.MAXIMUM_PACKET, Property.SUBSCRIPTION_ID}

_CACHED_TOPIC = 256


def broken(reason: Reason, problem: str) -> ContractBroken:
    """The error of a peer that does not keep to the protocol; `reason` is what it is told."""
    return ContractBroken("mqtt.broken", reason=int(reason), problem=problem)


def reason_of(error: ContractBroken) -> Reason:
    """What the peer is told about an error of `broken`."""
    given = error.params.get("reason")
    return Reason(given) if isinstance(given, int) else Reason.UNSPECIFIED


# --- reading ----------------------------------------------------------------------------------


class Scan:
    """Reads a packet's body from front to back; everything missing or wrong is `broken`."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data = data
        self.at = at
        self.end = end

    @property
    def left(self) -> int:
        return self.end - self.at

    def take(self, size: int) -> bytes:
        at = self.at
        self.at = at + size
        if self.at > self.end:
            raise broken(Reason.MALFORMED, "the packet ends too early")
        return self.data[at : self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def two(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def four(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def number(self) -> int:
        """A number of one to four bytes, in its shortest form."""
        value = shift = 0
        while shift <= 21:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    raise broken(Reason.MALFORMED, "a number is longer than it needs to be")
                return value
            shift += 7
        raise broken(Reason.MALFORMED, "a number is longer than four bytes")

    def blob(self) -> bytes:
        return self.take(self.two())

    def text(self) -> str:
        return read_text(self.blob())

    def properties(self, allowed: frozenset[int], kind: str) -> PropertyValues:
        """The properties by id; several of one kind are an error, user properties are dropped."""
        found: PropertyValues = {}
        size = self.number()
        if size == 0:
            return found
        end = self.at + size
        if end > self.end:
            raise broken(Reason.MALFORMED, "the properties are longer than their packet")
        inner = Scan(self.data, self.at, end)
        while inner.at < end:
            name = inner.number()
            if name not in allowed:
                raise broken(_misplaced(name), f"{kind} has no property {name:#04x}")
            value = inner.value(name)
            if name == Property.USER:
                continue
            if name in found:
                raise broken(Reason.PROTOCOL, f"property {name:#04x} is given twice")
            found[name] = value
        self.at = end
        return found

    def value(self, name: int) -> Any:
        """The value of property `name`."""
        kind = _KINDS[name]
        if kind == _PAIR:
            return self.text(), self.text()
        read = (self.byte, self.two, self.four, self.number, self.text, self.blob)[kind]
        value: Any = read()
        if (name in _FLAGS and value > 1) or (name in _NEVER_ZERO and value == 0):
            raise broken(Reason.PROTOCOL, f"property {name:#04x} must not be {value}")
        return value

    def finish(self) -> None:
        if self.at != self.end:
            raise broken(Reason.MALFORMED, "the packet is longer than what it holds")


def _misplaced(name: int) -> Reason:
    return Reason.PROTOCOL if name in _KINDS else Reason.MALFORMED


def read_text(raw: bytes) -> str:
    """UTF-8 without surrogates and without NUL."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise broken(Reason.MALFORMED, "a text is not UTF-8") from error
    if "\0" in text:
        raise broken(Reason.MALFORMED, "a text holds the character U+0000")
    return text


def read_topic(raw: bytes) -> str:
    """The name of a topic to publish to: a text without wildcards, not empty."""
    return _short_topic(raw) if len(raw) <= _CACHED_TOPIC else _topic(raw)


def _topic(raw: bytes) -> str:
    topic = read_text(raw)
    if not topic or "+" in topic or "#" in topic:
        raise broken(Reason.TOPIC, f"{topic[:200]!r} is no name of a topic")
    return topic


_short_topic = lru_cache(maxsize=1024)(_topic)


# --- writing ----------------------------------------------------------------------------------


def number(value: int) -> bytes:
    """A number in one to four bytes."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def blob(data: bytes) -> bytes:
    """Bytes with their length in two bytes before them."""
    return struct.pack("!H", len(data)) + data


def text(value: str) -> bytes:
    return blob(value.encode())


def properties(values: PropertyValues) -> bytes:
    """The block of properties, with its length."""
    block = b"".join(bytes((name,)) + _written(name, value) for name, value in values.items())
    return number(len(block)) + block


def _written(name: int, value: Any) -> bytes:
    kind = _KINDS[name]
    if kind == _BYTE:
        return bytes((value,))
    if kind in (_TWO, _FOUR):
        return int(value).to_bytes(2 if kind == _TWO else 4, "big")
    if kind == _NUMBER:
        return number(value)
    return text(value) if kind == _TEXT else blob(value)
