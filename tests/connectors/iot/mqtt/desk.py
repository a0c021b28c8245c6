"""A listener on a loop of its own, over a port that keeps messages in memory."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from connectors.iot.decoders import DECODERS
from connectors.iot.mqtt.house import Options
from connectors.iot.mqtt.listener import MqttListener
from hub.sdk.telemetry import Message, Sender
from hub.sdk.testing.telemetry import MemoryPort
from tests.connectors.iot.mqtt.client import Client


class Desk:
    """The listener under test, as the test's own thread sees it."""

    def __init__(self) -> None:
        self.port = MemoryPort()
        self.port.tokens["T1"] = Sender("iot", "pump-1")
        self.port.tokens["T2"] = Sender("iot", "pump-2")
        self.port.tokens["G1"] = Sender("iot", "gateway-1", gateway=True)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.listener: MqttListener | None = None
        self._clients: list[Client] = []

    def start(self, **options: Any) -> None:
        self.listener = MqttListener(self.port, Options(**{"port": 0} | options), DECODERS)
        self.run(self.listener.start())

    def client(self, *, version: int = 5, name: str = "port", tls: Any = None) -> Client:
        if self.listener is None:
            self.start()
        assert self.listener is not None
        self._clients.append(Client(self.listener.ports[name], version=version, tls=tls))
        return self._clients[-1]

    def gate(self) -> Callable[[], None]:
        """Let commits wait until the returned function is called."""
        gate = self.port.gate = asyncio.Event()
        return lambda: self.do(gate.set)

    def do(self, work: Callable[[], object]) -> None:
        """Call on the listener's loop."""

        async def call() -> None:
            work()

        self.run(call())

    def run(self, work: Awaitable[Any]) -> Any:
        async def call() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(10)

    def kept(self, count: int | None = None) -> list[Message]:
        """What was kept but for the news of connections; waits for `count` of them."""
        found: list[Message] = []

        def look() -> bool:
            found[:] = [one for one in list(self.port.kept) if one.format != "iot.connection"]
            return count is None or len(found) >= count

        eventually(look)
        return found

    def presence(self) -> list[tuple[str, bytes]]:
        found = [one for one in list(self.port.kept) if one.format == "iot.connection"]
        return [(one.sender.device, one.body) for one in found]

    def close(self) -> None:
        for client in self._clients:
            client.socket.close()
        if self.port.gate is not None:
            self.do(self.port.gate.set)
        if self.listener is not None:
            self.run(self.listener.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


def eventually(true: Callable[[], object], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.005)
