"""MQTT 3.1.1 and 5.0 as a server reads it: bytes in, packets out.

Pure: no socket, no clock. A peer's mistake is `wire.broken` with the reason it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from connectors.iot.mqtt.wire import (
    V5,
    V311,
    Property,
    PropertyValues,
    Reason,
    Scan,
    broken,
    read_topic,
)

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, UNSUBSCRIBE = 1, 3, 4, 8, 10
PINGREQ, DISCONNECT = 12, 14

MOST_BEFORE_CONNECT = 262_144
"""Bytes that CONNECT may have: a will's payload alone may have 65535."""

_P = Property
_CONNECT_PROPERTIES = frozenset(
    {
        _P.SESSION_EXPIRY,
        _P.RECEIVE_MAXIMUM,
        _P.MAXIMUM_PACKET,
        _P.TOPIC_ALIAS_MAXIMUM,
        _P.RESPONSE_INFORMATION,
        _P.PROBLEM_INFORMATION,
        _P.USER,
        _P.AUTH_METHOD,
        _P.AUTH_DATA,
    }
)
_PUBLISH_PROPERTIES = frozenset(
    {
        _P.PAYLOAD_FORMAT,
        _P.MESSAGE_EXPIRY,
        _P.CONTENT_TYPE,
        _P.RESPONSE_TOPIC,
        _P.CORRELATION_DATA,
        _P.USER,
        _P.TOPIC_ALIAS,
    }
)
_WILL_PROPERTIES = (_PUBLISH_PROPERTIES | {_P.WILL_DELAY}) - {_P.TOPIC_ALIAS}
_ACK_PROPERTIES = frozenset({_P.REASON_STRING, _P.USER})
_SUBSCRIBE_PROPERTIES = frozenset({_P.SUBSCRIPTION_ID, _P.USER})
_UNSUBSCRIBE_PROPERTIES = frozenset({_P.USER})
_DISCONNECT_PROPERTIES = frozenset({_P.SESSION_EXPIRY, _P.REASON_STRING, _P.USER})


class Connect(NamedTuple):
    version: int
    client_id: str
    clean: bool
    keep_alive: int
    user: str | None
    password: bytes | None
    will_qos: int | None
    values: PropertyValues


class Publish(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    packet_id: int
    dup: bool


class PubAck(NamedTuple):
    packet_id: int


class Subscribe(NamedTuple):
    packet_id: int
    filters: list[tuple[str, int]]
    """Filter and the byte of options."""


class Unsubscribe(NamedTuple):
    packet_id: int
    filters: list[str]


class PingReq(NamedTuple):
    pass


class Disconnect(NamedTuple):
    reason: int
    values: PropertyValues


Packet = Connect | Publish | PubAck | Subscribe | Unsubscribe | PingReq | Disconnect


class Parser:
    """Takes bytes as they come and gives packets; the first one must be CONNECT, and only it.

    It holds at most one packet of `most` bytes besides what `feed` was given last.
    """

    __slots__ = ("_at", "_data", "_most", "_partial", "_wanted", "version")

    def __init__(self, most: int) -> None:
        self._most = most
        self._data = b""
        self._at = 0
        self._partial = bytearray()
        self._wanted = 2
        self.version = 0

    def feed(self, data: bytes) -> None:
        if self._partial:
            self._partial += data
            if len(self._partial) < self._wanted:
                return
            data = bytes(self._partial)
            self._partial = bytearray()
        elif self._at < len(self._data):
            data = self._data[self._at :] + data
        self._data = data
        self._at = 0

    def next(self) -> Packet | None:
        """The next packet; None when there is no whole one. Raises ContractBroken."""
        data, at = self._data, self._at
        have = len(data)
        if have - at < 2:
            self._wait(2)
            return None
        first, length, body = data[at], data[at + 1], at + 2
        if length >= 0x80:
            size = self._long_size(data, body)
            if size is None:
                self._wait(have - at + 1)
                return None
            length, body = size
        end = body + length
        if end > have:
            self._check(first, end - at)
            self._wait(end - at)
            return None
        if end - at > self._most or self.version == 0:
            self._check(first, end - at)
        self._at = end
        if first & 0xF0 == 0x30:
            return self._publish(first, data, body, end)
        return self._other(first, Scan(data, body, end))

    def _wait(self, wanted: int) -> None:
        if self._at < len(self._data):
            self._partial += self._data[self._at :]
        self._data, self._at, self._wanted = b"", 0, wanted

    def _long_size(self, data: bytes, at: int) -> tuple[int, int] | None:
        """The remaining length of more than one byte and where the body begins."""
        length, shift = data[at - 1] & 0x7F, 7
        for place in range(at, at + 3):
            if place >= len(data):
                return None
            byte = data[place]
            length |= (byte & 0x7F) << shift
            if byte == 0:
                raise broken(Reason.MALFORMED, "the remaining length is longer than it needs to be")
            if byte < 0x80:
                return length, place + 1
            shift += 7
        raise broken(Reason.MALFORMED, "the remaining length is longer than four bytes")

    def _check(self, first: int, size: int) -> None:
        """Before the body is there: a packet that will be refused is not waited for."""
        if self.version == 0 and first >> 4 != CONNECT:
            raise broken(Reason.PROTOCOL, "the first packet is not CONNECT")
        most = self._most if self.version else max(MOST_BEFORE_CONNECT, self._most)
        if size > most:
            raise broken(Reason.TOO_LARGE, f"a packet has {size} bytes, allowed are {most}")

    def _publish(self, first: int, data: bytes, at: int, end: int) -> Publish:
        qos = first >> 1 & 3
        start = at + 2
        stop = start + (data[at] << 8 | data[at + 1]) if start <= end else end + 1
        if stop > end or qos == 3:
            raise broken(Reason.MALFORMED, "PUBLISH is malformed")
        if stop == start and self.version == V5:
            raise broken(Reason.TOPIC_ALIAS, "topic aliases are not offered")
        topic = read_topic(data[start:stop])
        packet_id = 0
        if qos:
            if stop + 2 > end:
                raise broken(Reason.MALFORMED, "PUBLISH has no packet id")
            packet_id = data[stop] << 8 | data[stop + 1]
            stop += 2
            if packet_id == 0:
                raise broken(Reason.PROTOCOL, "packet id 0")
        if self.version == V5:
            stop = stop + 1 if stop < end and not data[stop] else _skip_properties(data, stop, end)
        return Publish(topic, data[stop:end], qos, packet_id, first & 8 != 0)

    def _other(self, first: int, scan: Scan) -> Packet:
        kind = first >> 4
        if first & 0x0F != (2 if kind in (SUBSCRIBE, UNSUBSCRIBE, 6) else 0):
            raise broken(Reason.MALFORMED, f"packet type {kind} with flags {first & 0x0F}")
        if kind == CONNECT:
            if self.version:
                raise broken(Reason.PROTOCOL, "a second CONNECT")
            packet = _connect(scan)
            self.version = packet.version
            return packet
        read = _READERS.get(kind)
        if read is None:
            raise broken(Reason.PROTOCOL, f"packet type {kind} is not expected by a server")
        found = read(scan, self.version)
        scan.finish()
        return found


def _skip_properties(data: bytes, at: int, end: int) -> int:
    scan = Scan(data, at, end)
    if Property.TOPIC_ALIAS in scan.properties(_PUBLISH_PROPERTIES, "PUBLISH"):
        raise broken(Reason.TOPIC_ALIAS, "topic aliases are not offered")
    return scan.at


def _connect(scan: Scan) -> Connect:
    if scan.blob() != b"MQTT":
        raise broken(Reason.PROTOCOL, "the protocol's name is not MQTT")
    version = scan.byte()
    if version not in (V311, V5):
        raise broken(Reason.VERSION, f"protocol level {version}; spoken are 4 (3.1.1) and 5")
    flags, keep_alive = scan.byte(), scan.two()
    will, will_qos = bool(flags & 0x04), flags >> 3 & 3
    if flags & 0x01 or will_qos == 3 or (not will and flags & 0x38):
        raise broken(Reason.MALFORMED, f"CONNECT with flags {flags:#04x}")
    if version == V311 and flags & 0xC0 == 0x40:
        raise broken(Reason.MALFORMED, "CONNECT with a password and without a user name")
    values = scan.properties(_CONNECT_PROPERTIES, "CONNECT") if version == V5 else {}
    if _P.AUTH_DATA in values and _P.AUTH_METHOD not in values:
        raise broken(Reason.PROTOCOL, "authentication data without a method")
    client_id = scan.text()
    if will:
        if version == V5:
            scan.properties(_WILL_PROPERTIES, "a will")
        read_topic(scan.blob())
        scan.blob()
    user = scan.text() if flags & 0x80 else None
    password = scan.blob() if flags & 0x40 else None
    scan.finish()
    clean = bool(flags & 0x02)
    qos = will_qos if will else None
    return Connect(version, client_id, clean, keep_alive, user, password, qos, values)


def _puback(scan: Scan, version: int) -> PubAck:
    packet_id = _packet_id(scan)
    if version == V5 and scan.left:
        scan.byte()
        if scan.left:
            scan.properties(_ACK_PROPERTIES, "PUBACK")
    return PubAck(packet_id)


def _subscribe(scan: Scan, version: int) -> Subscribe:
    packet_id = _packet_id(scan)
    if version == V5:
        scan.properties(_SUBSCRIBE_PROPERTIES, "SUBSCRIBE")
    filters = []
    while scan.left:
        filters.append((scan.text(), scan.byte()))
        options = filters[-1][1]
        if options & 3 == 3 or options & (0xC0 if version == V5 else 0xFC) or options & 0x30 == 48:
            raise broken(Reason.PROTOCOL, f"SUBSCRIBE with options {options:#04x}")
    if not filters:
        raise broken(Reason.PROTOCOL, "SUBSCRIBE without a filter")
    return Subscribe(packet_id, filters)


def _unsubscribe(scan: Scan, version: int) -> Unsubscribe:
    packet_id = _packet_id(scan)
    if version == V5:
        scan.properties(_UNSUBSCRIBE_PROPERTIES, "UNSUBSCRIBE")
    filters = []
    while scan.left:
        filters.append(scan.text())
    if not filters:
        raise broken(Reason.PROTOCOL, "UNSUBSCRIBE without a filter")
    return Unsubscribe(packet_id, filters)


def _disconnect(scan: Scan, version: int) -> Disconnect:
    reason, values = 0, {}
    if version == V5 and scan.left:
        reason = scan.byte()
        if scan.left:
            values = scan.properties(_DISCONNECT_PROPERTIES, "DISCONNECT")
    return Disconnect(reason, values)


def _pingreq(scan: Scan, version: int) -> PingReq:
    return PingReq()


def _packet_id(scan: Scan) -> int:
    packet_id = scan.two()
    if packet_id == 0:
        raise broken(Reason.PROTOCOL, "packet id 0")
    return packet_id


_READERS: dict[int, Callable[[Scan, int], Packet]] = {
    PUBACK: _puback,
    SUBSCRIBE: _subscribe,
    UNSUBSCRIBE: _unsubscribe,
    PINGREQ: _pingreq,
    DISCONNECT: _disconnect,
}
