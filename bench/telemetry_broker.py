"""Messages a second out of a broker, QoS 1, and metrics a second out of Sparkplug payloads.

Without `--url` a Mosquitto is started, where there is one. A broker of your own must not drop what
waits (Mosquitto: `max_queued_messages 0`; it keeps 1000 otherwise). Acknowledging at once keeps no
promise; it shows what waiting for the commit costs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from bench import machine
from connectors.iot.broker.listener import make_listeners
from connectors.iot.sparkplug.decode import decode_sparkplug
from connectors.iot.sparkplug.payload import new_payload, serialize
from hub.sdk.telemetry import Message, Receipt
from hub.sdk.telemetry_source import TelemetrySource
from hub.sdk.testing.telemetry import MemoryPort

ROOT = Path(__file__).parents[1]
MESSAGES = 8_000


class GroupPort(MemoryPort):
    """Commits what has come in every `pause` seconds; 0 is at once."""

    def __init__(self, source: TelemetrySource, pause: float) -> None:
        super().__init__([source])
        self.number = 0
        self._pause = pause
        self._open: list[asyncio.Future[Receipt]] = []

    def keep(self, message: Message) -> Awaitable[Receipt]:
        self.number += 1
        done: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        if self._pause == 0:
            done.set_result(Receipt(self.number, False))
            return done
        if not self._open:
            asyncio.get_running_loop().call_later(self._pause, self._commit)
        self._open.append(done)
        return done

    def _commit(self) -> None:
        waiting, self._open = self._open, []
        for one in waiting:
            one.set_result(Receipt(0, False))


@contextlib.contextmanager
def mosquitto() -> Iterator[str | None]:
    """The URL of a broker of our own; None where Mosquitto is not installed."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if found is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        settings = Path(folder) / "mosquitto.conf"
        settings.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\n"
            "max_queued_messages 0\nmax_inflight_messages 0\n",
            encoding="utf-8",
        )
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([found, "-c", str(settings)], **quiet)  # type: ignore[call-overload]  # both are files
        try:
            yield f"mqtt://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def fill(url: str, word: str, messages: int) -> None:
    """Publish everything, in a process of its own."""
    host, _, number = url.rpartition("//")[2].rpartition(":")
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(1000)
    client.connect(host, int(number))
    client.loop_start()
    sent = [client.publish(f"{word}/pump/t", b'{"t":21.5}', qos=1) for _ in range(messages)]
    for one in sent:
        one.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


async def intake(url: str, pause: float, messages: int) -> float:
    """Messages a second, while they are being published."""
    word = f"bench{secrets.token_hex(4)}"
    mapping = {"device": "{device}", "metrics": {"t": "t"}}
    broker = {
        "connection": "site",
        "client_id": word,
        "topics": [{"filter": word + "/{device}/t", "mapping": mapping}],
    }
    source = TelemetrySource.model_validate({"source": "plant", "broker": broker})
    port = GroupPort(source, pause)
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "sources": {"plant": source},
            "connections": {"site": {"url": url}},
            "folder": Path(folder),
        }
        (listener,) = make_listeners(port, settings)
        await listener.start()
        while not listener.status()["sessions"][0]["connected"]:
            await asyncio.sleep(0.01)
        code = f"from bench.telemetry_broker import fill; fill({url!r}, {word!r}, {messages})"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT)
        began = time.perf_counter()
        while port.number == 0 and process.returncode is None:
            await asyncio.sleep(0.001)
            began = time.perf_counter()
        while port.number < messages and time.perf_counter() - began < 20:
            await asyncio.sleep(0.005)
        took = time.perf_counter() - began
        await process.wait()
        await listener.stop()
    return port.number / took


def metrics_a_second() -> float:
    """Of payloads of 100 metrics, decoded."""
    payload = new_payload()
    payload.timestamp, payload.seq = 1_700_000_000_000, 1
    for number in range(100):
        metric = payload.metrics.add()
        metric.name, metric.datatype = b"axis/%d" % number, 10
        metric.timestamp, metric.double_value = 1_700_000_000_000, 1.5
    body, details = serialize(payload), {"group": "g", "edge": "e", "type": "NDATA"}
    began = time.perf_counter()
    for _ in range(2000):
        decode_sparkplug(body, details, 0)
    return 200_000 / (time.perf_counter() - began)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench telemetry_broker", description=__doc__)
    parser.add_argument("--url", help="a broker that runs, mqtt://host:port")
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(argv)
    before = machine.facts()
    result: dict[str, Any] = {"messages": options.messages}
    started = contextlib.nullcontext(options.url) if options.url else mosquitto()
    with started as url:
        for name, pause in {"at_once": 0.0, "after_5_ms": 0.005}.items():
            rates = [asyncio.run(intake(url, pause, options.messages)) for _ in range(2) if url]
            result[f"{name}_per_second"] = round(max(rates)) if rates else None
    result["sparkplug_metrics_per_second"] = round(metrics_a_second())
    full = options.messages >= MESSAGES and result["at_once_per_second"] is not None
    path = machine.save("telemetry_broker" if full else "telemetry_broker.local", result, before)
    if options.json:
        print(json.dumps({"machine": before, **result}))
    else:
        for name, number in result.items():
            print(f"{name:30} {'no Mosquitto here' if number is None else f'{number:,}'}")
        print(f"saved {path.name}")
    return 0
