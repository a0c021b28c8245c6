"""Every way an exchange can go wrong, for reads and for writes."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from hub.sdk.errors import (
    AuthError,
    ConfigError,
    ContractBroken,
    HubError,
    OutcomeUnknown,
    TransientError,
)
from hub.sdk.manifest import Request
from hub.sdk.records import Outcome, Write
from hub.sdk.session import Session
from hub.sdk.testing import FakeClock, FakeServer, Fault, Response

OpenSession = Callable[..., Session]

READ = Request(get="/items")
WRITE = Request(post="/items", body={"a": 1})
QUICK = {"deadline": 0.4, "connect": 0.4, "tries": 2}


@pytest.fixture(autouse=True)
def items(fake: FakeServer) -> None:
    answer = Response(json={"code": 0, "rows": [{"id": "甲" * 40}], "id": 7})
    fake.route("GET", "/items", lambda _: answer)
    fake.route("POST", "/items", lambda _: answer)


BROKEN_EXCHANGES = [
    Fault.RESET,
    Fault.EARLY_CLOSE,
    Fault.CUT_BODY,
    Fault.CUT_CHUNK,
    Fault.GARBAGE,
    Fault.HUGE_HEADER,
    Fault.SILENCE,
    Fault.DRIP,
    Fault.SLOW_HEADERS,
]


@pytest.mark.parametrize("fault", BROKEN_EXCHANGES)
def test_a_read_is_tried_again_after_a_broken_exchange(
    fake: FakeServer, open_session: OpenSession, fault: Fault
) -> None:
    fake.misbehave(fault, "/items")
    reply = open_session(limits=QUICK).client.call(READ, read=True)
    assert reply.body["id"] == 7
    assert fake.count("/items") == 2


@pytest.mark.parametrize("fault", BROKEN_EXCHANGES)
def test_a_read_that_keeps_breaking_ends_transient(
    fake: FakeServer, open_session: OpenSession, clock: FakeClock, fault: Fault
) -> None:
    fake.misbehave(fault, "/items", times=None)
    with pytest.raises(TransientError) as caught:
        open_session(limits=QUICK).client.call(READ, read=True)
    assert caught.value.code == "http.no_answer"
    assert fake.count("/items") == 2
    assert len(clock.slept) == 1


@pytest.mark.parametrize("fault", [*BROKEN_EXCHANGES, Fault.LOST_ANSWER, Fault.TIMEOUT_AFTER])
def test_a_write_whose_answer_is_lost_is_unknown_and_not_sent_again(
    fake: FakeServer, open_session: OpenSession, fault: Fault
) -> None:
    fake.misbehave(fault, "/items")
    with pytest.raises(OutcomeUnknown) as caught:
        open_session(limits=QUICK).client.call(WRITE, read=False)
    assert caught.value.code == "http.unknown"
    assert fake.count("/items") == 1


@pytest.mark.parametrize("fault", [Fault.DRIP, Fault.SLOW_HEADERS, Fault.SILENCE])
def test_the_deadline_bounds_the_whole_call(
    fake: FakeServer, open_session: OpenSession, fault: Fault
) -> None:
    fake.misbehave(fault, "/items", **({} if fault is Fault.SILENCE else {"interval": 0.05}))
    session = open_session(limits={**QUICK, "tries": 1})
    started = time.monotonic()
    with pytest.raises(TransientError):
        session.client.call(READ, read=True)
    assert time.monotonic() - started < 1.0


UNREADABLE: list[tuple[Fault | str, dict[str, Any], str]] = [
    (Fault.HTML_200, {}, "http.media_type"),
    (Fault.HTML_200, {"media_type": "application/json"}, "http.not_json"),
    (Fault.GBK_JSON, {}, "http.undecodable"),
    (Fault.GBK_JSON, {"media_type": "application/json; charset=gbk"}, "http.charset"),
    (Fault.GZIP_BOMB, {}, "http.encoded"),
    (Fault.EMPTY_BODY, {}, "http.no_body"),
]


@pytest.mark.parametrize(("fault", "options", "code"), UNREADABLE)
def test_an_unreadable_success_breaks_the_contract_of_a_read(
    fake: FakeServer, open_session: OpenSession, fault: Fault, options: dict[str, Any], code: str
) -> None:
    fake.misbehave(fault, "/items", **options)
    with pytest.raises(ContractBroken) as caught:
        open_session().client.call(READ, read=True)
    assert caught.value.code == code
    assert fake.count("/items") == 1


@pytest.mark.parametrize(("fault", "options", "code"), UNREADABLE)
def test_an_unreadable_success_leaves_the_outcome_of_a_write_unknown(
    fake: FakeServer, open_session: OpenSession, fault: Fault, options: dict[str, Any], code: str
) -> None:
    fake.misbehave(fault, "/items", **options)
    with pytest.raises(OutcomeUnknown):
        open_session().client.call(WRITE, read=False)
    assert fake.count("/items") == 1


def test_a_gzip_bomb_is_never_inflated(fake: FakeServer, open_session: OpenSession) -> None:
    fake.misbehave(Fault.GZIP_BOMB, "/items")
    session = open_session()
    fake.misbehave(Fault.EMPTY_BODY, "/other")  # the bomb itself is built by the server before
    tracemalloc.start()
    try:
        with pytest.raises(ContractBroken):
            session.client.call(READ, read=True)
        assert tracemalloc.get_traced_memory()[0] < 20_000_000
    finally:
        tracemalloc.stop()
    assert fake.requests[-1].headers["accept-encoding"] == "identity"


def test_a_body_over_the_cap_is_cut_off(fake: FakeServer, open_session: OpenSession) -> None:
    fake.route("GET", "/big", lambda _: Response(body=b'"' + b"x" * 300_000 + b'"'))
    session = open_session(limits={"max_bytes": 100_000})
    with pytest.raises(ContractBroken) as caught:
        session.client.call(Request(get="/big"), read=True)
    assert caught.value.code == "http.too_large"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" * 10_000 + b"]" * 10_000, "http.too_deep"),
        (b'{"code": 0, "n": NaN}', "http.not_json"),
        (b'{"code": 0, "n": 1e999999999999999999999}', "http.number_range"),
        (b'{"code": 0, "s": "\xff"}', "http.undecodable"),
        (b'{"code": 0, "s": "\\ud800"}', "http.not_json"),
        (b'{"code": 0} {"code": 0}', "http.not_json"),
        (b'{"other": 1}', "http.no_sign_of_success"),
        (b"null", "http.no_sign_of_success"),
        (b'{"code": true}', "http.vendor_error"),
    ],
)
def test_a_strange_body_is_refused_without_being_shown(
    fake: FakeServer, open_session: OpenSession, body: bytes, code: str
) -> None:
    fake.route("GET", "/odd", lambda _: Response(body=body))
    with pytest.raises(ContractBroken) as caught:
        open_session().client.call(Request(get="/odd"), read=True)
    assert caught.value.code == code
    assert len(str(caught.value)) < 300


def test_a_byte_order_mark_and_duplicate_keys_are_accepted(
    fake: FakeServer, open_session: OpenSession
) -> None:
    fake.route("GET", "/odd", lambda _: Response(body=b'\xef\xbb\xbf{"code": 5, "code": 0}'))
    assert open_session().client.call(Request(get="/odd"), read=True).body == {"code": 0}


def test_a_declared_charset_is_decoded(fake: FakeServer, open_session: OpenSession) -> None:
    body = '{"code": 0, "名": "上海"}'.encode("gb18030")
    media = "application/json; charset=GB18030"
    fake.route("GET", "/odd", lambda _: Response(body=body, media_type=media))
    session = open_session(charset="gb18030")
    assert session.client.call(Request(get="/odd"), read=True).body["名"] == "上海"


def test_redirects_are_not_followed(fake: FakeServer, open_session: OpenSession) -> None:
    fake.misbehave(Fault.REDIRECT_LOOP, "/items", times=None)
    session = open_session()
    with pytest.raises(ContractBroken) as caught:
        session.client.call(READ, read=True)
    assert caught.value.code == "http.redirect"
    with pytest.raises(OutcomeUnknown):
        session.client.call(WRITE, read=False)
    assert fake.count("/items") == 2


def test_a_moved_address_of_a_write_is_a_setting_to_change(
    fake: FakeServer, open_session: OpenSession
) -> None:
    fake.misbehave(Fault.REDIRECT_LOOP, "/items", status=308)
    with pytest.raises(ConfigError, match="base_url"):
        open_session().client.call(WRITE, read=False)


# --- statuses and business codes --------------------------------------------------------------

STATUSES: list[tuple[int, type[HubError], str]] = [
    (400, ContractBroken, "http.rejected"),
    (401, AuthError, "auth.refused"),
    (403, AuthError, "http.rejected"),
    (404, ContractBroken, "http.rejected"),
    (408, TransientError, "http.unknown"),
    (409, ContractBroken, "http.rejected"),
    (429, TransientError, "http.throttled"),
    (500, TransientError, "http.unknown"),
    (502, TransientError, "http.unknown"),
    (503, TransientError, "http.unknown"),
]


@pytest.mark.parametrize(("status", "read_error", "write_code"), STATUSES)
def test_a_status_names_its_recovery(
    fake: FakeServer,
    open_session: OpenSession,
    status: int,
    read_error: type[HubError],
    write_code: str,
) -> None:
    fake.misbehave(Fault.STATUS, "/items", times=None, status=status)
    session = open_session()
    with pytest.raises(HubError) as read:
        session.client.call(READ, read=True)
    assert type(read.value) is read_error
    reads = fake.count("/items")
    assert reads == (3 if read_error is TransientError else 1)
    with pytest.raises(HubError) as written:
        session.client.call(WRITE, read=False)
    assert written.value.code == write_code
    assert fake.count("/items") == reads + 1


@pytest.mark.parametrize(
    ("code", "read_error", "write_code"),
    [
        (429, TransientError, "http.throttled"),
        (50, TransientError, "http.unknown"),
        (77, ConfigError, "http.permanent"),
        (5, ContractBroken, "http.rejected"),
        (9, ContractBroken, "http.duplicate"),
    ],
)
def test_an_error_code_inside_a_200_names_its_recovery(
    fake: FakeServer,
    open_session: OpenSession,
    code: int,
    read_error: type[HubError],
    write_code: str,
) -> None:
    answer = Response(json={"code": code, "msg": "客户编码不存在"})
    fake.route("GET", "/coded", lambda _: answer)
    fake.route("POST", "/coded", lambda _: answer)
    session = open_session()
    with pytest.raises(HubError) as read:
        session.client.call(Request(get="/coded"), read=True)
    assert type(read.value) is read_error
    assert read.value.params["vendor_code"] == str(code)
    assert "客户编码不存在" in str(read.value)
    with pytest.raises(HubError) as written:
        session.client.call(Request(post="/coded", body={}), read=False)
    assert written.value.code == write_code


def test_a_write_that_could_not_be_sent_is_transient(
    fake: FakeServer, open_session: OpenSession
) -> None:
    session = open_session()
    fake.stop()
    with pytest.raises(TransientError) as caught:
        session.client.call(WRITE, read=False)
    assert caught.value.code == "http.unreachable"
    assert "refused" in str(caught.value)
    assert fake.url.removeprefix("http://") in str(caught.value)


def test_a_created_answer_without_body_is_a_success_of_a_write(
    fake: FakeServer, open_session: OpenSession
) -> None:
    fake.route("PUT", "/items/{id}", lambda _: Response(status=204, body=b""))
    reply = open_session().client.call(Request(put="/items/1", body={}), read=False)
    assert reply.body is None


# --- waiting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_obeyed(
    fake: FakeServer, open_session: OpenSession, clock: FakeClock, status: int
) -> None:
    fake.misbehave(Fault.STATUS, "/items", status=status, retry_after=17)
    open_session().client.call(READ, read=True)
    assert 17 <= sum(clock.slept) <= 18


def test_retry_after_as_a_date_is_obeyed(
    fake: FakeServer, open_session: OpenSession, clock: FakeClock
) -> None:
    fake.misbehave(Fault.STATUS, "/items", retry_after="Mon, 06 Jan 2025 01:01:30 GMT")
    open_session().client.call(READ, read=True)
    assert 90 <= sum(clock.slept) <= 91


def test_a_long_retry_after_is_raised_and_pauses_the_account(
    fake: FakeServer, open_session: OpenSession, clock: FakeClock
) -> None:
    fake.misbehave(Fault.TOO_MANY_REQUESTS, "/items", retry_after=3600)
    session = open_session()
    with pytest.raises(TransientError) as caught:
        session.client.call(READ, read=True)
    assert caught.value.retry_after == 3600
    with pytest.raises(TransientError) as paused:
        session.client.call(WRITE, read=False)
    assert paused.value.code == "http.paused"
    assert fake.count("/items") == 1
    assert clock.slept == []


def test_a_throttled_write_is_not_done_and_names_the_wait(
    fake: FakeServer, open_session: OpenSession
) -> None:
    fake.misbehave(Fault.TOO_MANY_REQUESTS, "/items", retry_after=5)
    with pytest.raises(TransientError) as caught:
        open_session().client.call(WRITE, read=False)
    assert caught.value.retry_after == 5
    assert fake.count("/items") == 1


def test_the_waits_between_tries_grow_and_are_jittered(
    fake: FakeServer, open_session: OpenSession, clock: FakeClock
) -> None:
    fake.misbehave(Fault.STATUS, "/items", times=None, status=500)
    with pytest.raises(TransientError):
        open_session(limits={"tries": 6}).client.call(READ, read=True)
    assert len(clock.slept) == 5
    assert all(wait <= 0.5 * 2**n for n, wait in enumerate(clock.slept))
    assert max(clock.slept) > 1.0


def test_the_sink_turns_a_lost_answer_into_an_unknown_receipt(
    fake: FakeServer, open_session: OpenSession
) -> None:
    orders: list[Any] = []

    def add(request: Any) -> Response:
        orders.append(request.json())
        return Response(json={"code": 0, "id": 7})

    fake.route("POST", "/orders", add)
    fake.misbehave(Fault.LOST_ANSWER, "/orders")
    receipts = open_session().sink("orders").write([Write("SO-1", {"ref": "SO-1"})])
    assert [receipt.outcome for receipt in receipts] == [Outcome.UNKNOWN]
    assert orders == [{"ref": "SO-1"}]
