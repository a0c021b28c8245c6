"""Every way of proving who we are, and what happens when it is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.sdk.auth import TokenCache
from hub.sdk.errors import AuthError, ConfigError, ContractBroken, HubError, TransientError
from hub.sdk.manifest import Request
from hub.sdk.session import Session
from hub.sdk.testing import FakeClock, FakeServer, Fault, Response
from hub.sdk.testing import Request as Seen

OpenSession = Callable[..., Session]

READ = Request(get="/items", params={"b": "2", "a": "x y"})
WRITE = Request(post="/items", body={"n": 1})
LOGIN = {
    "kind": "token",
    "login": {
        "request": {"get": "/login", "params": {"app_secret": "{secret}"}},
        "token": "token.id",
        "ttl": "token.life",
    },
    "send": {"query": "token"},
    "ttl": "2h",
}


class Door:
    """Gives tokens t1, t2 …; lets in who has the newest one."""

    def __init__(self, fake: FakeServer, secret: str) -> None:
        self.fake, self.secret = fake, secret
        self.given = 0
        self.refuse_all = False
        fake.route("GET", "/login", self.login)
        fake.route("GET", "/items", self.items)
        fake.route("POST", "/items", self.items)

    def login(self, request: Seen) -> Response:
        if request.query.get("app_secret") != self.secret:
            return Response(json={"code": 3, "msg": "bad secret " + self.secret})
        self.given += 1
        return Response(json={"code": 0, "token": {"id": f"t{self.given}", "life": "600"}})

    def items(self, request: Seen) -> Response:
        if self.refuse_all or request.query.get("token") != f"t{self.given}":
            return Response(json={"code": 2, "msg": "token invalid"})
        return Response(json={"code": 0, "rows": []})


@pytest.fixture
def door(fake: FakeServer, canary: str) -> Door:
    return Door(fake, canary)


@pytest.fixture
def seen(fake: FakeServer) -> Callable[..., Seen]:
    """What arrived for one call made with the given auth."""
    fake.route("GET", "/items", lambda _: Response(json={"code": 0}))

    def call(session: Session) -> Seen:
        session.client.call(READ, read=True)
        return fake.requests[-1]

    return call


# --- static credentials -----------------------------------------------------------------------


def test_an_api_key_travels_in_a_header_or_the_query(
    seen: Callable[..., Seen], open_session: OpenSession, canary: str
) -> None:
    auth = {"kind": "api_key", "header": "X-Key", "value": "{secret}"}
    assert seen(open_session(auth=auth)).headers["x-key"] == canary
    auth = {"kind": "api_key", "query": "key", "value": "{secret}"}
    assert seen(open_session(auth=auth)).query["key"] == canary


def test_bearer_and_basic_travel_as_authorization(
    seen: Callable[..., Seen], open_session: OpenSession, canary: str
) -> None:
    auth: dict[str, Any] = {"kind": "bearer", "token": "{secret}"}
    assert seen(open_session(auth=auth)).headers["authorization"] == f"Bearer {canary}"
    auth = {"kind": "basic", "username": "王", "password": "{secret}"}
    encoded = base64.b64encode(f"王:{canary}".encode()).decode()
    assert seen(open_session(auth=auth)).headers["authorization"] == f"Basic {encoded}"


def test_a_refused_static_credential_is_not_tried_again(
    fake: FakeServer, open_session: OpenSession
) -> None:
    fake.misbehave(Fault.STATUS, "/items", status=401)
    session = open_session(auth={"kind": "bearer", "token": "{secret}"})
    with pytest.raises(AuthError, match="set-secret"):
        session.client.call(READ, read=True)
    assert fake.count("/items") == 1


def test_an_empty_credential_is_refused_before_the_first_call(open_session: OpenSession) -> None:
    config = {"base_url": "url", "token": {"type": "secret", "optional": True}}
    with pytest.raises(AuthError, match="token"):
        open_session(
            {"config": {"base_url": "http://127.0.0.1:1", "token": ""}},
            config={**config, "token": {"type": "str", "optional": True}},
            auth={"kind": "bearer"},
        )


# --- signatures -------------------------------------------------------------------------------


def test_a_signature_covers_the_query_as_sent(
    seen: Callable[..., Seen], open_session: OpenSession, canary: str
) -> None:
    auth = {
        "kind": "hmac",
        "secret": "{secret}",
        "encoding": "base64",
        "timestamp": "ms",
        "sign": "{method}\n{path}\n{query}\n{timestamp}",
        "headers": {"X-Time": "{timestamp}"},
        "params": {"ts": "{timestamp}", "sign": "{signature}"},
    }
    request = seen(open_session(auth=auth))
    stamp = request.headers["x-time"]
    text = f"GET\n/items\nb=2&a=x%20y&ts={stamp}\n{stamp}"
    digest = hmac.new(canary.encode(), text.encode(), hashlib.sha256).digest()
    assert stamp == "1736125200000"
    assert request.query["sign"] == base64.b64encode(digest).decode()


def test_a_signature_covers_the_body(
    fake: FakeServer, open_session: OpenSession, canary: str
) -> None:
    fake.route("POST", "/items", lambda _: Response(json={"code": 0}))
    auth = {
        "kind": "hmac",
        "secret": "{secret}",
        "algorithm": "md5",
        "encoding": "HEX",
        "sign": "{body_sha256}{nonce}",
        "headers": {"X-Nonce": "{nonce}", "X-Sign": "{signature}"},
    }
    open_session(auth=auth).client.call(WRITE, read=False)
    request = fake.requests[-1]
    text = hashlib.sha256(request.body).hexdigest() + request.headers["x-nonce"]
    expected = hmac.new(canary.encode(), text.encode(), hashlib.md5).hexdigest().upper()
    assert request.headers["x-sign"] == expected


# --- fetched tokens ---------------------------------------------------------------------------


def test_a_token_is_fetched_once_and_used_until_shortly_before_its_end(
    door: Door, open_session: OpenSession, clock: FakeClock
) -> None:
    session = open_session(auth=LOGIN)
    for _ in range(3):
        session.client.call(READ, read=True)
    clock.advance(539)
    session.client.call(READ, read=True)
    assert door.given == 1
    clock.advance(2)
    session.client.call(READ, read=True)
    assert door.given == 2


@pytest.mark.parametrize(("request_", "read"), [(READ, True), (WRITE, False)])
def test_a_refused_token_is_replaced_once(
    door: Door, open_session: OpenSession, request_: Request, read: bool
) -> None:
    session = open_session(auth=LOGIN)
    session.client.call(READ, read=True)
    door.given += 1  # somebody else logged in: ours is void
    session.client.call(request_, read=read)
    assert door.fake.count("/login") == 2


def test_a_token_refused_twice_is_an_auth_error(door: Door, open_session: OpenSession) -> None:
    door.refuse_all = True
    with pytest.raises(AuthError) as caught:
        open_session(auth=LOGIN).client.call(READ, read=True)
    assert caught.value.code == "auth.refused"
    assert (door.fake.count("/login"), door.fake.count("/items")) == (2, 2)


def test_a_refused_login_is_an_auth_error_without_the_secret(
    door: Door, open_session: OpenSession, canary: str
) -> None:
    door.secret = "another " + canary
    with pytest.raises(AuthError) as caught:
        open_session(auth=LOGIN).client.call(READ, read=True)
    assert caught.value.code == "auth.login_refused"
    assert canary not in str(caught.value)


def test_a_login_that_is_out_of_order_is_tried_again_later(
    door: Door, open_session: OpenSession
) -> None:
    door.fake.misbehave(Fault.STATUS, "/login", times=None, status=503)
    with pytest.raises(TransientError):
        open_session(auth=LOGIN).client.call(READ, read=True)
    assert door.fake.count("/login") == 3
    with pytest.raises(TransientError):
        open_session(auth=LOGIN).client.call(WRITE, read=False)
    assert door.fake.count("/items") == 0


def test_a_login_without_a_token_in_the_answer_is_an_auth_error(
    fake: FakeServer, open_session: OpenSession
) -> None:
    fake.route("GET", "/login", lambda _: Response(json={"code": 0, "token": {"id": " "}}))
    with pytest.raises(AuthError, match=r"auth\.login\.token"):
        open_session(auth=LOGIN).client.call(READ, read=True)


def test_parallel_callers_log_in_once(door: Door, open_session: OpenSession) -> None:
    session = open_session(auth=LOGIN)
    door.fake.misbehave(Fault.DELAY, "/login", seconds=0.1)
    run_parallel(lambda: session.client.call(READ, read=True), 8)
    assert door.fake.count("/login") == 1


def test_parallel_callers_share_a_failed_login(door: Door, open_session: OpenSession) -> None:
    door.secret = "another"
    session = open_session(auth=LOGIN)
    door.fake.misbehave(Fault.DELAY, "/login", seconds=0.3)

    def call() -> None:
        with pytest.raises(AuthError):
            session.client.call(READ, read=True)

    run_parallel(call, 6)
    assert door.fake.count("/login") == 1


def run_parallel(work: Callable[[], object], number: int) -> None:
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (reported below)
            failures.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_two_connections_of_one_account_share_a_token(
    door: Door, open_session: OpenSession, clock: FakeClock
) -> None:
    cache = TokenCache(clock)
    for _ in range(2):
        open_session(cache=cache, auth=LOGIN).client.call(READ, read=True)
    assert door.given == 1
    cache.forget(open_session(auth=LOGIN).connection.account)
    open_session(cache=cache, auth=LOGIN).client.call(READ, read=True)
    assert door.given == 2


HOOKS = """
from hub.sdk.manifest import Request

def login(call, config):
    reply = call(Request(get="/login", params={"app_secret": "{secret}"}))
    return reply.body["token"]["id"], 60

def broken(call, config):
    raise KeyError(config["secret"])
"""


def test_a_login_may_be_a_hook(door: Door, open_session: OpenSession, tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(HOOKS)
    auth = {**LOGIN, "login": "hooks.login"}
    open_session(folder=tmp_path, auth=auth).client.call(READ, read=True)
    assert door.given == 1


def test_a_broken_login_hook_is_named_without_its_secret(
    open_session: OpenSession, tmp_path: Path, canary: str
) -> None:
    (tmp_path / "hooks.py").write_text(HOOKS)
    session = open_session(folder=tmp_path, auth={**LOGIN, "login": "hooks.broken"})
    with pytest.raises(ContractBroken, match=r"hooks\.broken failed \(KeyError\)") as caught:
        session.client.call(READ, read=True)
    assert canary not in str(caught.value)


def test_a_missing_hook_is_a_setting_with_a_suggestion(
    open_session: OpenSession, tmp_path: Path
) -> None:
    (tmp_path / "hooks.py").write_text(HOOKS)
    session = open_session(folder=tmp_path, auth={**LOGIN, "login": "hooks.logn"})
    with pytest.raises(ConfigError, match="did you mean 'login'"):
        session.client.call(READ, read=True)


# --- OAuth 2 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["header", "body"])
def test_oauth2_fetches_a_bearer_token_with_client_credentials(
    fake: FakeServer, open_session: OpenSession, canary: str, place: str
) -> None:
    fake.route("POST", "/oauth", lambda _: Response(json={"access_token": "abc", "expires_in": 60}))
    fake.route("GET", "/items", lambda _: Response(json={"code": 0}))
    auth = {
        "kind": "oauth2",
        "token_url": fake.url + "/oauth",
        "client_id": "hub",
        "client_secret": "{secret}",
        "scope": "read write",
        "credentials_in": place,
    }
    open_session(auth=auth).client.call(READ, read=True)
    login, call = fake.requests
    assert b"grant_type=client_credentials" in login.body
    assert b"scope=read+write" in login.body
    assert ("authorization" in login.headers) is (place == "header")
    assert (b"client_secret=" in login.body) is (place == "body")
    assert call.headers["authorization"] == "Bearer abc"


def test_a_refused_oauth2_client_is_an_auth_error(
    fake: FakeServer, open_session: OpenSession
) -> None:
    answer = {"error": "invalid_client", "error_description": "unknown client"}
    fake.route("POST", "/oauth", lambda _: Response(status=400, json=answer))
    auth = {
        "kind": "oauth2",
        "token_url": fake.url + "/oauth",
        "client_id": "hub",
        "client_secret": "{secret}",
    }
    with pytest.raises(HubError) as caught:
        open_session(auth=auth).client.call(READ, read=True)
    assert caught.value.code == "auth.login_refused"
    assert "invalid_client unknown client" in str(caught.value)
