"""A client that can misbehave: sends any bytes, and reads packets with a time limit."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import NamedTuple

from connectors.iot.mqtt.wire import PropertyValues, blob, number, properties, text

SECONDS = 5.0


class Got(NamedTuple):
    kind: int
    flags: int
    body: bytes


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + number(len(body)) + body


def connect(
    user: str | None = "T1",
    password: bytes | None = None,
    *,
    version: int = 5,
    client_id: str = "c",
    clean: bool = True,
    keep_alive: int = 0,
    values: PropertyValues | None = None,
    name: bytes = b"MQTT",
    will: bytes | None = None,
) -> bytes:
    flags = clean << 1 | (user is not None) << 7 | (password is not None) << 6
    flags |= (will is not None) << 2
    body = blob(name) + struct.pack("!BBH", version, flags, keep_alive)
    body += properties(values or {}) if version == 5 else b""
    body += text(client_id)
    if will is not None:
        body += (b"\0" if version == 5 else b"") + text("will/topic") + blob(will)
    body += text(user) if user is not None else b""
    body += blob(password) if password is not None else b""
    return packet(0x10, body)


def publish(
    topic: str,
    payload: bytes,
    packet_id: int = 0,
    *,
    version: int = 5,
    qos: int | None = None,
    dup: bool = False,
    values: PropertyValues | None = None,
) -> bytes:
    qos = (packet_id > 0) if qos is None else qos
    body = text(topic) + (struct.pack("!H", packet_id) if qos else b"")
    body += properties(values or {}) if version == 5 else b""
    return packet(0x30 | qos << 1 | dup << 3, body + payload)


def subscribe(packet_id: int, *filters: str, version: int = 5, options: int = 1) -> bytes:
    body = struct.pack("!H", packet_id) + (b"\0" if version == 5 else b"")
    return packet(0x82, body + b"".join(text(one) + bytes((options,)) for one in filters))


def unsubscribe(packet_id: int, *filters: str, version: int = 5) -> bytes:
    body = struct.pack("!H", packet_id) + (b"\0" if version == 5 else b"")
    return packet(0xA2, body + b"".join(map(text, filters)))


class Client:
    """Talks to the listener; `closed` says that the listener ended the connection."""

    def __init__(self, port: int, *, version: int = 5, tls: ssl.SSLContext | None = None) -> None:
        self.version = version
        raw = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self.socket: socket.socket = (
            raw if tls is None else tls.wrap_socket(raw, server_hostname="localhost")
        )
        self._held = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def connect(
        self, user: str | None = "T1", password: bytes | None = None, **more: object
    ) -> Got:
        """Send CONNECT and take the CONNACK."""
        self.send(connect(user, password, version=self.version, **more))  # type: ignore[arg-type]
        return self.read()

    def publish(self, topic: str, payload: bytes, packet_id: int = 0, **more: object) -> None:
        self.send(publish(topic, payload, packet_id, version=self.version, **more))  # type: ignore[arg-type]

    def subscribe(self, *filters: str, packet_id: int = 9) -> Got:
        self.send(subscribe(packet_id, *filters, version=self.version))
        return self.read()

    def read(self, seconds: float = SECONDS) -> Got:
        """The next packet. Raises EOFError at the end, TimeoutError when nothing comes."""
        self.socket.settimeout(seconds)
        while (got := self._next()) is None:
            data = self._receive()
            if not data:
                raise EOFError
            self._held += data
        return got

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(65536)
        except ConnectionError:
            return b""

    def _next(self) -> Got | None:
        held, at, size, shift = self._held, 1, 0, 0
        while True:
            if at >= len(held):
                return None
            size |= (held[at] & 0x7F) << shift
            shift += 7
            at += 1
            if held[at - 1] < 0x80:
                break
        if len(held) < at + size:
            return None
        self._held = held[at + size :]
        return Got(held[0] >> 4, held[0] & 15, held[at : at + size])

    def read_ids(self, count: int) -> list[int]:
        """The packet ids of so many PUBACKs, in the order they came."""
        found = []
        for _ in range(count):
            got = self.read()
            assert got.kind == 4, got
            found.append(struct.unpack_from("!H", got.body)[0])
        return found

    def read_message(self) -> tuple[str, bytes]:
        """Topic and payload of the next message (of QoS 0)."""
        got = self.read()
        assert (got.kind, got.flags) == (3, 0), got
        size = struct.unpack_from("!H", got.body)[0]
        rest = got.body[2 + size :]
        return got.body[2 : 2 + size].decode(), rest[1:] if self.version == 5 else rest

    def is_silent(self, seconds: float = 0.15) -> bool:
        """Whether nothing comes and the connection stays."""
        try:
            self.read(seconds)
        except TimeoutError:
            return True
        except EOFError:
            return False
        return False

    def end(self) -> int | None:
        """Read to the end of the connection; the reason of a DISCONNECT before it."""
        reason = None
        while True:
            try:
                got = self.read()
            except EOFError:
                return reason
            if got.kind == 14:
                reason = got.body[0]
