"""thingsboard-gateway as it is against `hub serve`, with its connectors `mqtt` and `rest`."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.real_clients.environment import client_environment, client_variables
from tests.real_clients.served import ServedHub, free_port, served_hub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

PINS = ("thingsboard-gateway==3.8.5", "aiohttp==3.13.2")
BEGAN = int(time.time() * 1000) - 60_000
START = "from thingsboard_gateway.tb_gateway import main; main()"
TOPIC = f"hub-test-{secrets.token_hex(4)}"


class Gateway:
    """The gateway's process in a folder of its own; `log` is what it said."""

    def __init__(self, python: Path, folder: Path, hub_port: int, token: str, broker: str) -> None:
        self.rest_port = free_port()
        self._folder = folder
        (folder / "logs").mkdir(parents=True)
        config = folder / "config"
        config.mkdir()
        (config / "connected_devices.json").write_text("{}")
        [package] = python.parent.parent.glob("lib/python*/site-packages/thingsboard_gateway")
        shutil.copy(package / "config" / "logs.json", config / "logs.json")
        for name, content in settings(hub_port, token, broker, self.rest_port).items():
            (config / name).write_text(json.dumps(content))
        self._said = (folder / "said.txt").open("w")
        self.process = subprocess.Popen(
            [str(python), "-c", START],
            cwd=folder,
            env=client_variables() | {"TB_GW_CONFIG_DIR": f"{config}/"},
            stdout=self._said,
            stderr=subprocess.STDOUT,
        )

    @property
    def log(self) -> str:
        return (self._folder / "said.txt").read_text()[-6000:]

    def post(self, body: dict[str, Any]) -> None:
        """What a machine would POST to the gateway's connector `rest`."""
        address = f"http://127.0.0.1:{self.rest_port}/readings"
        data = json.dumps(body).encode()
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"})

        def is_taken() -> bool:
            with (
                suppress(urllib.error.URLError),
                urllib.request.urlopen(request, timeout=10) as got,  # noqa: S310
            ):
                return bool(got.status == 200)
            time.sleep(0.5)
            return False

        until = time.monotonic() + 30
        while not is_taken():
            assert time.monotonic() < until, f"the connector `rest` does not answer:\n{self.log}"

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self._said.close()


def settings(hub_port: int, token: str, broker: str, rest_port: int) -> dict[str, Any]:
    device = {
        "deviceNameExpressionSource": "message",
        "deviceNameExpression": "${name}",
        "deviceProfileExpressionSource": "constant",
        "deviceProfileExpression": "pump",
    }
    converter = {
        "type": "json",
        "deviceInfo": device,
        "sendDataOnlyOnChange": False,
        "timeout": 60000,
        "attributes": [{"type": "string", "key": "model", "value": "${model}"}],
        "timeseries": [{"type": "double", "key": "temperature", "value": "${temp}"}],
    }
    posted = {**device, "deviceNameExpressionSource": "request"}
    url = urlsplit(broker)
    return {
        "tb_gateway.json": {
            "thingsboard": {
                "host": "127.0.0.1",
                "port": hub_port,
                "remoteShell": False,
                "remoteConfiguration": False,
                "statistics": {"enable": False},
                "minPackSendDelayMS": 50,
                "minPackSizeToSend": 500,
                "checkConnectorsConfigurationInSeconds": 60,
                "security": {"type": "accessToken", "accessToken": token},
                "qos": 1,
            },
            "storage": {
                "type": "memory",
                "read_records_count": 100,
                "max_records_count": 100_000,
            },
            "grpc": {"enabled": False},
            "connectors": [
                {"type": "mqtt", "name": "source", "configuration": "mqtt.json"},
                {"type": "rest", "name": "posts", "configuration": "rest.json"},
            ],
        },
        "mqtt.json": {
            "broker": {
                "host": url.hostname,
                "port": url.port or 1883,
                "clientId": f"{TOPIC}-gateway",
                "version": 5,
                "maxMessageNumberPerWorker": 10,
                "maxNumberOfWorkers": 10,
                "security": {"type": "anonymous"},
            },
            "mapping": [
                {"topicFilter": f"{TOPIC}/data", "subscriptionQos": 1, "converter": converter}
            ],
        },
        "rest.json": {
            "server": {"host": "127.0.0.1", "port": str(rest_port), "SSL": False},
            "mapping": [
                {
                    "endpoint": "/readings",
                    "HTTPMethods": ["POST"],
                    "response": {"responseExpected": False, "timeout": 60},
                    "security": {"type": "anonymous"},
                    "converter": {**converter, "deviceInfo": posted},
                }
            ],
            "requestsMapping": {
                "attributeRequests": [],
                "attributeUpdates": [],
                "serverSideRpc": [],
            },
        },
    }


@pytest.fixture(scope="module")
def python() -> Path:
    return client_environment("thingsboard-gateway", *PINS, sources=True)


@pytest.fixture
def machine(mqtt_url: str) -> Iterator[paho.Client]:
    """Publishes to the broker that the gateway reads from."""
    url = urlsplit(mqtt_url)
    client = paho.Client(CallbackAPIVersion.VERSION2, f"{TOPIC}-machine")
    client.connect(url.hostname or "127.0.0.1", url.port or 1883)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[ServedHub]:
    with served_hub(tmp_path / "hub") as served:
        yield served


@pytest.fixture
def gateway(hub: ServedHub, python: Path, tmp_path: Path, mqtt_url: str) -> Iterator[Gateway]:
    token = hub.add("gateway-1", "--gateway")
    one = Gateway(python, tmp_path / "gateway", hub.mqtt_port, token, mqtt_url)
    yield one
    one.close()


def test_what_the_gateway_sends_is_there_once_though_the_hub_was_killed(
    hub: ServedHub, gateway: Gateway, machine: paho.Client
) -> None:
    wait_for_first(hub, gateway, machine)
    before = {20.5 + number: BEGAN + number * 100 for number in range(20)}
    publish(machine, before)
    gateway.post({"name": "oven-2", "model": "O1", "temp": 180.25, "ts": BEGAN + 7})
    assert hub.settled("press-1", "temperature", 20) == points(before)
    assert hub.settled("oven-2", "temperature", 1) == [(BEGAN + 7, 180.25)]

    # Killed while it takes data, and away while more is taken by both connectors.
    during = {500.0 + number: BEGAN + 5_000 + number * 10 for number in range(300)}
    publish(machine, during, pause=0.005, halfway=hub.kill)
    for number in range(5):
        body = {"name": "oven-2", "model": "O1", "temp": 200.5 + number, "ts": BEGAN + 100 + number}
        gateway.post(body)
    hub.start()
    expected = points(before | during)
    try:
        found = hub.settled("press-1", "temperature", len(expected), 90)
    except AssertionError:
        pytest.fail(f"{len(hub.points('press-1', 'temperature'))} came\n{gateway.log}")
    assert found == expected
    ovens = [(BEGAN + 7, 180.25), *((BEGAN + 100 + n, 200.5 + n) for n in range(5))]
    assert hub.settled("oven-2", "temperature", 6, 60) == ovens
    press = hub.get("devices/press-1")
    assert (press["gateway"], press["class"], press["restated"]) == ("gateway-1", "pump", 0)
    assert press["client_attributes"]["model"] == "P9"
    assert hub.get("telemetry/quarantine")["items"] == []


def publish(
    machine: paho.Client,
    values: dict[float, int],
    pause: float = 0.0,
    halfway: Callable[[], None] = lambda: None,
) -> None:
    for number, (value, ts) in enumerate(values.items()):
        if number == len(values) // 2:
            halfway()
        body = {"name": "press-1", "model": "P9", "temp": value, "ts": ts}
        machine.publish(f"{TOPIC}/data", json.dumps(body), qos=1).wait_for_publish(5)
        time.sleep(pause)


def points(values: dict[float, int]) -> list[tuple[int, float | str]]:
    return [(ts, value) for value, ts in sorted(values.items(), key=lambda one: one[1])]


def wait_for_first(hub: ServedHub, gateway: Gateway, machine: paho.Client) -> None:
    """The gateway needs some seconds until all of it runs."""

    def arrives() -> bool:
        assert gateway.process.poll() is None, gateway.log
        machine.publish(f"{TOPIC}/data", json.dumps({"name": "first", "temp": 1.5}), qos=1)
        time.sleep(0.5)
        return bool(hub.points("first", "temperature"))

    hub.wait(arrives, lambda: f"no data came from the gateway:\n{gateway.log}", 90)
