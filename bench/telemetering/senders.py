"""The senders of `bench telemetry`, in a process of their own.

Reads one line of JSON from stdin for each measurement, makes the messages, says `ready`, waits for
a line, sends over kept connections and answers with one line.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from bench.hooks_load import Load, Sender, Work
from bench.telemetering.bodies import device, json_bodies, line_bodies, mqtt_payloads

_HEADS = {
    "json": "POST /api/v1/{token}/telemetry HTTP/1.1\r\nhost: hub\r\n"
    "content-type: application/json\r\n",
    "lines": "POST /api/v2/write?precision=ns HTTP/1.1\r\nhost: hub\r\n"
    "authorization: Token {token}\r\ncontent-encoding: gzip\r\n",
}
_BODIES = {"json": json_bodies, "lines": line_bodies}


class Prepared(Work):
    """Requests that were made before; what runs out ends the measurement."""

    def __init__(self, asked: dict[str, Any], requests: list[bytes]) -> None:
        super().__init__(asked["url"], asked["connections"], asked["seconds"])
        self._requests = requests

    def next_request(self) -> bytes | None:
        if time.perf_counter() >= self._until or self.load.sent >= len(self._requests):
            return None
        self.load.sent += 1
        return self._requests[self.load.sent - 1]


def http_requests(asked: dict[str, Any]) -> list[bytes]:
    """Whole requests, ready to be written."""
    made = _BODIES[asked["kind"]](asked["readings"], asked["machines"], asked["run"])
    found = []
    for token, body in itertools.islice(made, asked["messages"]):
        head = _HEADS[asked["kind"]].format(token=token)
        found.append(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return found


async def send_http(asked: dict[str, Any], requests: list[bytes]) -> Load:
    work = Prepared(asked, requests)
    loop = asyncio.get_running_loop()
    parts = urlsplit(asked["url"])
    for _ in range(asked["connections"]):
        await loop.create_connection(lambda: Sender(work), parts.hostname, parts.port)
    await asyncio.wait_for(work.done, asked["seconds"] + 60)
    return work.close()


# --- MQTT -------------------------------------------------------------------------------------


class Publisher(asyncio.Protocol):
    """One device over MQTT 3.1.1: publishes with QoS 1, at most `window` without PUBACK."""

    def __init__(self, work: MqttWork, number: int, payloads: Iterator[bytes]) -> None:
        self._work = work
        self._token = device(number).encode()
        self._payloads = payloads
        self._began: dict[int, float] = {}
        self._next_id = 0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (narrows the type)
        self._transport = transport
        client = b"bench-" + self._token
        body = b"\x00\x04MQTT\x04\x82\x00\x3c" + _text(client) + _text(self._token)
        transport.write(b"\x10" + _length(len(body)) + body)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 4:  # CONNACK and PUBACK of 3.1.1 have four bytes
            packet, self._buffer = self._buffer[:4], self._buffer[4:]
            if packet[0] == 0x20 and packet[3] == 0:
                self._work.ready()
            elif packet[0] == 0x40:
                began = self._began.pop(int.from_bytes(packet[2:4], "big"))
                self._work.answered(200, began)
            else:
                self._transport.abort()
                return
        self.publish()

    def publish(self) -> None:
        """Fill the window."""
        packets = []
        while self._work.is_open and len(self._began) < self._work.window:
            payload = next(self._payloads, None)
            if payload is None:
                break
            self._next_id = self._next_id % 65535 + 1
            self._began[self._next_id] = time.perf_counter()
            self._work.load.sent += 1
            body = _text(b"v1/devices/me/telemetry") + self._next_id.to_bytes(2, "big") + payload
            packets.append(b"\x32" + _length(len(body)) + body)
        if packets:
            self._transport.write(b"".join(packets))
        elif not self._began and not self._work.is_waiting:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._work.lost()


class MqttWork(Work):
    """What all publishers share; the clock starts when all are connected."""

    def __init__(self, asked: dict[str, Any]) -> None:
        super().__init__("mqtt://hub", asked["connections"], asked["seconds"])
        self.window: int = asked["window"]
        self._missing: int = asked["connections"]
        self.go = asyncio.get_running_loop().create_future()

    @property
    def is_waiting(self) -> bool:
        """Whether connections are still being made."""
        return not self.go.done()

    @property
    def is_open(self) -> bool:
        return self.go.done() and time.perf_counter() < self._until

    def ready(self) -> None:
        self._missing -= 1
        if not self._missing:
            self.go.set_result(None)


def mqtt_pools(asked: dict[str, Any]) -> list[list[bytes]]:
    """Payloads for each connection."""
    each = asked["messages"] // asked["connections"]
    return [
        list(itertools.islice(mqtt_payloads(asked["readings"], number, asked["run"]), each))
        for number in range(asked["connections"])
    ]


async def send_mqtt(asked: dict[str, Any], pools: list[list[bytes]]) -> Load:
    loop = asyncio.get_running_loop()
    work = MqttWork(asked)
    parts = urlsplit(asked["url"])
    publishers = []
    for number, pool in enumerate(pools):

        def one(number: int = number, pool: list[bytes] = pool) -> Publisher:
            return Publisher(work, number, iter(pool))

        _, made = await loop.create_connection(one, parts.hostname, parts.port)
        publishers.append(made)
    await asyncio.wait_for(work.go, 30)
    for one_publisher in publishers:
        one_publisher.publish()
    await asyncio.wait_for(work.done, asked["seconds"] + 60)
    return work.close()


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _length(number: int) -> bytes:
    found = bytearray()
    while True:
        number, low = divmod(number, 128)
        found.append(low | (0x80 if number else 0))
        if not number:
            return bytes(found)


# --- steady -----------------------------------------------------------------------------------


async def send_steadily(asked: dict[str, Any]) -> Load:
    """`rate` messages per second in all, made as they go; each connection has a run of its own."""
    work = Work(asked["url"], asked["connections"], asked["seconds"])
    pause = asked["connections"] / asked["rate"]

    async def one(number: int) -> None:
        made = json_bodies(asked["readings"], asked["machines"], asked["run"] + number)
        parts = urlsplit(asked["url"])
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        due, until = time.perf_counter(), time.perf_counter() + asked["seconds"]
        for token, body in made:
            due += pause
            if due > until:
                break
            await asyncio.sleep(due - time.perf_counter())
            began = time.perf_counter()
            head = _HEADS["json"].format(token=token) + f"content-length: {len(body)}\r\n\r\n"
            work.load.sent += 1
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(_CONTENT_LENGTH.search(answer.lower() + b"\n")[1]))  # type: ignore[index]
            work.answered(int(answer[9:12]), began)
        writer.close()

    await asyncio.gather(*(one(number) for number in range(asked["connections"])))
    return work.close()


_CONTENT_LENGTH = re.compile(rb"content-length:\s*(\d+)")


# --- the process ------------------------------------------------------------------------------


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        _say(json.dumps(asdict(_measured(asked))))


def _measured(asked: dict[str, Any]) -> Load:
    if asked["kind"] == "steady":
        return asyncio.run(send_steadily(asked))
    is_mqtt = asked["kind"] == "mqtt"
    made: Any = mqtt_pools(asked) if is_mqtt else http_requests(asked)
    _say("ready")
    sys.stdin.readline()
    return asyncio.run(send_mqtt(asked, made) if is_mqtt else send_http(asked, made))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
