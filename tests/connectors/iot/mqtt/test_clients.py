"""Clients that others wrote: paho, and Mosquitto's tools where they are installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.connectors.iot.mqtt.desk import Desk, eventually


class Paho:
    """A connected client with what it received."""

    def __init__(self, desk: Desk, protocol: int, user: str) -> None:
        if desk.listener is None:
            desk.start()
        assert desk.listener is not None
        self.answered: dict[str, Any] = {}
        self.refused: list[int] = []
        self.connected = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, "paho", protocol=protocol)
        self.client.username_pw_set(user)
        self.client.on_connect = lambda *_: self.connected.set()
        self.client.on_message = lambda _, __, m: self.answered.update({m.topic: m.payload})
        self.client.on_publish = lambda *given: self.refused.append(given[3].value)
        self.client.connect("127.0.0.1", desk.listener.ports["port"])
        self.client.loop_start()
        assert self.connected.wait(5)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture(params=[paho.MQTTv311, paho.MQTTv5])
def gateway(desk: Desk, request: pytest.FixtureRequest) -> Iterator[Paho]:
    one = Paho(desk, request.param, "G1")
    yield one
    one.close()


def test_paho_sends_a_thousand_messages_and_each_is_acknowledged(desk: Desk, gateway: Paho) -> None:
    body = json.dumps({"A": [{"ts": 1, "values": {"a": 1}}]})
    sent = [gateway.client.publish("v1/gateway/telemetry", body, qos=1) for _ in range(1000)]
    for one in sent:
        one.wait_for_publish(10)
    assert len(desk.kept()) == 1000


def test_paho_gets_its_questions_answered(desk: Desk, gateway: Paho) -> None:
    gateway.client.subscribe([("v1/devices/me/rpc/response/+", 1), ("v1/gateway/#", 1)])
    gateway.client.publish("v1/devices/me/rpc/request/1", b'{"method":"getSessionLimits"}', qos=1)
    eventually(lambda: "v1/devices/me/rpc/response/1" in gateway.answered)
    limits = json.loads(gateway.answered["v1/devices/me/rpc/response/1"])
    assert limits["maxInflightMessages"] == 100


def test_paho_hears_what_was_wrong_with_a_message(desk: Desk, gateway: Paho) -> None:
    gateway.client.publish("v1/gateway/telemetry", b"{", qos=1).wait_for_publish(5)
    eventually(lambda: gateway.refused)
    v5 = gateway.client.protocol == paho.MQTTv5
    assert gateway.refused == [0x99 if v5 else 0]


def tool(desk: Desk, name: str, *arguments: str) -> subprocess.Popen[str]:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    if desk.listener is None:
        desk.start()
    assert desk.listener is not None
    where = ["-h", "127.0.0.1", "-p", str(desk.listener.ports["port"]), "-u", "T1"]
    command = [name, *where, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("version", ["311", "5"])
def test_mosquitto_pub_publishes(desk: Desk, version: str) -> None:
    sent = ["-t", "v1/devices/me/telemetry", "-m", '{"a":1}', "-q", "1", "--repeat", "3"]
    process = tool(desk, "mosquitto_pub", "-V", version, *sent)
    assert process.communicate(timeout=10)[0] == ""
    assert process.returncode == 0
    assert len(desk.kept(3)) == 3


@pytest.mark.parametrize("version", ["311", "5"])
def test_mosquitto_pub_is_told_that_its_token_is_wrong(desk: Desk, version: str) -> None:
    del desk.port.tokens["T1"]
    process = tool(desk, "mosquitto_pub", "-V", version, "-t", "v2/t", "-m", "{}", "-q", "1")
    assert "not authori" in process.communicate(timeout=10)[0].lower()
    assert process.returncode != 0


def test_mosquitto_sub_hears_changes_of_shared_attributes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.iot.mqtt.shared.ROUND_SECONDS", 0.05)
    process = tool(desk, "mosquitto_sub", "-t", "v1/devices/me/attributes", "-C", "1", "-W", "10")
    assert desk.listener is not None
    listener = desk.listener
    eventually(lambda: listener.status()["connections"] == 1)
    time.sleep(0.4)  # so that what there is has been looked at
    desk.port.shared["pump-1"] = {"limit": 7}
    assert process.communicate(timeout=15)[0].strip() == '{"limit":7}'
