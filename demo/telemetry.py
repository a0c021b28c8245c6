"""The telemetry act: a gateway pushes a day of readings while the hub is killed in the middle.

Half of the readings go over HTTP, half over MQTT; whatever was not thanked for is sent again. Then
each reading must be there once.
"""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
from rich.console import Console

from demo.world import ROOT
from hub.engine.deployment import create_deployment

READINGS, PUMPS, BATCH = 20_000, 10, 50
_EACH = READINGS // PUMPS
_DAY_MS = 86_400_000
_STEP_MS = _DAY_MS // _EACH
_GATEWAY, _METRIC = "gateway-1", "vibration"
_PATIENCE_SECONDS = 60.0
_BARS = "▁▂▃▄▅▆▇█"

Batch = list[tuple[str, int, float]]


class Plant:
    """A deployment with its hub as a process of its own, on ports that are free."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        create_deployment(folder)
        self.http, self.mqtt = _free_ports(2)
        settings = f'zone = "UTC"\n[mqtt]\nport = {self.mqtt}\n'
        (folder / "hub.toml").write_text(settings, encoding="utf-8")
        command = self._command("devices", "add", _GATEWAY, "--gateway", "--json")
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit("demo: the gateway could not be added, see above")
        self.token: str = json.loads(done.stdout)["token"]
        operator = (folder / ".hub" / "api.token").read_text(encoding="utf-8").strip()
        self.as_operator = {"Authorization": f"Bearer {operator}"}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """`hub serve` until the end of the block, or until somebody kills it."""
        with (self.folder / "serve.log").open("ab") as log:
            command = self._command("serve", "--port", str(self.http))
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def _command(self, *words: str) -> list[str]:
        options = ["--lang", "en", "--dir", str(self.folder)]
        return [sys.executable, "-m", "hub.cli", *options, *words]


class Gateway:
    """Sends everything until it is thanked for; `thanked` counts readings."""

    def __init__(self, plant: Plant, batches: Sequence[Batch]) -> None:
        self._plant = plant
        half = len(batches) // 2
        self._over_http, self._over_mqtt = batches[:half], batches[half:]
        self.thanked = {"HTTP": 0, "MQTT": 0}
        self.again = 0
        work = (self._push, self._publish)
        self._threads = [threading.Thread(target=one, daemon=True) for one in work]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def is_done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _push(self) -> None:
        headers = {"Authorization": f"Bearer {self._plant.token}"}
        with httpx.Client(headers=headers, timeout=10, trust_env=False) as client:
            for batch in self._over_http:
                rows = [
                    {"device": name, "ts": ts, "values": {_METRIC: value}}
                    for name, ts, value in batch
                ]
                while not self._is_thanked(client, rows):
                    self.again += 1
                    time.sleep(0.1)
                self.thanked["HTTP"] += len(batch)

    def _is_thanked(self, client: httpx.Client, rows: list[dict[str, Any]]) -> bool:
        try:
            return client.post(f"{self._plant.url}/telemetry/v1/readings", json=rows).is_success
        except httpx.TransportError:
            return False

    def _publish(self) -> None:
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, _GATEWAY, clean_session=False)
        client.username_pw_set(self._plant.token)
        client.max_inflight_messages_set(20)
        client.reconnect_delay_set(1, 1)
        taken = threading.Event()
        client.on_publish = lambda *_about: taken.set()
        client.connect_async("127.0.0.1", self._plant.mqtt)
        client.loop_start()
        for batch in self._over_mqtt:
            told: dict[str, list[dict[str, Any]]] = {}
            for name, ts, value in batch:
                told.setdefault(name, []).append({"ts": ts, "values": {_METRIC: value}})
            taken.clear()
            # The client keeps it, and sends it again after a reconnect, as gateways do.
            client.publish("v1/gateway/telemetry", json.dumps(told), qos=1)
            taken.wait()
            self.thanked["MQTT"] += len(batch)
        client.disconnect()
        client.loop_stop()


def play(place: Path, console: Console) -> tuple[dict[str, Any], list[str]]:
    """Tell the act; its result, and what went wrong."""
    console.rule("telemetry: a gateway pushes a day of readings")
    begin = (int(time.time()) // 86_400 - 1) * _DAY_MS
    plant = Plant(place)
    gateway = Gateway(plant, _batches(begin))
    console.print(f"HTTP {plant.url}   MQTT mqtt://127.0.0.1:{plant.mqtt}   {READINGS:,} readings")
    began = time.monotonic()
    with plant.serving() as process:
        gateway.start()
        _until(lambda: _is_midway(gateway.thanked), "nothing much was taken")
        process.kill()
        process.wait()
    told = " and ".join(f"{number:,} over {way}" for way, number in gateway.thanked.items())
    console.print(f"[red]kill -9[/] after {told}; starting again")
    with plant.serving():
        _until(lambda: gateway.is_done, "the rest was not taken")
        seconds = time.monotonic() - began
        _until(lambda: _counted(plant, begin) >= READINGS, "not all was projected", fatal=False)
        counted, added = _counted(plant, begin), _sum(plant, begin)
        hours = _asked(plant, begin, "1h", "mean,max", device="pump-01")[0]
    wrong = _judged(counted, added, begin)
    _chart(console, "pump-01", hours["mean"], max(hours["max"]))
    rows = f"{counted:,} readings of {PUMPS} pumps"
    if not wrong:
        console.print(f"[green]each is there once[/]: {rows}, {seconds:.0f} s with the restart")
    return {"readings": counted, "sent_again": gateway.again, "seconds": round(seconds, 1)}, wrong


def _is_midway(thanked: dict[str, int]) -> bool:
    # HTTP takes longer: each answer waits for the counts.
    return thanked["HTTP"] > 0 and thanked["MQTT"] >= READINGS // 8


def _judged(counted: int, added: float, begin: int) -> list[str]:
    wrong = [] if counted == READINGS else [f"telemetry: {counted:,} of {READINGS:,} are there"]
    expected = sum(value for batch in _batches(begin) for _name, _ts, value in batch)
    if not math.isclose(added, expected, rel_tol=1e-9):
        wrong.append(f"telemetry: the values add up to {added}, not to {expected}")
    return wrong


def _batches(begin: int) -> list[Batch]:
    """A day of each pump: slow waves, a warm noon, and a wear that differs from pump to pump."""
    rows = [
        (f"pump-{pump:02}", begin + number * _STEP_MS, _vibration(pump, number))
        for number in range(_EACH)
        for pump in range(1, PUMPS + 1)
    ]
    return [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]


def _vibration(pump: int, number: int) -> float:
    noon = math.exp(-(((number / _EACH - 0.55) * 6) ** 2))
    return round(1.5 + pump / 10 + 2 * noon + 0.3 * math.sin(number / 9 + pump), 3)


def _asked(plant: Plant, begin: int, every: str, agg: str, **more: str) -> list[dict[str, Any]]:
    names = {"device": more.get("device") or [f"pump-{one:02}" for one in range(1, PUMPS + 1)]}
    span = {"from": str(begin), "to": str(begin + _DAY_MS), "every": every, "agg": agg}
    wanted: Any = {**names, "metric": _METRIC, **span, "zone": "UTC"}
    answer = httpx.get(
        f"{plant.url}/v1/telemetry/series",
        params=wanted,
        headers=plant.as_operator,
        timeout=30,
        trust_env=False,
    )
    if answer.status_code == httpx.codes.NOT_FOUND:
        return []  # the first reading of a pump is still on its way
    found: list[dict[str, Any]] = answer.raise_for_status().json()["series"]
    return found


def _counted(plant: Plant, begin: int) -> int:
    return int(sum(sum(one["count"]) for one in _asked(plant, begin, "1d", "count")))


def _sum(plant: Plant, begin: int) -> float:
    return float(sum(sum(one["sum"]) for one in _asked(plant, begin, "1d", "sum")))


def _chart(console: Console, name: str, means: Sequence[float], most: float) -> None:
    low, high = min(means), max(means)
    bars = [_BARS[round((one - low) / ((high - low) or 1) * (len(_BARS) - 1))] for one in means]
    console.print(f"{name} {_METRIC}, hourly mean  0h {''.join(bars)} 24h")
    console.print(f"  lowest {low:.2f}, highest {high:.2f}, peak {most:.2f} mm/s")


def _until(fulfilled: Callable[[], bool], problem: str, *, fatal: bool = True) -> None:
    ends = time.monotonic() + _PATIENCE_SECONDS
    while not fulfilled():
        if time.monotonic() > ends:
            if fatal:
                raise SystemExit(f"demo: {problem} within {_PATIENCE_SECONDS:.0f} s")
            return
        time.sleep(0.05)


def _free_ports(number: int) -> list[int]:
    # All are held before the first is let go, so they differ.
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports
