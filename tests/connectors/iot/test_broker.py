"""The broker client against a real Mosquitto."""

from __future__ import annotations

import asyncio
import datetime
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from connectors.iot.broker.listener import make_listeners
from hub.sdk.errors import TransientError
from hub.sdk.testing.telemetry import MemoryPort
from tests.connectors.iot.brokers import hub, mosquitto, send, sender, source, unique, until

MAPPING = {"device": "{device}", "metrics": {"t": "t"}}


def bodies(port: MemoryPort) -> list[bytes]:
    return [one.body for one in port.kept]


def numbered(topic: str, first: int, last: int) -> list[tuple[str, bytes]]:
    return [(topic, b'{"t":%d}' % number) for number in range(first, last)]


def test_a_topic_becomes_captures_a_format_and_a_gateways_message(
    mqtt_url: str, tmp_path: Path
) -> None:
    word = unique()
    topic = {"filter": f"{word}/{{line}}/{{device}}/telemetry", "mapping": MAPPING}
    port = MemoryPort([source({"client_id": word, "topics": [topic]}, zone="Asia/Shanghai")])

    async def scene() -> None:
        async with hub(port, mqtt_url, tmp_path):
            await send(mqtt_url, [(f"{word}/线1/泵/telemetry", b'{"t":1}'), (f"{word}/x", b"{}")])
            await until(lambda: port.kept)

    asyncio.run(scene())
    (message,) = port.kept
    assert (message.sender.source, message.sender.device, message.sender.gateway) == (
        "plant",
        "",
        True,
    )
    assert message.format == "iot.mapped"
    assert message.details["capture.line"] == "线1"
    assert message.details["capture.device"] == "泵"
    assert message.details["topic"] == f"{word}/线1/泵/telemetry"
    assert message.details["zone"] == "Asia/Shanghai"
    assert json.loads(message.details["mapping"]) == MAPPING
    assert "retained" not in message.details


def test_messages_sent_while_the_hub_is_away_arrive_when_it_is_back(
    mqtt_url: str, tmp_path: Path
) -> None:
    word = unique()
    port = MemoryPort(
        [source({"client_id": word, "topics": [{"filter": f"{word}/#", "format": "readings"}]})]
    )

    async def scene() -> None:
        async with hub(port, mqtt_url, tmp_path):
            await send(mqtt_url, numbered(f"{word}/a", 0, 10))
            await until(lambda: len(port.kept) == 10)
        await send(mqtt_url, numbered(f"{word}/a", 10, 60))
        async with hub(port, mqtt_url, tmp_path):
            await until(lambda: len(port.kept) == 60)

    asyncio.run(scene())
    assert bodies(port) == [body for _, body in numbered("", 0, 60)]


def test_what_was_not_committed_is_delivered_again(mqtt_url: str, tmp_path: Path) -> None:
    word = unique()
    topics = [{"filter": f"{word}/#", "format": "readings"}]
    port = MemoryPort([source({"client_id": word, "topics": topics})])
    again = MemoryPort([source({"client_id": word, "topics": topics})])

    async def scene() -> None:
        port.gate = asyncio.Event()
        async with hub(port, mqtt_url, tmp_path):
            await send(mqtt_url, numbered(f"{word}/a", 0, 5))
            await until(lambda: len(port.kept) == 5)
        async with hub(again, mqtt_url, tmp_path):
            await until(lambda: len(again.kept) == 5)

    asyncio.run(scene())
    assert bodies(again) == bodies(port)


def test_a_store_that_is_away_for_a_while_loses_nothing(mqtt_url: str, tmp_path: Path) -> None:
    word = unique()
    topics = [{"filter": f"{word}/#", "format": "readings"}]
    port = MemoryPort([source({"client_id": word, "topics": topics})])

    async def scene() -> None:
        async with hub(port, mqtt_url, tmp_path):
            port.trouble = TransientError("telemetry.store")
            await send(mqtt_url, numbered(f"{word}/a", 0, 20))
            await asyncio.sleep(0.3)
            assert port.kept == []
            port.trouble = None
            await until(lambda: len(set(bodies(port))) == 20)

    asyncio.run(scene())


def test_messages_of_qos_0_are_kept_even_when_the_store_is_late(
    mqtt_url: str, tmp_path: Path
) -> None:
    word = unique()
    topics = [{"filter": f"{word}/#", "format": "readings"}]
    port = MemoryPort([source({"client_id": word, "topics": topics})])

    async def scene() -> None:
        async with hub(port, mqtt_url, tmp_path):
            port.trouble = TransientError("telemetry.store")
            await send(mqtt_url, numbered(f"{word}/a", 0, 5), qos=0)
            await until(lambda: port.counted["broker", "kept_late"] == 5)
            port.trouble = None
            await until(lambda: len(port.kept) == 5)

    asyncio.run(scene())
    assert bodies(port) == [body for _, body in numbered("", 0, 5)]


def test_a_retained_message_is_marked_and_comes_once(mqtt_url: str, tmp_path: Path) -> None:
    word = unique()
    topics = [{"filter": f"{word}/#", "format": "readings"}]
    port = MemoryPort([source({"client_id": word, "topics": topics})])

    async def scene() -> None:
        await send(mqtt_url, [(f"{word}/a", b'{"t":1}')], retain=True)
        async with hub(port, mqtt_url, tmp_path):
            await until(lambda: port.kept)
        async with hub(port, mqtt_url, tmp_path):
            await send(mqtt_url, [(f"{word}/a", b'{"t":2}')])
            await until(lambda: len(port.kept) == 2)
            await send(mqtt_url, [(f"{word}/a", b"")], retain=True)
            await until(lambda: port.counted["broker", "empty"])

    asyncio.run(scene())
    assert [one.details.get("retained") for one in port.kept] == ["1", None]


def test_filters_that_overlap_keep_a_message_once(mqtt_url: str, tmp_path: Path) -> None:
    word = unique()
    topics = [
        {"filter": f"{word}/{{device}}/t", "mapping": MAPPING},
        {"filter": f"{word}/a/#", "format": "readings"},
        {"filter": f"{word}/#", "format": "cloud_events"},
    ]
    port = MemoryPort([source({"client_id": word, "topics": topics})])

    async def scene() -> None:
        async with hub(port, mqtt_url, tmp_path):
            await send(
                mqtt_url, [(f"{word}/a/t", b"1"), (f"{word}/a/x", b"2"), (f"{word}/b", b"3")]
            )
            await until(lambda: len(port.kept) == 3)
            await asyncio.sleep(0.1)

    asyncio.run(scene())
    found = [(one.body, one.format) for one in port.kept]
    assert found == [(b"1", "iot.mapped"), (b"2", "iot.readings"), (b"3", "iot.cloud_events")]


def test_a_filter_that_is_taken_away_is_undone_at_the_broker(mqtt_url: str, tmp_path: Path) -> None:
    word = unique()
    both = [{"filter": f"{word}/{part}/#", "format": "readings"} for part in ("a", "线")]
    port = MemoryPort([source({"client_id": word, "topics": both})])
    less = MemoryPort([source({"client_id": word, "topics": both[:1]})])

    async def scene() -> None:
        async with hub(port, mqtt_url, tmp_path):
            pass
        async with hub(less, mqtt_url, tmp_path):
            await asyncio.sleep(0.1)
            await send(mqtt_url, [(f"{word}/线/x", b"no"), (f"{word}/a/x", b"yes")])
            await until(lambda: less.kept)

    asyncio.run(scene())
    assert less.counted["broker", "unmapped"] == 0
    assert bodies(less) == [b"yes"]


def shared(word: str, slots: int) -> MemoryPort:
    topics = [{"filter": f"{word}/#", "format": "readings"}]
    return MemoryPort(
        [source({"client_id": word, "share": word, "slots": slots, "topics": topics})]
    )


def test_slots_share_the_messages_and_a_slot_that_is_taken_away_leaves_none_behind(
    mqtt_url: str, tmp_path: Path
) -> None:
    word = unique()
    two, one = shared(word, 2), shared(word, 1)

    async def scene() -> None:
        async with hub(two, mqtt_url, tmp_path) as (listener,):
            await send(mqtt_url, numbered(f"{word}/a", 0, 50))
            await until(lambda: len(two.kept) == 50)
            received = [slot["received"] for slot in listener.status()["sessions"]]
            assert sum(received) == 50
            assert all(received), "both take their part"
        await send(mqtt_url, numbered(f"{word}/a", 50, 100))
        async with hub(one, mqtt_url, tmp_path) as (_, farewell):
            await until(lambda: not farewell.status()["leaving"])
            await send(mqtt_url, numbered(f"{word}/a", 100, 120))
            await until(lambda: len(set(bodies(one))) == 70)
        async with hub(one, mqtt_url, tmp_path) as listeners:
            assert len(listeners) == 1, "nothing is left to take leave of"

    asyncio.run(scene())
    assert sorted(bodies(two)) == sorted(body for _, body in numbered("", 0, 50))
    assert sorted(bodies(one)) == sorted(body for _, body in numbered("", 50, 120))


# --- deaths -----------------------------------------------------------------------------------

CHILD = """
import asyncio, os, sys
from pathlib import Path
from connectors.iot.broker.listener import make_listeners
from hub.sdk.telemetry import Receipt
from hub.sdk.testing.telemetry import MemoryPort
from hub.sdk.telemetry_source import TelemetrySource

url, word, folder = sys.argv[1:]
source = TelemetrySource.model_validate({"source": "plant", "broker": {"connection": "site",
    "client_id": word, "topics": [{"filter": word + "/#", "format": "readings"}]}})

class FilePort(MemoryPort):
    log = open(Path(folder) / "log", "ab")
    async def keep(self, message):
        await asyncio.sleep(0.002)
        self.log.write(message.body + b"\\n")
        self.log.flush()
        os.fsync(self.log.fileno())
        return Receipt(1, False)

async def main():
    port = FilePort([source])
    (one,) = make_listeners(port, {"sources": port.sources, "folder": folder,
                                   "connections": {"site": {"url": url}}})
    await one.start()
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_client_that_is_killed_in_mid_stream_loses_nothing(mqtt_url: str, tmp_path: Path) -> None:
    word, log = unique(), tmp_path / "log"
    log.touch()
    expected = {body for _, body in numbered("", 0, 400)}

    def lines() -> list[bytes]:
        return log.read_bytes().split()

    async def scene() -> None:
        command = [sys.executable, "-c", CHILD, mqtt_url, word, str(tmp_path)]
        child = subprocess.Popen(command)
        known = tmp_path / ".hub" / "broker-sessions.json"
        try:
            await until(known.exists)
            await asyncio.sleep(0.7)
            with sender(mqtt_url) as client:
                for number, (topic, body) in enumerate(numbered(f"{word}/a", 0, 400)):
                    client.publish(topic, body, qos=1)
                    await asyncio.sleep(0.001)
                    if number == 150:
                        child.send_signal(signal.SIGKILL)
                        child.wait()
                        child = subprocess.Popen(command)
            await until(lambda: set(lines()) >= expected, 20)
        finally:
            child.kill()
            child.wait()

    asyncio.run(scene())
    assert set(lines()) == expected


def test_a_broker_that_is_started_again_is_found_again(tmp_path: Path) -> None:
    word = unique()
    topics = [{"filter": f"{word}/#", "format": "readings"}]
    port = MemoryPort([source({"client_id": word, "topics": topics})])

    async def scene() -> None:
        with mosquitto(tmp_path / "broker") as broker:
            async with hub(port, broker.url, tmp_path) as (listener,):
                await send(broker.url, numbered(f"{word}/a", 0, 10))
                await until(lambda: len(port.kept) == 10)
                await asyncio.to_thread(broker.stop)
                await until(lambda: not listener.status()["sessions"][0]["connected"])
                assert listener.status()["sessions"][0]["trouble"]
                await asyncio.to_thread(broker.start)
                await send(broker.url, numbered(f"{word}/a", 10, 20))
                await until(lambda: len(port.kept) == 20, 20)

    asyncio.run(scene())
    assert bodies(port) == [body for _, body in numbered("", 0, 20)]


# --- who may come in --------------------------------------------------------------------------


def make_certificates(folder: Path) -> None:
    """An authority, a server and a client: `ca.pem`, `server.pem`, `server.key`, `client.*`."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "server", "client")}
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca")])
    now = datetime.datetime.now(datetime.UTC)
    for name, key in keys.items():
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
        )
        if name == "server":
            names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
            builder = builder.add_extension(names, critical=False)
        pem = builder.sign(keys["ca"], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (folder / f"{name}.pem").write_bytes(pem)
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / f"{name}.key").write_bytes(text)


def test_a_broker_with_tls_and_client_certificates(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    word = unique()
    topics = [{"filter": f"{word}/#", "format": "readings"}]
    port = MemoryPort([source({"client_id": word, "topics": topics})])
    lines = [
        f"cafile {tmp_path}/ca.pem",
        f"certfile {tmp_path}/server.pem",
        f"keyfile {tmp_path}/server.key",
        "require_certificate true",
        "use_identity_as_username true",
        "allow_anonymous false",
    ]

    async def scene() -> None:
        with mosquitto(tmp_path / "broker", *lines) as broker:
            account = {"url": f"mqtts://localhost:{broker.port}", "ca": "ca.pem"}
            with pytest.raises(pytest.fail.Exception):
                async with hub(port, account, tmp_path, patience=1):
                    pass
            account |= {"certificate": "client.pem", "key": "client.key"}
            async with hub(port, account, tmp_path) as (listener,):
                assert listener.status()["sessions"][0]["session_seconds"] == 7 * 86_400

    asyncio.run(scene())


def test_a_wrong_password_is_told(tmp_path: Path) -> None:
    word = unique()
    topics = [{"filter": f"{word}/#", "format": "readings"}]
    port = MemoryPort([source({"client_id": word, "topics": topics})])

    async def scene() -> str:
        with mosquitto(tmp_path / "broker", "allow_anonymous false") as broker:
            account = {"url": broker.url, "username": "hub", "password": "wrong"}
            (listener,) = make_listeners(
                port,
                {"sources": port.sources, "connections": {"site": account}, "folder": tmp_path},
            )
            await listener.start()
            await until(lambda: "trouble" in listener.status()["sessions"][0])
            trouble = listener.status()["sessions"][0]["trouble"]
            await listener.stop()
            return str(trouble)

    assert "Not authorized" in asyncio.run(scene())
