"""An edge node of another make (pysparkplug) and `hub serve`, on one broker."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.real_clients.environment import client_environment, client_variables
from tests.real_clients.served import served_hub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

EDGE = """
import sys, time
import pysparkplug as psp

host, port, group = sys.argv[1], int(sys.argv[2]), sys.argv[3]
now = psp.get_current_timestamp
D = psp.DataType

def metric(name, kind, value, alias, **more):
    return psp.Metric(timestamp=now(), name=name, datatype=kind, value=value, alias=alias, **more)

def send(node, kind, payload, device=None, types=False):
    topic = psp.Topic(message_type=kind, group_id=group, edge_node_id="line", device_id=device)
    message = psp.Message(topic=topic, payload=payload, qos=psp.QoS.AT_MOST_ONCE, retain=False)
    node._client.publish(message, include_dtypes=types)

def births(node):
    node._EdgeNode__seq_cycler = __import__("itertools").cycle(range(256))
    # The library counts on for its next connection as soon as this one stands.
    seq = psp.Metric(timestamp=now(), name="bdSeq", datatype=D.INT64, value=0)
    birth = psp.NBirth(timestamp=now(), seq=node._seq, metrics=(*node.metrics.values(), seq))
    send(node, psp.MessageType.NBIRTH, birth, types=True)
    for name, device in node.devices.items():
        birth = psp.DBirth(timestamp=now(), seq=node._seq, metrics=tuple(device.metrics.values()))
        send(node, psp.MessageType.DBIRTH, birth, name, types=True)

def commanded(node, message):
    if any(one.name == "Node Control/Rebirth" and one.value for one in message.payload.metrics):
        print("rebirth", flush=True)
        births(node)

node = psp.EdgeNode(
    group_id=group,
    edge_node_id="line",
    metrics=[
        metric("temperature", D.DOUBLE, 20.5, 1),
        metric("count", D.INT16, -3, 2),
        metric("running", D.BOOLEAN, True, 3),
        metric("batch", D.STRING, "A-17", 4),
        metric("big", D.UINT64, 2**63, 5),
        metric("waveform", D.FLOAT, 1.5, 6),
    ],
    cmd_callback=commanded,
)
node.register(psp.Device(device_id="pump", metrics=[metric("speed", D.INT64, -9, 10)]))
node.connect(host, port=port)
time.sleep(1)
print("connected", flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "data":
        node.update([metric("temperature", D.DOUBLE, 21.5, 1)])
        values = (metric(None, D.INT16, -32768, 2), metric(None, D.BOOLEAN, False, 3))
        send(node, psp.MessageType.NDATA, psp.NData(timestamp=now(), seq=node._seq, metrics=values))
        values = (metric(None, D.INT64, -(2**40), 10),)
        data = psp.DData(timestamp=now(), seq=node._seq, metrics=values)
        send(node, psp.MessageType.DDATA, data, "pump")
    elif word == "skip":
        node._seq
        node.update([metric("count", D.INT16, 8, 2)])
"""


def deployment(url: str, group: str) -> dict[str, str]:
    return {
        "connections.yaml": f"site: {{connector: iot, config: {{url: '{url}'}}}}\n",
        "mappings/telemetry/plant.yaml": f"""
source: plant
broker:
  connection: site
  client_id: {group}
  sparkplug: {{groups: [{group}], reorder: 0.5, primary_host: {group}}}
""",
    }


@contextmanager
def edge_node(python: Path, mqtt_url: str, group: str) -> Iterator[Callable[[str], None]]:
    """Tells the edge node what to do next; "kill" ends it, so that its will speaks."""
    host, _, number = mqtt_url.rpartition("//")[2].rpartition(":")
    process = subprocess.Popen(
        [str(python), "-u", "-c", EDGE, host, number, group],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=client_variables(),
        text=True,
    )

    def tell(word: str) -> None:
        if word == "kill":
            process.kill()
            return
        assert process.stdin is not None
        process.stdin.write(f"{word}\n")
        process.stdin.flush()

    try:
        yield tell
    finally:
        process.kill()
        process.communicate()


def test_an_edge_node_of_another_make(mqtt_url: str, tmp_path: Path) -> None:
    python = client_environment("pysparkplug", "pysparkplug==0.6.1", sources=True)
    group = f"hub{secrets.token_hex(4)}"
    with (
        served_hub(tmp_path / "hub", deployment(mqtt_url, group)) as hub,
        edge_node(python, mqtt_url, group) as edge,
    ):

        def values(device: str, metric: str) -> list[float | str]:
            return [value for _, value in hub.points(f"{group}/{device}", metric)]

        def arrives(*expected: float, device: str = "line", metric: str = "count") -> None:
            def is_there() -> bool:
                return set(expected) <= set(values(device, metric))

            hub.wait(is_there, lambda: f"{values(device, metric)} lacks {expected}", 60)

        arrives(20.5, metric="temperature")
        edge("data")
        arrives(-3, -32768)
        arrives(20.5, 21.5, metric="temperature")
        assert {1.0, 0.0} <= set(values("line", "running"))
        assert 2.0**63 in values("line", "big")
        assert next(text for _, text in hub.texts(f"{group}/line", "batch")) == "A-17"
        arrives(-9, -(2**40), device="line/pump", metric="speed")
        edge("skip")  # a gap in its sequence
        arrives(8)

        hub.kill()
        hub.start()
        time.sleep(3)
        edge("data")
        hub.wait(
            lambda: values("line", "temperature").count(21.5) >= 2,
            lambda: f"nothing came after the restart: {values('line', 'temperature')}",
            60,
        )
        edge("kill")

        def states() -> list[str]:
            known = hub.devices()
            return [known[f"{group}/{one}"]["online"] for one in ("line", "line/pump")]

        hub.wait(
            lambda: states() == ["offline", "stale"], lambda: f"after its death: {states()}", 30
        )
        assert hub.get("telemetry/quarantine")["items"] == []
