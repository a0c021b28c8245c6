"""A canary in every secret: it reaches the vendor, and no message, log or listing."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from hub.sdk.connection import blot
from hub.sdk.errors import HubError
from hub.sdk.http import quiet_http_logs
from hub.sdk.manifest import Request
from hub.sdk.session import Session
from hub.sdk.testing import FakeServer, Fault, Response

OpenSession = Callable[..., Session]

AUTHS: list[dict[str, Any]] = [
    {"kind": "api_key", "query": "key", "value": "{secret}"},
    {"kind": "api_key", "header": "X-Key", "value": "{secret}"},
    {"kind": "bearer", "token": "{secret}"},
    {"kind": "basic", "username": "hub", "password": "{secret}"},
    {
        "kind": "token",
        "login": {
            "request": {"get": "/login", "params": {"s": "{secret}"}},
            "token": "token",
        },
        "send": {"query": "token"},
    },
]


@pytest.fixture
def http_loggers() -> Iterator[None]:
    """The HTTP libraries' loggers as they are before anybody silences them; put back after."""
    names = ("httpx", "httpcore", "hub.sdk.http")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def echo(canary: str) -> Callable[[Any], Response]:
    """A vendor that repeats everything it was sent in its error message."""

    def answer(request: Any) -> Response:
        heard = f"{request.target} {dict(request.query)} {dict(request.headers)} {canary}"
        return Response(status=400, json={"code": 5, "msg": heard})

    return answer


@pytest.mark.parametrize("auth", AUTHS, ids=lambda auth: auth["kind"])
@pytest.mark.parametrize("read", [True, False])
def test_a_vendor_that_echoes_everything_reveals_no_secret(
    fake: FakeServer,
    open_session: OpenSession,
    canary: str,
    auth: dict[str, Any],
    read: bool,
    caplog: pytest.LogCaptureFixture,
    http_loggers: None,
) -> None:
    caplog.set_level(logging.DEBUG)
    quiet_http_logs()
    logging.getLogger("hub.sdk.http").setLevel(logging.DEBUG)
    fake.route("GET", "/login", lambda _: Response(json={"code": 0, "token": "tok-" + canary}))
    fake.route("POST", "/echo/{s}", echo(canary))
    session = open_session(auth=auth)
    request = Request(post="/echo/{secret}", params={"x": "{secret}"}, body={"y": "{secret}"})
    with pytest.raises(HubError) as caught:
        session.client.call(request, read=read)
    error = caught.value
    trace = "".join(traceback.format_exception(error))
    shown = [str(error), error.message("zh"), repr(error), trace, repr(session.connection)]
    shown += [str(error.params), caplog.text, *map(str, caplog.records)]
    for text in shown:
        for form in (canary, quote(canary, safe=""), quote(canary)):
            assert form not in text
    assert "hub.sdk.http" in caplog.text
    assert "/echo/***" in caplog.text


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.GARBAGE, Fault.SILENCE, Fault.HTML_200])
def test_a_broken_exchange_reveals_no_secret(
    fake: FakeServer, open_session: OpenSession, canary: str, fault: Fault
) -> None:
    fake.route("GET", "/items", lambda _: Response(json={"code": 0}))
    fake.misbehave(fault, "/items", times=None)
    limits = {"deadline": 0.3, "connect": 0.3, "tries": 1}
    session = open_session(auth=AUTHS[0], limits=limits)
    for read in (True, False):
        with pytest.raises(HubError) as caught:
            session.client.call(Request(get="/items"), read=read)
        trace = "".join(traceback.format_exception(caught.value))
        assert canary not in trace
        assert quote(canary, safe="") not in trace
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


def test_the_libraries_own_request_log_is_silenced(
    fake: FakeServer,
    open_session: OpenSession,
    canary: str,
    caplog: pytest.LogCaptureFixture,
    http_loggers: None,
) -> None:
    fake.route("GET", "/items", lambda _: Response(json={"code": 0}))
    session = open_session(auth=AUTHS[0])
    with caplog.at_level(logging.INFO):
        session.client.call(Request(get="/items"), read=True)
        assert quote(canary, safe="") in caplog.text  # the leak this guards against
        caplog.clear()
        quiet_http_logs()
        session.client.call(Request(get="/items"), read=True)
    assert "/items" not in caplog.text


def test_a_secret_in_a_path_is_not_named(
    fake: FakeServer, open_session: OpenSession, canary: str
) -> None:
    with pytest.raises(HubError) as caught:
        open_session().client.call(Request(get="/by/{secret}"), read=True)
    assert "/by/***" in str(caught.value)


def test_longer_secrets_are_blotted_first() -> None:
    assert blot("abc abcd", ["abc", "abcd"]) == "*** ***"
    assert blot("nothing here", ["", "abc"]) == "nothing here"
