"""A session names its streams and sinks, and says line by line whether a connection works."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hub.sdk.errors import ConfigError, TransientError
from hub.sdk.manifest import Request
from hub.sdk.session import Session
from hub.sdk.testing import FakeServer, Fault, Response

OpenSession = Callable[..., Session]

STREAMS = {
    name: {"key": ["id"], "request": {"get": f"/{name}"}, "data": "rows"}
    for name in ("items", "people")
}


@pytest.fixture(autouse=True)
def answers(fake: FakeServer) -> None:
    for name in STREAMS:
        fake.route("GET", f"/{name}", lambda _: Response(json={"code": 0, "rows": [{"id": 1}]}))


def test_unknown_streams_and_sinks_come_with_a_suggestion(open_session: OpenSession) -> None:
    session = open_session()
    with pytest.raises(ConfigError, match="did you mean 'items'"):
        session.stream("item")
    with pytest.raises(ConfigError, match="did you mean 'orders'"):
        session.sink("order")


def test_a_working_connection_is_checked_line_by_line(open_session: OpenSession) -> None:
    results = open_session(streams=STREAMS).check()
    assert [result.ok for result in results] == [True] * 4
    assert [result.message() for result in results] == [
        "shop: settings: ok",
        "shop: login: ok",
        "shop.items: first page read, 1 rows",
        "shop.people: first page read, 1 rows",
    ]
    assert "正常" in results[0].message("zh")


def test_a_broken_stream_does_not_hide_the_next(
    fake: FakeServer, open_session: OpenSession
) -> None:
    fake.misbehave(Fault.HTML_200, "/items")
    results = open_session(streams=STREAMS).check()
    assert [result.ok for result in results] == [True, True, False, True]
    assert "text/html" in results[2].message()


def test_a_check_ends_where_going_on_is_useless(
    fake: FakeServer, open_session: OpenSession
) -> None:
    fake.misbehave(Fault.STATUS, "/items", times=None, status=401)
    results = open_session(streams=STREAMS).check()
    assert [(result.step, result.ok) for result in results] == [
        ("config", True),
        ("login", True),
        ("stream items", False),
    ]


def test_a_refused_login_is_told_from_a_host_that_is_not_there(
    fake: FakeServer, open_session: OpenSession
) -> None:
    auth = {
        "kind": "token",
        "login": {"request": {"get": "/login"}, "token": "token"},
        "send": {"query": "token"},
    }
    fake.route("GET", "/login", lambda _: Response(json={"code": 5, "msg": "no"}))
    session = open_session(auth=auth)
    assert session.check()[-1].step == "login"
    fake.stop()
    assert session.check()[-1].step == "reach"


# --- TLS --------------------------------------------------------------------------------------


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"code": 0}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 and erp.test, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "erp.test")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("erp.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
def secure(tmp_path: Path) -> Any:
    """A TLS server: its port and the file with its certificate."""
    path = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = HTTPServer(("127.0.0.1", 0), _Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # refused handshakes
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port, path
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_house_certificate_authority_is_trusted_when_named(
    secure: Any, open_session: OpenSession
) -> None:
    port, path = secure
    spec = {"config": {"base_url": f"https://erp.test:{port}"}, "ca": str(path)}
    session = open_session(spec, resolve=lambda *_: ["127.0.0.1"])
    assert session.client.call(Request(get="/x"), read=True).body == {"code": 0}


def test_an_unknown_certificate_is_refused_with_its_reason(
    secure: Any, open_session: OpenSession
) -> None:
    port, _ = secure
    spec = {"config": {"base_url": f"https://erp.test:{port}"}}
    session = open_session(spec, resolve=lambda *_: ["127.0.0.1"])
    with pytest.raises(TransientError, match="CERTIFICATE_VERIFY_FAILED"):
        session.client.call(Request(get="/x"), read=True)


def test_a_certificate_of_another_name_is_refused(secure: Any, open_session: OpenSession) -> None:
    port, path = secure
    spec = {"config": {"base_url": f"https://other.test:{port}"}, "ca": str(path)}
    session = open_session(spec, resolve=lambda *_: ["127.0.0.1"])
    with pytest.raises(TransientError, match=r"other\.test"):
        session.client.call(Request(get="/x"), read=True)


def test_a_certificate_file_that_is_none_is_a_setting_to_change(
    open_session: OpenSession, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    spec: dict[str, Any] = {"config": {"base_url": "https://erp.test"}}
    with pytest.raises(ConfigError, match="PEM"):
        open_session({**spec, "ca": str(tmp_path / "ca.pem")})
    with pytest.raises(ConfigError, match="not found"):
        open_session({**spec, "ca": str(tmp_path / "absent.pem")})
