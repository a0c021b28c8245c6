"""Where webhooks may go, and who can read their secrets."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from hub.engine.deployment import WebhookSettings, open_deployment
from hub.engine.hub import Hub
from hub.engine.operations import LocalOperations
from hub.engine.webhooks.endpoints import Endpoints
from hub.engine.webhooks.job import send_webhooks
from hub.engine.webhooks.retention import forget_old_webhooks
from hub.sdk.errors import ConfigError
from hub.sdk.testing import FakeClock, Request, Response
from tests.engine.webhook_rig import ENTITY, Desk, Receiver, change, signed_with, states, subscribe

PUBLIC = "93.184.216.34"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def hub(tmp_path: Path, clock: FakeClock) -> Iterator[Hub]:
    with Desk(tmp_path / "hub", seconds=0.5).open(clock) as opened:
        yield opened


def endpoints(tmp_path: Path, answers: list[str] | None = None, **settings: object) -> Endpoints:
    made = Endpoints(WebhookSettings.model_validate(settings), tmp_path)
    made.resolve = lambda host, _: [host] if answers is None else answers
    return made


# --- addresses --------------------------------------------------------------------------------

MALFORMED = [
    "",
    "crm.example/hook",
    "//crm.example/hook",
    "ftp://crm.example/hook",
    "file:///etc/passwd",
    "gopher://crm.example/",
    "javascript:alert(1)",
    "https://",
    "https:///hook",
    "https://user:pass@crm.example/hook",
    "https://user@crm.example/hook",
    "https://@crm.example/hook",
    "https://crm.example#@127.0.0.1/",
    "https://crm.example/hook#part",
    "https://crm.example\\@127.0.0.1/",
    "https://crm.example/a b",
    "https://crm.example/\x00",
    "https://crm.example/\r\nX-Injected: 1",
    "https://crm.example:0/",
    "https://crm.example:65536/",
    "https://crm.example:x/",
    "https://[::1/",
    "https://crm.example\t.evil.example/",
    " https://crm.example/",
    "https://crm.example/{a}",
    "https://\udcff.example/",
]


@pytest.mark.parametrize("url", MALFORMED)
def test_what_is_no_plain_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        endpoints(tmp_path, [PUBLIC]).check(url)
    assert caught.value.code == "subscription.url"
    assert "pass" not in str(caught.value.params.get("url", "")).replace("passwd", "")


HOSTILE = [
    "127.0.0.1",
    "127.8.8.8",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 (an address to refuse)
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[fe80::1]",
    "[fc00::1]",
    "[ff02::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:8.8.8.8]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[::ffff:0:7f00:1]",
    "[fec0::1]",
    "[3fff::1]",
    "[5f00::1]",
    "192.88.99.1",
    "2130706433",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "127.1",
    "017700000001",
    "127.0.0.1.",
    "１２７.0.0.1",
]


@pytest.mark.parametrize("host", HOSTILE)
def test_an_address_inside_is_refused_however_it_is_written(tmp_path: Path, host: str) -> None:
    rules = Endpoints(WebhookSettings(), tmp_path)  # the machine's own resolver
    with pytest.raises(ConfigError) as caught:
        rules.check(f"https://{host}/hook")
    assert caught.value.code in ("subscription.address", "subscription.url")


@pytest.mark.parametrize("address", [host.strip("[]") for host in HOSTILE[:27]])
def test_a_name_with_one_hostile_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        endpoints(tmp_path, [PUBLIC, address]).check("https://crm.example/hook")
    assert caught.value.code == "subscription.address"
    assert caught.value.params == {"host": "crm.example", "address": address}


@pytest.mark.parametrize(
    "url",
    [
        "https://crm.example/hook",
        "https://crm.example:8443/hook?token=a%20b&x=1",
        "https://CRM.example./hook",
        "https://中文.example/钩子",
        "https://[2606:4700::1111]/hook",
        "https://8.8.8.8:1024/",
    ],
)
def test_public_https_addresses_are_accepted(tmp_path: Path, url: str) -> None:
    endpoints(tmp_path, [PUBLIC]).check(url)


def test_plain_http_needs_a_listed_host(tmp_path: Path) -> None:
    rules = endpoints(tmp_path, [PUBLIC], allow_http=["crm.example", "erp.example:8080"])
    rules.check("http://crm.example/hook")
    rules.check("http://erp.example:8080/hook")
    for url in ("http://other.example/", "http://erp.example/", "http://crm.example.evil.example/"):
        with pytest.raises(ConfigError) as caught:
            rules.check(url)
        assert caught.value.code == "subscription.plain_http"


def test_a_network_in_the_house_must_be_listed(tmp_path: Path) -> None:
    rules = endpoints(tmp_path, ["10.1.2.3"], allow_networks=["10.1.0.0/16"])
    rules.check("https://crm.local/hook")
    rules.resolve = lambda *_: ["10.2.0.1"]
    with pytest.raises(ConfigError) as caught:
        rules.check("https://crm.local/hook")
    assert "allow_networks" in str(caught.value)


@pytest.mark.parametrize("port", [22, 25, 80, 445, 1023])
def test_a_port_of_another_service_is_refused_unless_listed(tmp_path: Path, port: int) -> None:
    url = f"https://crm.example:{port}/"
    with pytest.raises(ConfigError) as caught:
        endpoints(tmp_path, [PUBLIC]).check(url)
    assert caught.value.code == "subscription.port"
    endpoints(tmp_path, [PUBLIC], allow_http=[f"crm.example:{port}"]).check(url)


def test_a_name_that_does_not_resolve_is_one_clear_line(tmp_path: Path) -> None:
    def lost(host: str, port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    rules = endpoints(tmp_path)
    rules.resolve = lost
    with pytest.raises(ConfigError, match=r"crm\.example cannot be resolved"):
        rules.check("https://crm.example/")


@pytest.mark.parametrize(
    "text",
    ['allow_networks = ["10.0.0.0/99"]', "allow_http = 7", "timeout_seconds = 31", "retries = 3"],
)
def test_wrong_settings_are_told_at_once(tmp_path: Path, text: str) -> None:
    (tmp_path / "hub.toml").write_text(f"[webhooks]\n{text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="webhooks"):
        open_deployment(tmp_path)


def test_a_name_that_moves_inside_after_it_was_checked_is_not_called(
    hub: Hub, receiver: Receiver
) -> None:
    """DNS rebinding: public when it is subscribed, loopback when it is called."""
    hub.endpoints.resolve = lambda *_: [PUBLIC]
    port = receiver.url.rpartition(":")[2]
    made = LocalOperations(hub).add_subscription(
        f"https://crm.example:{port}/hook", [ENTITY], None, from_beginning=False
    )
    hub.endpoints.resolve = lambda *_: ["127.0.0.1"]
    hub.endpoints.egress = type(hub.endpoints.egress)(frozenset(), (), public=True)
    change(hub, "C-1")
    send_webhooks(hub, made["id"])
    tried = LocalOperations(hub).attempts(made["id"], 5)
    assert [row["error"]["code"] for row in tried] == ["subscription.address"]
    assert receiver.requests == []
    assert list(states(hub, made["id"]).values()) == ["pending"]


def test_the_connection_is_made_to_the_address_that_was_checked(
    hub: Hub, receiver: Receiver
) -> None:
    asked: list[str] = []

    def resolve(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) <= 2 else ["10.9.9.9"]

    hub.endpoints = Endpoints(
        WebhookSettings(allow_http=("crm.test",), timeout_seconds=0.5), Path()
    )
    hub.endpoints.resolve = resolve
    port = receiver.url.rpartition(":")[2]
    made = LocalOperations(hub).add_subscription(
        f"http://crm.test:{port}/hook", [ENTITY], None, from_beginning=False
    )
    receiver.secrets.append(made["secret"])
    change(hub, "C-1")
    send_webhooks(hub, made["id"])
    assert asked == ["crm.test", "crm.test"]
    assert receiver.keys == ["C-1"]


def test_a_host_that_is_no_longer_approved_is_not_called(hub: Hub, receiver: Receiver) -> None:
    one = subscribe(hub, receiver)
    hub.endpoints = Endpoints(WebhookSettings(), Path())
    change(hub, "C-1")
    send_webhooks(hub, one)
    tried = LocalOperations(hub).attempts(one, 5)
    assert [row["error"]["code"] for row in tried] == ["subscription.plain_http"]
    assert receiver.requests == []


def test_proxies_of_the_environment_play_no_part(
    hub: Hub, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    one = subscribe(hub, receiver)
    change(hub, "C-1")
    send_webhooks(hub, one)
    assert receiver.keys == ["C-1"]


# --- secrets ----------------------------------------------------------------------------------


def test_both_secrets_sign_until_the_old_one_has_had_its_time(
    hub: Hub, receiver: Receiver, clock: FakeClock
) -> None:
    operations = LocalOperations(hub)
    one = subscribe(hub, receiver)
    old = receiver.secrets[0]
    new = operations.rotate_subscription(one, 24)["secret"]
    assert new != old
    signed = []
    for number, wait in enumerate((0, 23 * 3600, 2 * 3600)):
        clock.advance(wait)
        change(hub, f"C-{number}")
        receiver.secrets = [old, new]
        send_webhooks(hub, one)
        last = receiver.requests[-1]
        signed.append((signed_with(old, last), signed_with(new, last)))
        assert len(last.headers["webhook-signature"].split()) == sum(signed[-1])
    assert signed == [(True, True), (True, True), (False, True)]


def test_a_secret_replaced_without_delay_is_void_at_once(hub: Hub, receiver: Receiver) -> None:
    one = subscribe(hub, receiver)
    new = LocalOperations(hub).rotate_subscription(one, 0)["secret"]
    change(hub, "C-1")
    send_webhooks(hub, one)
    assert not signed_with(receiver.secrets[0], receiver.requests[0])
    assert signed_with(new, receiver.requests[0])


@pytest.mark.parametrize("hours", [-1, 721, float("nan"), float("inf")])
def test_a_time_nobody_means_is_refused(hub: Hub, receiver: Receiver, hours: float) -> None:
    one = subscribe(hub, receiver)
    with pytest.raises(ConfigError) as caught:
        LocalOperations(hub).rotate_subscription(one, hours)
    assert caught.value.code == "subscription.keep"


def test_an_answer_that_repeats_the_secret_is_kept_without_it(hub: Hub, receiver: Receiver) -> None:
    one = subscribe(hub, receiver)
    secret = receiver.secrets[0]

    def echo(request: Request) -> Response:
        return Response(body=f"{secret} and {secret[6:]} {'x' * 5000}\0".encode())

    receiver.route("POST", "/hook", echo)
    change(hub, "C-1")
    send_webhooks(hub, one)
    answer = LocalOperations(hub).attempts(one, 1)[0]["answer"]
    assert answer.startswith("*** and *** xxx")
    assert len(answer) <= 1000


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_the_database_never_holds_a_secret_in_the_clear(
    tmp_path: Path, receiver: Receiver, kind: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgres" else None
    desk = Desk(tmp_path / "hub", url)
    with desk.open(FakeClock()) as hub:
        operations = LocalOperations(hub)
        one = subscribe(hub, receiver)
        receiver.secrets.append(operations.rotate_subscription(one, 24)["secret"])
        change(hub, "C-1")
        send_webhooks(hub, one)
        shown = str([operations.subscriptions(), operations.attempts(one, 9), operations.doctor()])
        shown += str(operations.messages(one, None, 9)) + str(operations.subscription(one))
    raw = _raw_bytes(desk.folder, url)
    assert b"C-1" in raw
    for secret in receiver.secrets:
        assert secret[6:] not in shown
        assert secret[6:].encode() not in raw


def _raw_bytes(folder: Path, url: str | None) -> bytes:
    if url is None:
        with sqlite3.connect(folder / "hub.db") as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        return (folder / "hub.db").read_bytes()
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    found = b""
    with psycopg.connect(plain) as connection:
        for table in ("hub_secret", "hub_subscription", "hub_message", "hub_message_attempt"):
            for row in connection.execute(f"SELECT * FROM {table}"):  # noqa: S608 (our tables)
                found += b"".join(v if isinstance(v, bytes) else str(v).encode() for v in row)
    return found


def test_a_secret_that_cannot_be_read_holds_the_messages_and_is_told(
    hub: Hub, receiver: Receiver, clock: FakeClock
) -> None:
    operations = LocalOperations(hub)
    one = subscribe(hub, receiver)
    change(hub, "C-1")
    key = hub.deployment.private_folder / "master.key"
    key.write_text("00" * 32, encoding="ascii")
    send_webhooks(hub, one)
    send_webhooks(hub, one)
    assert receiver.requests == []
    assert operations.subscription(one)["unsent"] in (0, 1)
    receiver.secrets.append(operations.rotate_subscription(one, 24)["secret"])
    clock.advance(301)
    send_webhooks(hub, one)
    assert receiver.keys == ["C-1"]


def test_removing_a_subscription_leaves_nothing_of_it(hub: Hub, receiver: Receiver) -> None:
    operations = LocalOperations(hub)
    one = subscribe(hub, receiver)
    change(hub, "C-1")
    send_webhooks(hub, one)
    operations.remove_subscription(one)
    change(hub, "C-2")
    send_webhooks(hub, one)
    assert receiver.keys == ["C-1"]
    with sqlite3.connect(hub.deployment.folder / "hub.db") as database:
        for table in ("subscription", "subscription_position", "message", "message_attempt"):
            assert database.execute(f"SELECT count(*) FROM hub_{table}").fetchone() == (0,)  # noqa: S608
        assert database.execute("SELECT count(*) FROM hub_secret").fetchone() == (0,)
    database.close()


def test_the_replaced_secret_is_deleted_when_its_time_is_over(
    hub: Hub, receiver: Receiver, clock: FakeClock
) -> None:
    one = subscribe(hub, receiver)
    LocalOperations(hub).rotate_subscription(one, 1)
    forget_old_webhooks(hub)
    assert LocalOperations(hub).subscription(one)["old_secret_until"] is not None
    clock.advance(3601)
    forget_old_webhooks(hub)
    assert LocalOperations(hub).subscription(one)["old_secret_until"] is None
    with sqlite3.connect(hub.deployment.folder / "hub.db") as database:
        names = database.execute("SELECT field_name FROM hub_secret").fetchall()
    database.close()
    assert names == [("secret",)]
