"""What a verified webhook is called, what it is answered, and what may be declared about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub.sdk.errors import ConfigError, ContractBroken
from hub.sdk.hooks import event_of
from tests.sdk.hooked import NOW, arrival, connection_with, mac, manifest, receiver, refused

BODY = '{"id": 1, "name": "上海"}'.encode()
PLAIN = {"kind": "hmac", "header": "X-Signature"}
STAMPED = {**PLAIN, "sign": "{timestamp}.{body}", "timestamp": "X-Time"}

# --- a connector's own check ------------------------------------------------------------------

OWN = """
from hub.sdk.errors import AuthError, ContractBroken

def check(config, arrival, now):
    kind = arrival.headers["x-kind"]
    if kind == "bytes":
        return b'{"decrypted": "\\xe4\\xb8\\x8a"}'
    if kind == "auth":
        raise AuthError("hook.signature", connection="own")
    if kind == "broken":
        raise ContractBroken("hook.no_data", path="x", found="y")
    if kind == "bug":
        raise ZeroDivisionError(config["hook_secret"])
    return {"true": True, "false": False, "none": None, "one": 1, "text": "yes"}[kind]
"""


@pytest.fixture
def own(tmp_path: Path) -> Any:
    (tmp_path / "hooks.py").write_text(OWN, encoding="utf-8")
    return receiver("hooks.check", folder=tmp_path, secret="canary")


def test_a_connector_may_decrypt_a_body(own: Any) -> None:
    found = own.receive(arrival(b"<xml/>", x_kind="bytes", content_type="text/xml"), NOW)
    assert found.body == '{"decrypted": "上"}'.encode()
    assert found.media_type == "application/json"


def test_a_connector_may_say_yes(own: Any) -> None:
    assert own.receive(arrival(BODY, x_kind="true"), NOW).body == BODY


@pytest.mark.parametrize("kind", ["false", "none", "one", "text", "auth"])
def test_anything_but_true_or_bytes_is_a_refusal(own: Any, kind: str) -> None:
    with refused():
        own.receive(arrival(BODY, x_kind=kind), NOW)


def test_a_connectors_own_errors_keep_their_meaning(own: Any) -> None:
    with pytest.raises(ContractBroken):
        own.receive(arrival(BODY, x_kind="broken"), NOW)


@pytest.mark.parametrize(("headers", "problem"), [({"x_kind": "bug"}, "Zero"), ({}, "KeyError")])
def test_a_check_that_breaks_is_a_refusal_without_details(
    own: Any, headers: dict[str, str], problem: str
) -> None:
    with refused("hook.own") as caught:
        own.receive(arrival(BODY, **headers), NOW)
    assert problem in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_check_that_does_not_exist_is_told_when_the_receiver_is_made(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(OWN, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        receiver("hooks.chek", folder=tmp_path)
    assert "check" in str(caught.value)


# --- the name of an event ---------------------------------------------------------------------

TOKEN = {"kind": "token", "query": "t"}
WITH_TOKEN = {"t": "s3cret"}


def named(body: bytes, event_id: dict[str, str] | None = None, **headers: str) -> str:
    hook = receiver(TOKEN, **({"event_id": event_id} if event_id else {}))
    return hook.receive(arrival(body, WITH_TOKEN, **headers), NOW).event_id


def test_an_event_is_named_by_a_header_or_a_field() -> None:
    assert named(b"{}", {"header": "X-Id"}, x_id="e-1") == "e-1"
    assert named(b'{"event": {"id": "e-2"}}', {"path": "event.id"}) == "e-2"
    assert named(b'{"id": 12345678901234567890}', {"path": "id"}) == "12345678901234567890"


@pytest.mark.parametrize("value", [b"null", b"true", b"1.5", b"[1]", b'{"a": 1}', b'""'])
def test_what_names_no_event_leaves_it_to_the_content(value: bytes) -> None:
    one, two = (b'{"id": %b, "n": %d}' % (value, n) for n in (1, 2))
    names = {named(one, {"path": "id"}), named(two, {"path": "id"}), named(one)}
    assert len(names) == 2
    assert all(name.startswith("sha256:") for name in names)


def test_the_content_names_an_event_without_an_id() -> None:
    assert named(b'{"a": 1}') == named(b'{"a": 1}') != named(b'{"a": 2}')


def test_a_signed_stamp_is_part_of_the_name_by_content() -> None:
    hook = receiver(STAMPED)
    names = set()
    for stamp in (str(int(NOW)), str(int(NOW) - 1), str(int(NOW))):
        sent = arrival(BODY, x_time=stamp, x_signature=mac(f"{stamp}.".encode() + BODY))
        names.add(hook.receive(sent, NOW).event_id)
    assert len(names) == 2


@pytest.mark.parametrize(
    "given_id", ["x" * 201, "a\0b", "a\nb", "\ud800", "\u200b", "e\x7f", "\ufdd0"]
)
def test_an_id_that_no_index_likes_is_kept_as_a_digest(given_id: str) -> None:
    found = named(b"{}", {"header": "X-Id"}, x_id=given_id)
    assert found.startswith("sha256:")
    assert len(found) == 71
    assert found == named(b'{"other": 1}', {"header": "X-Id"}, x_id=given_id)
    assert found != named(b"{}", {"header": "X-Id"}, x_id=given_id + "x")


def test_the_longest_plain_id_is_kept() -> None:
    assert named(b"{}", {"header": "X-Id"}, x_id="x" * 200) == "x" * 200


# --- challenges -------------------------------------------------------------------------------


def test_a_get_with_the_token_gets_its_challenge_back() -> None:
    hook = receiver(PLAIN, challenge={"query": "echostr", "token": "verify_token"})
    assert hook.greets
    assert hook.greet({"verify_token": "s3cret", "echostr": "回声"}) == "回声"
    for wrong in ("", "other", "\ud800"):
        with refused():
            hook.greet({"verify_token": wrong, "echostr": "x"})
    with refused():
        hook.greet({"echostr": "x"})


def test_where_no_get_is_declared_none_is_answered() -> None:
    posted = {"path": "challenge", "match": {"path": "type", "in": ["url_verification"]}}
    for hook in (receiver(PLAIN), receiver(PLAIN, challenge=posted)):
        assert not hook.greets
        with pytest.raises(ConfigError) as caught:
            hook.greet({})
        assert caught.value.code == "hook.no_challenge"


def asked(body: bytes) -> str | None:
    posted = {"path": "challenge", "match": {"path": "type", "in": ["url_verification"]}}
    return receiver(TOKEN, challenge=posted).receive(arrival(body, WITH_TOKEN), NOW).challenge


def test_a_challenge_in_the_body_is_given_back() -> None:
    assert asked(b'{"type": "url_verification", "challenge": "abc"}') == "abc"
    assert asked(b'{"type": "url_verification", "challenge": 17}') == "17"
    assert asked(b'{"type": "event", "challenge": "abc"}') is None


@pytest.mark.parametrize("challenge", [b"null", b"[]", b"{}"])
def test_a_challenge_that_is_none_is_an_error(challenge: bytes) -> None:
    with pytest.raises(ContractBroken):
        asked(b'{"type": "url_verification", "challenge": %b}' % challenge)
    with pytest.raises(ContractBroken):
        asked(b'{"type": "url_verification"}')


def test_a_challenge_of_a_stranger_is_not_answered() -> None:
    posted = {"path": "challenge", "match": {"path": "type", "in": ["url_verification"]}}
    hook = receiver(PLAIN, challenge=posted)
    with refused():
        hook.receive(arrival(b'{"type": "url_verification", "challenge": "abc"}'), NOW)


# --- declarations -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"verify": {"kind": "hmac"}}, "header"),
        ({"verify": {"kind": "magic", "header": "X"}}, "magic"),
        ({"verify": {**PLAIN, "header": "X-Signature:"}}, "pattern"),
        ({"verify": {**PLAIN, "header": ""}}, "pattern"),
        ({"verify": {**PLAIN, "algoritm": "sha1"}}, "did you mean 'algorithm'"),
        ({"verify": {**PLAIN, "algorithm": "md5"}}, "sha256"),
        ({"verify": {**PLAIN, "encoding": "base32"}}, "base64"),
        ({"verify": {**PLAIN, "sign": "{timestamp}"}}, "must hold {body}"),
        ({"verify": {**PLAIN, "sign": "{body}{nonce}"}}, "{nonce} is not one of body"),
        ({"verify": {**PLAIN, "sign": "{body}{"}}, "brace"),
        ({"verify": {**PLAIN, "sign": "{{body}}"}}, "brace"),
        ({"verify": {**PLAIN, "sign": "{timestamp}{body}"}}, "`timestamp` must name a header"),
        ({"verify": {**PLAIN, "timestamp": "X-Time"}}, "`timestamp` must name a header"),
        ({"verify": {**PLAIN, "id": "X-Id"}}, "`id` must name a header"),
        ({"verify": {**PLAIN, "window": "5 fortnights"}}, "fortnights"),
        ({"verify": {**PLAIN, "window": -1}}, "greater than or equal to 0"),
        ({"verify": {**PLAIN, "secret": "base_url"}}, "'base_url', which is not a secret"),
        ({"verify": {**PLAIN, "old_secret": "older"}}, "'older', which is not a secret"),
        ({"verify": {"kind": "token"}}, "either header or query"),
        ({"verify": {"kind": "token", "header": "X", "query": "x"}}, "either header or query"),
        ({"verify": {"kind": "token", "query": ""}}, "at least 1 character"),
        ({"verify": "check"}, "verify"),
        ({"verify": "hooks.Check It"}, "verify"),
        ({"event_id": {}}, "either header or path"),
        ({"event_id": {"header": "X", "path": "id"}}, "either header or path"),
        ({"event_id": {"header": "X Id"}}, "pattern"),
        ({"challenge": {"query": "c"}}, "either {query, token} or {path, match}"),
        ({"challenge": {"path": "c"}}, "either {query, token} or {path, match}"),
        ({"challenge": {"query": "c", "token": "t", "path": "p"}}, "either {query, token}"),
        ({"verify": "hooks.check", "challenge": {"query": "c", "token": "t"}}, "with a secret"),
        ({"answer": {"status": 302}}, "299"),
        ({"answer": {"status": 204, "body": {"ok": True}}}, "204 has no body"),
        ({"events": {}}, "at least 1 item"),
        ({"events": {"changed": {"key": []}}}, "at least 1 item"),
        ({"events": {"changed": {}}}, "key"),
        ({"max_bytes": "1 GB"}, "max_bytes"),
        ({"rate": "0/s"}, "greater than 0"),
        ({"verfiy": PLAIN}, "did you mean 'verify'"),
    ],
)
def test_a_wrong_declaration_is_one_clear_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        manifest({"verify": PLAIN, **change})
    text = str(caught.value)
    assert text.startswith("acme/connector.yaml")
    assert words in text
    assert "\n" not in text


def test_an_unknown_event_comes_with_a_suggestion() -> None:
    connection = connection_with(PLAIN)
    with pytest.raises(ConfigError) as caught:
        event_of(connection, "chnaged")
    assert "did you mean 'changed'" in str(caught.value)
    assert event_of(connection, "changed").key == ["id"]
