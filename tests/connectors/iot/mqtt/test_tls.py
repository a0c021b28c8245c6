"""TLS, and client certificates instead of tokens."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from connectors.iot.decoders import DECODERS
from connectors.iot.faces import make_faces
from connectors.iot.mqtt.house import Options
from connectors.iot.mqtt.listener import MqttListener
from hub.sdk.errors import ConfigError
from hub.sdk.telemetry import Sender
from hub.sdk.testing.telemetry import MemoryPort
from tests.connectors.iot.mqtt.desk import Desk


@dataclass
class Signed:
    """A certificate with its key, as files."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    pem: Path
    key_pem: Path


def sign(folder: Path, name: str, by: Signed | None = None) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    made = builder.sign(by.key if by else key, hashes.SHA256())
    pem, key_pem = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return Signed(made, key, pem, key_pem)


@pytest.fixture
def ca(tmp_path: Path) -> Signed:
    return sign(tmp_path, "ca")


@pytest.fixture
def tls(desk: Desk, tmp_path: Path, ca: Signed) -> dict[str, Any]:
    server = sign(tmp_path, "server", ca)
    files = {"certificate": server.pem, "key": server.key_pem, "client_ca": ca.pem}
    desk.start(port=None, tls_port=0, **files)
    return files


def trusting(ca: Signed, shown: Signed | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.pem))
    if shown is not None:
        context.load_cert_chain(shown.pem, shown.key_pem)
    return context


def test_a_token_admits_over_tls(desk: Desk, tls: dict[str, Any], ca: Signed) -> None:
    client = desk.client(name="tls_port", tls=trusting(ca))
    assert client.connect().body[1] == 0
    client.publish("v1/devices/me/telemetry", b'{"a":1}', 1)
    assert client.read_ids(1) == [1]


def test_a_client_certificate_admits_by_its_fingerprint(
    desk: Desk, tls: dict[str, Any], ca: Signed, tmp_path: Path
) -> None:
    known, unknown = sign(tmp_path, "known", ca), sign(tmp_path, "unknown", ca)
    fingerprint = known.certificate.fingerprint(hashes.SHA256()).hex()
    desk.port.certificates[fingerprint] = Sender("iot", "press-4")
    client = desk.client(name="tls_port", tls=trusting(ca, known))
    assert client.connect(None).body[1] == 0
    client.publish("v1/devices/me/telemetry", b'{"a":1}', 1)
    assert client.read_ids(1) == [1]
    assert desk.kept(1)[0].sender.device == "press-4"
    assert desk.client(name="tls_port", tls=trusting(ca, unknown)).connect(None).body[1] == 0x87


def test_a_certificate_of_another_authority_is_refused(
    desk: Desk, tls: dict[str, Any], ca: Signed, tmp_path: Path
) -> None:
    stranger = sign(tmp_path, "stranger")
    with pytest.raises((ssl.SSLError, EOFError, ConnectionError)):
        desk.client(name="tls_port", tls=trusting(ca, stranger)).connect(None)


def test_without_tls_or_a_certificate_there_is_nobody(
    desk: Desk, tls: dict[str, Any], ca: Signed
) -> None:
    client = desk.client(name="tls_port", tls=trusting(ca))
    assert client.connect(None).body[1] == 0x87


def test_plain_bytes_on_the_tls_port_do_no_harm(
    desk: Desk, tls: dict[str, Any], ca: Signed
) -> None:
    with pytest.raises((EOFError, ConnectionError)):
        desk.client(name="tls_port").connect()
    assert desk.client(name="tls_port", tls=trusting(ca)).connect().body[1] == 0


def test_a_file_that_is_no_certificate_is_named(desk: Desk, tmp_path: Path, ca: Signed) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.pem"):
        desk.start(tls_port=0, certificate=tmp_path / "nothing.pem", key=ca.key_pem)
    with pytest.raises(ConfigError, match=r"ca\.key"):
        desk.start(tls_port=0, certificate=ca.pem, key=ca.key_pem, client_ca=ca.key_pem)


def test_a_port_in_use_is_named(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=str(port)):
            desk.start(port=port)


def test_paths_of_the_settings_are_relative_to_the_deployment(tmp_path: Path) -> None:
    given = {"tls_port": 8883, "certificate": Path("c.pem"), "key": "k.pem", "client_ca": None}
    options = Options.of(given, tmp_path)
    assert (options.certificate, options.key) == (tmp_path / "c.pem", tmp_path / "k.pem")
    assert (options.client_ca, options.port, options.receive_maximum) == (None, None, 200)


def test_the_connector_listens_when_a_port_is_given(tmp_path: Path) -> None:
    settings = {"mqtt": {"port": None}, "sources": {}, "connections": {}, "folder": str(tmp_path)}
    assert make_faces(MemoryPort(), settings).listeners == []
    (listener,) = make_faces(MemoryPort(), {**settings, "mqtt": {"port": 0}}).listeners
    assert isinstance(listener, MqttListener)
    assert listener.status() == {"running": False}
    assert set(DECODERS) >= {"iot.connection"}
