"""The Sparkplug host on a real broker, with an edge node made by hand that can misbehave."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from connectors.iot.decoders import DECODERS
from connectors.iot.sparkplug.payload import parse_payload
from hub.sdk.errors import TransientError
from hub.sdk.telemetry import Decoded
from hub.sdk.telemetry_source import TelemetrySource
from hub.sdk.testing.telemetry import MemoryPort
from tests.connectors.iot.brokers import hub, sender, source, unique, until
from tests.connectors.iot.edge import bd_seq, payload

AT = 1_700_000_000_000
TEMPERATURE = {"name": "temperature", "alias": 1, "datatype": 10, "value": 20.5}
SPEED = {"name": "speed", "alias": 2, "datatype": 3, "int_value": 2**32 - 7}


def plant(group: str, **more: Any) -> TelemetrySource:
    sparkplug = {"groups": [group], "reorder": 0.3, **more}
    return source({"client_id": group, "sparkplug": sparkplug})


class Edge:
    """Publishes what it is told, and hears what is said to it."""

    def __init__(self, client: paho.Client, group: str) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._client = client
        self._group = group
        client.on_message = lambda _, __, one: self.heard.append((one.topic, one.payload))
        client.subscribe(f"spBv1.0/{group}/NCMD/line", 1)

    def say(self, kind: str, body: bytes, device: str = "", qos: int = 0, **more: Any) -> None:
        end = f"/{device}" if device else ""
        self._client.publish(f"spBv1.0/{self._group}/{kind}/line{end}", body, qos=qos, **more)

    def birth(self, *metrics: dict[str, Any], bd: int = 1, at: int = AT) -> None:
        self.say("NBIRTH", payload(bd_seq(bd), *metrics, seq=0, timestamp=at))

    def data(self, seq: int, *metrics: dict[str, Any], device: str = "", at: int = AT + 1) -> None:
        kind = "DDATA" if device else "NDATA"
        self.say(kind, payload(*metrics, seq=seq, timestamp=at), device)


def read(port: MemoryPort) -> list[Decoded]:
    return [DECODERS[one.format](one.body, one.details, one.received_at) for one in port.kept]


def samples(port: MemoryPort) -> list[tuple[str, str, float]]:
    found = [(one[0], one[1], one[3]) for message in read(port) for one in message.samples]
    return [one for one in found if one[1] != "bdSeq"]


def test_births_data_by_alias_and_deaths(mqtt_url: str, tmp_path: Path) -> None:
    group = unique()
    port = MemoryPort([plant(group)])

    async def scene() -> None:
        async with hub(port, mqtt_url, tmp_path) as (listener,):
            with sender(mqtt_url) as client:
                edge = Edge(client, group)
                edge.birth(TEMPERATURE)
                edge.say("DBIRTH", payload(SPEED, seq=1), "pump")
                edge.data(2, {"alias": 1, "value": 21.5})
                edge.data(3, {"alias": 2, "int_value": 5}, device="pump")
                await until(lambda: len(port.kept) == 4)
                assert listener.status()["sparkplug"]["online"] == 1
                edge.say("NDEATH", payload(bd_seq(9)), qos=1)
                edge.say("NDEATH", payload(bd_seq(1)), qos=1)
                await until(lambda: len(port.kept) == 5)
                assert port.counted["sparkplug", "stale_death"] == 1
                assert listener.status()["sparkplug"]["online"] == 0

    asyncio.run(scene())
    node, pump = f"{group}/line", f"{group}/line/pump"
    assert samples(port) == [
        (node, "temperature", 20.5),
        (pump, "speed", -7.0),
        (node, "temperature", 21.5),
        (pump, "speed", 5.0),
    ]
    states = [(one.device, one.state) for message in read(port) for one in message.states]
    assert states == [(node, "online"), (pump, "online"), (node, "offline"), (pump, "stale")]
    assert {one.format for one in port.kept} == {"iot.sparkplug"}


def test_data_before_birth_asks_for_a_rebirth_and_is_read_by_it(
    mqtt_url: str, tmp_path: Path
) -> None:
    group = unique()
    port = MemoryPort([plant(group)])

    async def scene() -> None:
        async with hub(port, mqtt_url, tmp_path):
            with sender(mqtt_url) as client:
                edge = Edge(client, group)
                await asyncio.sleep(0.1)
                edge.data(17, {"alias": 1, "value": 1.5})
                await until(lambda: edge.heard)
                ((topic, body),) = edge.heard
                assert topic == f"spBv1.0/{group}/NCMD/line"
                (metric,) = parse_payload(body).metrics
                assert (metric.name, metric.boolean_value) == (b"Node Control/Rebirth", True)
                assert port.kept == []
                edge.birth(TEMPERATURE, at=AT + 5)
                await until(lambda: len(port.kept) == 2)

    asyncio.run(scene())
    assert (f"{group}/line", "temperature", 1.5) in samples(port)


def test_a_gap_is_counted_and_what_came_after_it_is_kept(mqtt_url: str, tmp_path: Path) -> None:
    group = unique()
    port = MemoryPort([plant(group)])

    async def scene() -> None:
        async with hub(port, mqtt_url, tmp_path):
            with sender(mqtt_url) as client:
                edge = Edge(client, group)
                edge.birth(TEMPERATURE)
                edge.data(3, {"alias": 1, "value": 3.0})
                edge.data(2, {"alias": 1, "value": 2.0})
                await until(lambda: port.counted["sparkplug", "seq_gap"] == 1)
                await until(lambda: len(port.kept) == 3)
                await until(lambda: edge.heard)
                edge.birth({**TEMPERATURE, "name": "pressure"}, at=AT + 9)
                edge.data(1, {"alias": 1, "value": 1.0}, at=AT + 10)
                await until(lambda: len(port.kept) == 5)

    asyncio.run(scene())
    assert [one[1:] for one in samples(port)] == [
        ("temperature", 20.5),
        ("temperature", 2.0),
        ("temperature", 3.0),
        ("pressure", 20.5),
        ("pressure", 1.0),
    ]


def test_without_commands_a_restarted_hub_reads_on_and_says_nothing(
    mqtt_url: str, tmp_path: Path
) -> None:
    group = unique()
    port = MemoryPort([plant(group, commands=False)])

    async def scene() -> None:
        with sender(mqtt_url) as client:
            edge = Edge(client, group)
            async with hub(port, mqtt_url, tmp_path):
                edge.birth(TEMPERATURE)
                await until(lambda: port.kept)
            async with hub(port, mqtt_url, tmp_path):
                edge.data(77, {"alias": 1, "value": 7.0})
                await until(lambda: len(port.kept) == 2)
                edge.data(90, {"alias": 5, "value": 7.0})
                await asyncio.sleep(0.8)
            assert edge.heard == []

    asyncio.run(scene())
    assert samples(port)[-1] == (f"{group}/line", "temperature", 7.0)


def test_a_restarted_hub_asks_every_node_it_knows(mqtt_url: str, tmp_path: Path) -> None:
    group = unique()
    port = MemoryPort([plant(group)])

    async def scene() -> None:
        with sender(mqtt_url) as client:
            edge = Edge(client, group)
            async with hub(port, mqtt_url, tmp_path):
                edge.birth(TEMPERATURE)
                await until(lambda: port.kept)
            edge.say("NDEATH", payload(bd_seq(1)), qos=1)  # kept by the session while we are away
            async with hub(port, mqtt_url, tmp_path):
                await until(lambda: len(port.kept) == 2)
            assert list((tmp_path / ".hub" / "sparkplug" / "plant").glob("*.json")) == []
            async with hub(port, mqtt_url, tmp_path):
                edge.birth(TEMPERATURE)
                await until(lambda: len(port.kept) == 3)
            edge.heard.clear()
            async with hub(port, mqtt_url, tmp_path):
                await until(lambda: edge.heard)

    asyncio.run(scene())


def test_a_payload_that_is_none_is_refused_and_acknowledged(mqtt_url: str, tmp_path: Path) -> None:
    group = unique()
    port = MemoryPort([plant(group)])

    async def scene() -> None:
        async with hub(port, mqtt_url, tmp_path) as (listener,):
            with sender(mqtt_url) as client:
                edge = Edge(client, group)
                port.trouble = TransientError("telemetry.store")
                edge.say("NDATA", b"\xff\xff", qos=1)
                await asyncio.sleep(0.2)
                port.trouble = None
                edge.say("NDATA", b"\x0a\x05abc", device="x")  # a topic that cannot be
                edge.birth(TEMPERATURE)
                edge.say("NBIRTH", payload(TEMPERATURE, seq=0), retain=True, qos=1)
                edge.say("NBIRTH", b"", retain=True)
                await until(lambda: port.kept and port.quarantined)
                await until(lambda: listener.status()["sessions"][0]["waiting"] == 0)

    asyncio.run(scene())
    codes = [refused.code for _, all_ in port.quarantined for refused in all_]
    assert codes[0] == "malformed"
    assert port.counted["sparkplug", "ignored"] >= 1


def test_a_primary_host_says_online_and_stands_by_it(mqtt_url: str, tmp_path: Path) -> None:
    group = unique()
    port = MemoryPort([plant(group, primary_host=group)])
    heard: dict[str, list[bytes]] = {f"spBv1.0/STATE/{group}": [], f"STATE/{group}": []}
    new, old = heard

    async def scene() -> None:
        with sender(mqtt_url) as client:
            client.on_message = lambda _, __, one: heard[one.topic].append(one.payload)
            for topic in heard:
                client.subscribe(topic, 1)
            async with hub(port, mqtt_url, tmp_path) as (listener,):
                await until(lambda: heard[new] and heard[old])
                online = json.loads(heard[new][-1])
                assert online["online"] is True
                assert abs(online["timestamp"] - port.now_ms()) < 10_000
                assert heard[old][-1] == b"ONLINE"
                foreign = json.dumps({"online": False, "timestamp": 5}).encode()
                client.publish(new, foreign, qos=1, retain=True)
                await until(lambda: foreign in heard[new])
                await until(lambda: json.loads(heard[new][-1]) == online)
                # An abrupt end has the will sent, with the time of the birth.
                listener._sessions[0].link._transport().abort()  # type: ignore[attr-defined]
                gone = {**online, "online": False}
                await until(lambda: gone in map(json.loads, heard[new]))
                await until(lambda: json.loads(heard[new][-1])["online"])
            await until(lambda: not json.loads(heard[new][-1])["online"])
            await until(lambda: heard[old][-1] == b"OFFLINE")
            for topic in heard:
                client.publish(topic, b"", qos=1, retain=True).wait_for_publish(5)

    asyncio.run(scene())
