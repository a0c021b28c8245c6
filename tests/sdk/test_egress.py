"""Connections go where an operator allowed them to go, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hub.sdk.egress import egress_for, is_public, public_addresses
from hub.sdk.errors import ConfigError, ContractBroken
from hub.sdk.manifest import Request
from hub.sdk.session import Session
from hub.sdk.testing import FakeServer, Response

OpenSession = Callable[..., Session]

HOSTILE = [
    "127.0.0.1",
    "10.1.2.3",
    "192.168.1.1",
    "172.16.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 (an address to refuse)
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
    "::ffff:0:7f00:1",
    "fec0::1",
    "3fff::1",
    "5f00::1",
    "192.88.99.1",
    "not an address",
]


@pytest.mark.parametrize("address", HOSTILE)
def test_an_address_from_data_must_be_plainly_public(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(ContractBroken):
        public_addresses("vendor.example", 443, lambda *_: ["8.8.8.8", address])


@pytest.mark.parametrize("host", ["2130706433", "0177.0.0.1", "0x7f.1", "127.1", "017700000001"])
def test_an_address_in_disguise_is_refused(host: str) -> None:
    with pytest.raises(ContractBroken):
        public_addresses(host, 80)
    egress = egress_for(["http://127.0.0.1"], ["127.0.0.0/8"], "test")
    with pytest.raises(ConfigError):
        egress.addresses(host, 80, lambda *_: ["127.0.0.1"])


def test_public_addresses_pass() -> None:
    assert is_public("8.8.8.8")
    assert is_public("2606:4700::1111")
    found = public_addresses("vendor.example", 443, lambda *_: ["8.8.8.8", "8.8.8.8"])
    assert found == ["8.8.8.8"]


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://erp.local/x", True),
        ("http://ERP.local.:80/x", True),
        ("https://erp.local/x", False),
        ("http://erp.local:81/x", False),
        ("http://files.local:9000/x", True),
        ("http://files.local/x", False),
        ("https://any.local:7/x", True),
        ("http://10.2.3.4/x", True),
        ("http://[::ffff:10.2.3.4]/x", True),
        ("http://11.2.3.4/x", False),
        ("http://erp.local.evil.example/x", False),
    ],
)
def test_an_address_from_data_must_stay_on_an_approved_host(url: str, allowed: bool) -> None:
    approved = ["files.local:9000", "any.local", "10.0.0.0/8"]
    egress = egress_for(["http://erp.local"], approved, "test")
    if allowed:
        egress.check_url(url, "test")
    else:
        with pytest.raises(ContractBroken, match="egress"):
            egress.check_url(url, "test")


@pytest.mark.parametrize(
    "url",
    [
        "http://erp.local/\x00",
        "ftp://erp.local/",
        "erp.local/x",
        "http://",
        "http://erp.local@evil.example/",
        "http://a b/",
    ],
)
def test_what_is_no_plain_http_address_is_refused(url: str) -> None:
    egress = egress_for(["http://erp.local"], [], "test")
    with pytest.raises(ConfigError):
        egress.check_url(url, "test")


@pytest.mark.parametrize("entry", ["", "http://erp.local", "10.0.0.0/99", "a/b", "user@host"])
def test_an_egress_entry_that_is_no_host_or_network_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="egress entry"):
        egress_for(["http://erp.local"], [entry], "test")


def test_the_name_is_resolved_by_us_and_the_host_header_stays(
    fake: FakeServer, open_session: OpenSession
) -> None:
    fake.route("GET", "/items", lambda _: Response(json={"code": 0}))
    port = fake.url.rpartition(":")[2]
    asked: list[str] = []

    def resolve(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    spec = {"config": {"base_url": f"http://erp.test:{port}"}}
    session = open_session(spec, resolve=resolve)
    session.client.call(Request(get="/items"), read=True)
    assert asked == ["erp.test"]
    assert fake.requests[0].headers["host"] == f"erp.test:{port}"


TRAPS = ["169.254.169.254", "0.0.0.0", "224.0.0.1"]  # noqa: S104 (an address to refuse)


@pytest.mark.parametrize("trap", TRAPS)
def test_one_trap_among_the_answers_refuses_the_name(
    fake: FakeServer, open_session: OpenSession, trap: str
) -> None:
    spec = {"config": {"base_url": fake.url.replace("127.0.0.1", "erp.test")}}
    session = open_session(spec, resolve=lambda *_: ["127.0.0.1", trap])
    with pytest.raises(ConfigError, match="not approved"):
        session.client.call(Request(get="/items"), read=True)
    assert fake.count("/items") == 0


def test_the_next_address_is_tried_when_one_does_not_answer(
    fake: FakeServer, open_session: OpenSession
) -> None:
    fake.route("GET", "/items", lambda _: Response(json={"code": 0}))
    spec = {"config": {"base_url": fake.url.replace("127.0.0.1", "erp.test")}}
    session = open_session(spec, resolve=lambda *_: ["127.0.0.9", "127.0.0.1"])
    session.client.call(Request(get="/items"), read=True)
    assert fake.count("/items") == 1


def test_a_chinese_host_name_is_one_host(fake: FakeServer, open_session: OpenSession) -> None:
    fake.route("GET", "/items", lambda _: Response(json={"code": 0}))
    spec = {"config": {"base_url": fake.url.replace("127.0.0.1", "中文.test")}}
    session = open_session(spec, resolve=lambda *_: ["127.0.0.1"])
    session.client.call(Request(get="/items"), read=True)
    assert fake.requests[0].headers["host"].startswith("xn--")


def test_a_path_from_data_cannot_leave_the_host(
    fake: FakeServer, open_session: OpenSession
) -> None:
    session = open_session()
    for url in ("http://evil.example/x", "http://127.0.0.1:1/x"):
        with pytest.raises(ContractBroken) as caught:
            session.client.call(Request(get="{url}"), {"url": url}, read=True)
        assert caught.value.code == "egress.foreign_address"


def test_proxies_and_cookies_of_the_environment_play_no_part(
    fake: FakeServer, open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    fake.route("GET", "/items", lambda _: Response(json={"code": 0}, headers={"Set-Cookie": "a=b"}))
    session = open_session()
    for _ in range(2):
        session.client.call(Request(get="/items"), read=True)
    assert "cookie" not in fake.requests[-1].headers
