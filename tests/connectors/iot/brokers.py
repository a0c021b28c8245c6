"""Brokers and senders for the tests of the broker client."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from connectors.iot.broker.listener import make_listeners
from hub.sdk.telemetry import Listener
from hub.sdk.telemetry_source import TelemetrySource
from hub.sdk.testing.telemetry import MemoryPort

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def unique(word: str = "hub") -> str:
    return f"{word}{secrets.token_hex(4)}"


def source(broker: dict[str, Any], **more: Any) -> TelemetrySource:
    return TelemetrySource.model_validate(
        {"source": "plant", "broker": {"connection": "site", **broker}, **more}
    )


@asynccontextmanager
async def hub(
    port: MemoryPort, url: str | dict[str, Any], folder: Path, *, patience: float = 10
) -> AsyncIterator[list[Listener]]:
    """The listeners of the port's sources, connected."""
    config = {"url": url} if isinstance(url, str) else url
    found = make_listeners(
        port, {"sources": port.sources, "connections": {"site": config}, "folder": folder}
    )
    try:
        for one in found:
            await one.start()
        await until(lambda: all(connected(one) for one in found), patience)
        yield found
    finally:
        for one in found:
            await one.stop()


def connected(listener: Listener) -> bool:
    return all(one["connected"] for one in listener.status().get("sessions", []))


async def until(what: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            pytest.fail("it did not happen in time")
        await asyncio.sleep(0.02)


async def send(url: str, messages: Sequence[tuple[str, bytes]], qos: int = 1, **more: Any) -> None:
    """Publish, and wait until the broker has it all."""
    await asyncio.to_thread(_send, url, messages, qos, **more)


def _send(url: str, messages: Sequence[tuple[str, bytes]], qos: int, **more: Any) -> None:
    with sender(url) as client:
        sent = [client.publish(topic, body, qos=qos, **more) for topic, body in messages]
        for one in sent:
            one.wait_for_publish(10)


@contextmanager
def sender(url: str, **more: Any) -> Iterator[paho.Client]:
    host, _, port = url.rpartition("//")[2].rpartition(":")
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, **more)
    client.max_queued_messages_set(0)
    client.connect(host, int(port))
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


class Mosquitto:
    """A broker of the test's own, that can be stopped and started again."""

    def __init__(self, folder: Path, *lines: str) -> None:
        if MOSQUITTO is None:
            pytest.skip("no mosquitto on this machine")
        folder.mkdir(exist_ok=True)
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._config = folder / "mosquitto.conf"
        text = [f"listener {self.port} 127.0.0.1", *(lines or ["allow_anonymous true"])]
        text += ["persistence true", f"persistence_location {folder}/", "log_dest none"]
        if os.geteuid() == 0:
            text.append("user root")
        self._config.write_text("\n".join(text) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        pytest.fail("mosquitto did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@contextmanager
def mosquitto(folder: Path, *lines: str) -> Iterator[Mosquitto]:
    broker = Mosquitto(folder, *lines)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class FakeBroker:
    """Says yes to everything, sends what it is told to, and remembers what it was sent."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.connects: list[bytes] = []
        self.subscribes: list[bytes] = []
        self.connections: list[asyncio.StreamWriter] = []
        self.refusal = 0
        self.silent = False
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self.connections:
            writer.close()
        await self._server.wait_closed()

    def publish(self, mid: int, topic: str, body: bytes) -> None:
        content = struct.pack("!H", len(topic)) + topic.encode() + struct.pack("!H", mid)
        content += b"\0" + body
        assert len(content) < 128
        self.connections[-1].write(bytes([0x32, len(content)]) + content)

    def raw(self, data: bytes) -> None:
        self.connections[-1].write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while True:
                await self._packet(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _packet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = (await reader.readexactly(1))[0] & 0xF0
        length = shift = 0
        while True:
            byte = (await reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        content = await reader.readexactly(length)
        if self.silent:
            return
        if kind == 0x10:
            self.connects.append(content)
            writer.write(bytes([0x20, 3, 0, self.refusal, 0]))
        elif kind == 0x80:
            self.subscribes.append(content)
            writer.write(bytes([0x90, 4]) + content[:2] + b"\0\1")
        elif kind == 0x40:
            self.acknowledged.append(int.from_bytes(content[:2], "big"))
        elif kind == 0xC0:
            writer.write(b"\xd0\0")
