"""Devices and gateways on the hub's own MQTT port, by hand: what has no PUBACK comes again."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

from tests.telemetry.kills.journal import Journal, Reading
from tests.telemetry.kills.senders import Sender, gateway_body, thingsboard_body

_TIMEOUT = 30.0
_CONNACK, _PUBACK, _DISCONNECT = 0x20, 0x40, 0xE0
_DUP = 0x08


class _Sent(NamedTuple):
    packet_id: int
    readings: list[Reading]
    packet: bytes


class MqttSender(Sender):
    """QoS 1 with at most `window` messages without PUBACK; `version` is 4 (3.1.1) or 5.

    The token and client id is `token`. `reasons` counts DISCONNECTs of the hub.
    """

    def __init__(
        self,
        journal: Journal,
        port: int,
        version: int,
        *,
        token: str = "",
        window: int = 20,
        size: int = 5,
        pause: float = 0.002,
    ) -> None:
        super().__init__(f"mqtt {version} {journal.name}", journal, size, pause)
        self.port, self.version, self.window = port, version, window
        self.token = token or journal.name
        self.reasons: list[int] = []
        self.slowest = 0.0
        """The longest wait for a PUBACK, in seconds."""
        self._in_flight: list[_Sent] = []
        self._next_id = 0
        self._buffer = b""

    def work(self) -> None:
        while not (self._is_done() or self.given_up.is_set()):
            try:
                with self._connected() as link:
                    self._talk(link)
            except OSError as error:
                self.answers[type(error).__name__] += 1
                time.sleep(0.05)

    def _is_done(self) -> bool:
        return self.last.is_set() and not self._in_flight

    def _connected(self) -> socket.socket:
        link = socket.create_connection(("127.0.0.1", self.port), timeout=_TIMEOUT)
        self._buffer = b""
        name = _text(self.token.encode())
        body = _text(b"MQTT") + bytes((self.version, 0x82)) + (60).to_bytes(2, "big")
        body += (b"\0" if self.version == 5 else b"") + name + name
        try:
            link.sendall(b"\x10" + _length(len(body)) + body)
            kind, content = self._packet(link)
            assert kind == _CONNACK
            if content[1] != 0:
                self.answers[f"connack {content[1]:#x}"] += 1
                raise ConnectionError("not admitted")
        except BaseException:
            link.close()
            raise
        return link

    def _talk(self, link: socket.socket) -> None:
        for sent in self._in_flight:  # in their order, marked as sent before
            link.sendall(bytes((sent.packet[0] | _DUP,)) + sent.packet[1:])
        while not (self._is_done() or self.given_up.is_set()):
            self._fill(link)
            if not self._in_flight:
                time.sleep(0.01)
                continue
            began = time.monotonic()
            self._acknowledged(*self._packet(link))
            self.slowest = max(self.slowest, time.monotonic() - began)
            time.sleep(self.pause)

    def _fill(self, link: socket.socket) -> None:
        while len(self._in_flight) < self.window and not self.last.is_set():
            readings = self.journal.take(self.size)
            if not readings:
                return
            self._next_id = self._next_id % 65535 + 1
            body = _text(self.topic) + self._next_id.to_bytes(2, "big")
            if self.version == 5:
                body += b"\0"
            body += self.body(readings)
            sent = _Sent(self._next_id, readings, b"\x32" + _length(len(body)) + body)
            self._in_flight.append(sent)  # before it is on its way: nobody knows how far it gets
            link.sendall(sent.packet)

    topic = b"v1/devices/me/telemetry"

    def body(self, readings: Sequence[Reading]) -> bytes:
        return thingsboard_body(readings)

    def _acknowledged(self, kind: int, content: bytes) -> None:
        if kind == _DISCONNECT:
            self.reasons.append(content[0] if content else 0)
            raise ConnectionError("told to go")
        assert kind == _PUBACK, hex(kind)
        first = self._in_flight[0]
        assert int.from_bytes(content[:2], "big") == first.packet_id, "not in the order of arrival"
        assert len(content) == 2 or content[2] == 0, f"PUBACK with reason {content[2]:#x}"
        del self._in_flight[0]
        self.journal.acknowledge(first.readings)
        self.answers["puback"] += 1

    def _packet(self, link: socket.socket) -> tuple[int, bytes]:
        while (found := _first(self._buffer)) is None:
            data = link.recv(65536)
            if not data:
                raise ConnectionError("closed")
            self._buffer += data
        kind, content, size = found
        self._buffer = self._buffer[size:]
        return kind, content


class GatewaySender(MqttSender):
    """Sends for the device of its journal."""

    topic = b"v1/gateway/telemetry"

    def body(self, readings: Sequence[Reading]) -> bytes:
        return gateway_body(self.journal.name, readings)


def _first(data: bytes) -> tuple[int, bytes, int] | None:
    """Kind and content of the first packet, and its size; None while it is not all there."""
    length = 0
    for place, byte in enumerate(data[1:5]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            begin = 2 + place
            if len(data) < begin + length:
                return None
            return data[0] & 0xF0, data[begin : begin + length], begin + length
    return None


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _length(number: int) -> bytes:
    found = bytearray()
    while True:
        number, low = divmod(number, 128)
        found.append(low | (0x80 if number else 0))
        if not number:
            return bytes(found)
