"""MQTT clients as they are against `hub serve`: tb-mqtt-client, paho, Mosquitto's tools."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.real_clients.environment import client_environment, run_client
from tests.real_clients.served import ServedHub, now_ms, served_hub
from tests.real_clients.test_thingsboard_gateway import PINS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

SDK = r"""
import sys, time
from tb_gateway_mqtt import TBGatewayMqttClient
from tb_device_mqtt import TBDeviceMqttClient
port, gateway, token, now = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])

def connected(client):
    client.connect()
    for _ in range(200):
        if client.is_connected():
            return client
        time.sleep(0.05)
    raise SystemExit("not connected")

def answered(ask, expected):
    # what was sent a moment ago is known in a moment
    answers = []
    for _ in range(100):
        ask(lambda *given: answers.append(str(given)))
        time.sleep(0.2)
        if answers and all(one in answers[-1] for one in expected):
            return
    raise SystemExit(f"{expected} were never answered: {answers[-3:]}")

client = connected(TBGatewayMqttClient("127.0.0.1", port, gateway))
assert client.gw_connect_device("A", "pump").get() == 0
for number in range(50):
    entry = {"ts": now + number, "values": {"t": number / 2, "mode": f"m{number}"}}
    assert client.gw_send_telemetry("A", [entry]).get() == 0
assert client.gw_send_attributes("A", {"sn": "X1"}).get() == 0
answered(lambda hear: client.gw_request_client_attributes("A", ["sn"], hear), ["X1"])
assert client.gw_disconnect_device("A").get() == 0
client.disconnect()

device = connected(TBDeviceMqttClient("127.0.0.1", port, token))
assert device.send_telemetry({"ts": now, "values": {"rpm": 900}}).get() == 0
assert device.send_attributes({"fw": "1.2"}).get() == 0
expected = ["'client': {'fw': '1.2'}", "'shared': {'limit': '5'}"]
answered(lambda hear: device.request_attributes(["fw"], ["limit"], callback=hear), expected)
limits = lambda hear: device.send_rpc_call("getSessionLimits", {"timeout": 5000}, hear)
answered(limits, ["maxInflightMessages"])
device.disconnect()
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedHub]:
    with served_hub(tmp_path_factory.mktemp("served") / "hub") as served:
        yield served


def test_the_client_library_of_thingsboard(hub: ServedHub) -> None:
    python = client_environment("thingsboard-gateway", *PINS, sources=True)
    gateway, token, now = hub.add("plant", "--gateway"), hub.add("pump-1"), now_ms() - 1000
    hub.run("devices", "set", "pump-1", "--attribute", "limit=5")
    run_client(python, SDK, str(hub.mqtt_port), gateway, token, str(now), seconds=90)
    assert hub.settled("A", "t", 50) == [(now + n, n / 2) for n in range(50)]
    assert hub.texts("A", "mode") == [(now + n, f"m{n}") for n in range(50)]
    assert hub.settled("pump-1", "rpm", 1) == [(now, 900.0)]
    found = hub.get("devices/A")
    assert (found["gateway"], found["class"], found["online"]) == ("plant", "pump", "offline")
    assert found["client_attributes"] == {"sn": "X1"}
    assert hub.get("devices/pump-1")["client_attributes"] == {"fw": "1.2"}


@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5])
def test_what_paho_publishes_is_there(hub: ServedHub, protocol: paho.MQTTProtocolVersion) -> None:
    device, now = f"paho-{int(protocol)}", now_ms() - 10_000
    client = paho.Client(CallbackAPIVersion.VERSION2, device, protocol=protocol)
    client.username_pw_set(hub.add(device))
    client.connect("127.0.0.1", hub.mqtt_port)
    client.loop_start()
    bodies = [json.dumps({"ts": now + n, "values": {"a": n / 8}}) for n in range(1000)]
    sent = [client.publish("v1/devices/me/telemetry", body, qos=1) for body in bodies]
    for one in sent:
        one.wait_for_publish(20)
    client.disconnect()
    client.loop_stop()
    assert hub.settled(device, "a", 1000) == [(now + n, n / 8) for n in range(1000)]


@pytest.mark.parametrize("version", ["311", "5"])
def test_what_mosquitto_pub_publishes_is_there(hub: ServedHub, version: str) -> None:
    tool = shutil.which("mosquitto_pub")
    if tool is None:
        pytest.skip("mosquitto_pub is not installed")
    device, now = f"mosquitto-{version}", now_ms() - 10_000
    token = hub.add(device)
    where = ["-h", "127.0.0.1", "-p", str(hub.mqtt_port), "-u", token, "-V", version]
    lines = "".join(json.dumps({"ts": now + n, "values": {"a": n}}) + "\n" for n in range(20))
    done = subprocess.run(
        [tool, *where, "-t", "v1/devices/me/telemetry", "-q", "1", "-l"],
        input=lines,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert hub.settled(device, "a", 20) == [(now + n, float(n)) for n in range(20)]


def test_nothing_that_was_shown_as_a_secret_stands_in_the_log(hub: ServedHub) -> None:
    token = hub.add("quiet")
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(hub.mqtt_port), "-t", "x", "-m", "{}"]
    if shutil.which(command[0]) is None:
        pytest.skip("mosquitto_pub is not installed")
    for user in (token, "wrong-token-4711"):
        subprocess.run([*command, "-u", user], capture_output=True, timeout=30, check=False)
    assert token not in hub.log
    assert "wrong-token-4711" not in hub.log
