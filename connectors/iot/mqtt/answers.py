"""What a server sends, as bytes."""

from __future__ import annotations

import struct

from connectors.iot.mqtt.wire import V5, Property, PropertyValues, Reason, number, properties, text

PINGRESP = b"\xd0\x00"

_OLD_CODES = {
    Reason.SUCCESS: 0,
    Reason.VERSION: 1,
    Reason.CLIENT_ID: 2,
    Reason.UNAVAILABLE: 3,
    Reason.BUSY: 3,
}
"""Codes of CONNACK before version 5; every other refusal is 5, "not authorized"."""


def connack(
    version: int, reason: Reason, values: PropertyValues | None = None, *, present: bool = False
) -> bytes:
    """`present`: the client's session is still there."""
    if version != V5:
        return bytes((0x20, 2, present, _OLD_CODES.get(reason, 5)))
    return _packet(0x20, bytes((present, reason)) + properties(values or {}))


def puback(version: int, packet_id: int, reason: Reason = Reason.SUCCESS) -> bytes:
    if version != V5 or reason is Reason.SUCCESS:
        return struct.pack("!BBH", 0x40, 2, packet_id)
    return struct.pack("!BBHB", 0x40, 3, packet_id, reason)


def publish(version: int, topic: str, payload: bytes) -> bytes:
    """A message of QoS 0."""
    return _packet(0x30, text(topic) + (b"\0" if version == V5 else b"") + payload)


def suback(version: int, packet_id: int, reasons: list[int]) -> bytes:
    """What each filter got: the QoS, or the reason why not (before version 5: 0x80)."""
    if version != V5:
        reasons = [reason if reason < 0x80 else 0x80 for reason in reasons]
    return _acknowledgement(0x90, version, packet_id, bytes(reasons))


def unsuback(version: int, packet_id: int, reasons: list[int]) -> bytes:
    return _acknowledgement(0xB0, version, packet_id, bytes(reasons) if version == V5 else b"")


def disconnect(reason: Reason, problem: str = "") -> bytes:
    """Version 5 only: before it a server just closes."""
    values: PropertyValues = {Property.REASON_STRING: problem[:200]} if problem else {}
    return _packet(0xE0, bytes((reason,)) + properties(values))


def _acknowledgement(first: int, version: int, packet_id: int, reasons: bytes) -> bytes:
    block = b"\0" if version == V5 else b""
    return _packet(first, struct.pack("!H", packet_id) + block + reasons)


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + number(len(body)) + body
