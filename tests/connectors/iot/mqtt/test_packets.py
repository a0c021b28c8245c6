"""The parser: however bytes are cut, whatever they are."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.iot.mqtt import answers, packets, wire
from connectors.iot.mqtt.packets import Packet, Parser
from connectors.iot.mqtt.wire import Property, Reason
from hub.sdk.errors import ContractBroken
from tests.connectors.iot.mqtt.client import connect, packet, publish, subscribe, unsubscribe

MOST = 1000
VERSIONS = st.sampled_from([4, 5])
IDS = st.integers(1, 65535)
TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=40)
TOPICS = TEXTS.filter(lambda text: text and "+" not in text and "#" not in text)


def read(parser: Parser, pieces: list[bytes]) -> list[Packet]:
    found = []
    for piece in pieces:
        parser.feed(piece)
        while (one := parser.next()) is not None:
            found.append(one)
    return found


def read_or_refuse(pieces: list[bytes]) -> None:
    """Anything else than packets or `broken` fails the test."""
    try:
        read(Parser(MOST), pieces)
    except ContractBroken as error:
        wire.reason_of(error)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


@st.composite
def conversations(draw: Any) -> tuple[bytes, int]:
    version = draw(VERSIONS)
    makers = st.one_of(
        st.builds(publish, TOPICS, st.binary(max_size=300), st.just(0), version=st.just(version)),
        st.builds(publish, TOPICS, st.binary(max_size=300), IDS, version=st.just(version)),
        st.builds(lambda i, t: subscribe(i, t, version=version), IDS, TEXTS),
        st.builds(lambda i, t: unsubscribe(i, t, version=version), IDS, TEXTS),
        st.just(b"\xc0\0"),
    )
    sent = draw(st.lists(makers, max_size=8))
    return connect(version=version) + b"".join(sent), len(sent) + 1


@given(conversations(), st.lists(st.integers(0, 5000), max_size=30))
def test_the_packets_are_the_same_however_the_bytes_are_cut(
    conversation: tuple[bytes, int], places: list[int]
) -> None:
    data, count = conversation
    whole = read(Parser(MOST), [data])
    assert len(whole) == count
    assert read(Parser(MOST), cut(data, places)) == whole
    assert read(Parser(MOST), [bytes((byte,)) for byte in data]) == whole


@given(TOPICS, st.binary(max_size=300), IDS, VERSIONS)
def test_a_message_arrives_as_it_was_sent(
    topic: str, payload: bytes, packet_id: int, version: int
) -> None:
    sent = publish(topic, payload, packet_id, version=version, dup=True)
    found = read(Parser(MOST), [connect(version=version), sent])[1]
    assert found == packets.Publish(topic, payload, 1, packet_id, True)


@given(VERSIONS, st.lists(st.binary(max_size=60), max_size=12))
def test_any_bytes_are_packets_or_one_clear_error(version: int, pieces: list[bytes]) -> None:
    for start in (b"", connect(version=version)):
        read_or_refuse([start, *pieces])


@given(VERSIONS, st.integers(0, 255), st.binary(max_size=80))
def test_any_body_in_a_whole_packet_is_one_or_one_clear_error(
    version: int, first: int, body: bytes
) -> None:
    for start, beginning in ((b"", b"\0\4MQTT" + bytes((version,))), (connect(), b"")):
        read_or_refuse([start, packet(first if start else 0x10, beginning + body)])


@given(conversations(), st.integers(0, 10_000), st.integers(0, 255))
def test_a_byte_that_is_changed_does_no_harm(
    conversation: tuple[bytes, int], place: int, value: int
) -> None:
    data = bytearray(conversation[0])
    data[place % len(data)] = value
    read_or_refuse([bytes(data)])


@given(st.integers(0, 268_435_455))
def test_numbers_come_back(value: int) -> None:
    written = wire.number(value)
    assert wire.Scan(written, 0, len(written)).number() == value


@given(TEXTS, st.integers(0, 65535), st.binary(max_size=50), st.integers(1, 2**32 - 1))
def test_properties_come_back(text: str, two: int, data: bytes, four: int) -> None:
    values = {
        Property.CONTENT_TYPE: text,
        Property.TOPIC_ALIAS: two,
        Property.CORRELATION_DATA: data,
        Property.MAXIMUM_PACKET: four,
        Property.SUBSCRIPTION_ID: four % 268_435_455 + 1,
        Property.MAXIMUM_QOS: 1,
    }
    written = wire.properties(dict(values))
    scan = wire.Scan(written, 0, len(written))
    assert scan.properties(frozenset(Property), "a packet") == values
    assert scan.left == 0


def test_user_properties_are_read_and_dropped() -> None:
    user = b"\x26\0\1k\0\1v"
    body = b"\0\1a" + wire.number(len(user) * 2) + user * 2 + b"x"
    found = read(Parser(MOST), [connect(), packet(0x30, body)])[1]
    assert found == packets.Publish("a", b"x", 0, 0, False)


def test_a_packet_that_is_too_large_is_refused_before_it_is_there() -> None:
    parser = Parser(MOST)
    with pytest.raises(ContractBroken) as caught:
        read(parser, [connect(), b"\x30\xff\xff\x03"])
    assert wire.reason_of(caught.value) is Reason.TOO_LARGE


def test_a_large_packet_in_single_bytes_takes_linear_time() -> None:
    parser = Parser(400_000)
    sent = connect() + publish("t", b"x" * 300_000)
    began = time.process_time()
    assert len(read(parser, [bytes((byte,)) for byte in sent])) == 2
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("given_bytes", "expected"),
    [
        (answers.connack(4, Reason.NOT_AUTHORIZED), b"\x20\2\0\5"),
        (answers.connack(4, Reason.UNAVAILABLE), b"\x20\2\0\3"),
        (answers.connack(4, Reason.CLIENT_ID), b"\x20\2\0\2"),
        (
            answers.connack(5, Reason.SUCCESS, {Property.MAXIMUM_QOS: 1}, present=True),
            b"\x20\5\1\0\2\x24\1",
        ),
        (answers.puback(4, 258, Reason.TOPIC), b"\x40\2\1\2"),
        (answers.puback(5, 258, Reason.TOPIC), b"\x40\3\1\2\x90"),
        (answers.suback(4, 1, [1, 0x97]), b"\x90\4\0\1\1\x80"),
        (answers.suback(5, 1, [1, 0x97]), b"\x90\5\0\1\0\1\x97"),
        (answers.unsuback(4, 1, [0]), b"\xb0\2\0\1"),
        (answers.unsuback(5, 1, [0]), b"\xb0\4\0\1\0\0"),
        (answers.disconnect(Reason.BUSY), b"\xe0\2\x89\0"),
        (answers.publish(4, "a", b"x"), b"\x30\4\0\1ax"),
        (answers.publish(5, "a", b"x"), b"\x30\5\0\1a\0x"),
    ],
)
def test_what_a_server_sends(given_bytes: bytes, expected: bytes) -> None:
    assert given_bytes == expected
