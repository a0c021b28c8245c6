"""A webhook is accepted when its sender is proven, and named so that a repetition is recognised."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sdk import hooks
from hub.sdk.errors import AuthError, ConfigError, HubError
from hub.sdk.hooks import Arrival
from tests.sdk.hooked import NOW, arrival, mac, receiver, refused

BODY = '{"id": 1, "name": "上海"}'.encode()
PLAIN = {"kind": "hmac", "header": "X-Signature"}
STAMPED = {**PLAIN, "sign": "{timestamp}.{body}", "timestamp": "X-Time"}
NAMED = {
    **PLAIN,
    "sign": "v0:{timestamp}:{id}:{body}",
    "timestamp": "X-Time",
    "id": "X-Event",
    "prefix": "v0=",
}


# --- HMAC -------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha="])
def test_every_algorithm_and_encoding_is_verified(
    algorithm: str, encoding: str, prefix: str
) -> None:
    hook = receiver({**PLAIN, "algorithm": algorithm, "encoding": encoding, "prefix": prefix})
    signature = mac(BODY, algorithm=algorithm)
    if encoding == "base64":
        signature = base64.b64encode(bytes.fromhex(signature)).decode()
    assert hook.receive(arrival(BODY, x_signature=prefix + signature), NOW).body == BODY
    with refused():
        hook.receive(arrival(BODY + b" ", x_signature=prefix + signature), NOW)
    with refused():
        hook.receive(arrival(BODY, x_signature="other=" + signature), NOW)


def test_an_upper_case_signature_is_the_same_signature() -> None:
    assert receiver(PLAIN).receive(arrival(BODY, x_signature=mac(BODY).upper()), NOW).body == BODY


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "0",
        "00",
        "zz" * 32,
        "Ä" * 64,
        "\ud800" * 64,
        mac(BODY)[:-1],
        mac(BODY)[:-2],
        mac(BODY) + "00",
        mac(BODY, secret="other"),
        mac(BODY, secret=""),
        mac(BODY, algorithm="sha1"),
        mac(BODY, algorithm="sha512"),
        "=" + mac(BODY),
    ],
)
def test_a_wrong_signature_is_refused(signature: str) -> None:
    with refused():
        receiver(PLAIN).receive(arrival(BODY, x_signature=signature), NOW)


def test_a_missing_signature_is_refused() -> None:
    with refused():
        receiver(PLAIN).receive(arrival(BODY), NOW)
    with refused():
        receiver(NAMED).receive(arrival(BODY), NOW)


@pytest.mark.parametrize("unit", ["s", "ms"])
@pytest.mark.parametrize(
    ("shift", "code"),
    [(0, None), (-300, None), (300, None), (-301, "hook.stale"), (301, "hook.stale")],
)
def test_a_stamp_counts_within_its_window_on_both_sides(
    unit: str, shift: int, code: str | None
) -> None:
    hook = receiver({**STAMPED, "unit": unit})
    stamp = str(int(NOW + shift) * (1000 if unit == "ms" else 1))
    sent = arrival(BODY, x_time=stamp, x_signature=mac(f"{stamp}.".encode() + BODY))
    if code is None:
        assert hook.receive(sent, NOW).body == BODY
    else:
        with refused(code):
            hook.receive(sent, NOW)


def test_the_edge_of_a_window_in_milliseconds_is_exact() -> None:
    hook = receiver({**STAMPED, "unit": "ms", "window": "10s"})
    for stamp, fits in ((NOW * 1000 - 10_000, True), (NOW * 1000 - 10_001, False)):
        text = str(int(stamp))
        sent = arrival(BODY, x_time=text, x_signature=mac(f"{text}.".encode() + BODY))
        if fits:
            hook.receive(sent, NOW)
        else:
            with refused("hook.stale"):
                hook.receive(sent, NOW)


@pytest.mark.parametrize(
    "stamp", ["", "now", "-5", "+5", "1e9", "1.5", "１７５", "²", " 1", "9" * 17, "\ud800", "0x10"]
)
def test_a_stamp_that_is_no_number_is_refused_even_when_it_is_signed(stamp: str) -> None:
    text = stamp.encode("utf-8", "surrogatepass") + b"." + BODY
    with refused():
        receiver(STAMPED).receive(arrival(BODY, x_time=stamp, x_signature=mac(text)), NOW)


def test_a_stamp_of_seconds_is_none_of_milliseconds() -> None:
    stamp = str(int(NOW))
    sent = arrival(BODY, x_time=stamp, x_signature=mac(f"{stamp}.".encode() + BODY))
    with refused("hook.stale"):
        receiver({**STAMPED, "unit": "ms"}).receive(sent, NOW)


def test_who_cannot_sign_does_not_learn_whether_the_stamp_was_old() -> None:
    sent = arrival(BODY, x_time="1", x_signature=mac(b"other"))
    with refused("hook.signature"):
        receiver(STAMPED).receive(sent, NOW)


def test_the_signed_text_may_hold_stamp_and_id_and_braces_of_the_body() -> None:
    body = b'{"id": "{timestamp}"}'
    stamp = str(int(NOW))
    text = f"v0:{stamp}:evt-1:".encode() + body
    sent = arrival(body, x_time=stamp, x_event="evt-1", x_signature="v0=" + mac(text))
    found = receiver(NAMED).receive(sent, NOW)
    assert (found.event_id, found.body) == ("evt-1", body)
    with refused():
        other = {**sent.headers, "x-event": "evt-2"}
        receiver(NAMED).receive(Arrival(other, {}, body), NOW)


def test_a_signed_id_must_be_there() -> None:
    stamp = str(int(NOW))
    text = f"v0:{stamp}::".encode() + BODY
    with refused():
        receiver(NAMED).receive(arrival(BODY, x_time=stamp, x_signature="v0=" + mac(text)), NOW)


def test_header_bytes_beyond_ascii_are_signed_as_they_were_sent() -> None:
    sent_bytes = "单据-1".encode()
    stamp = str(int(NOW))
    text = f"v0:{stamp}:".encode() + sent_bytes + b":" + BODY
    as_decoded_by_a_server = sent_bytes.decode("latin-1")
    sent = arrival(
        BODY, x_time=stamp, x_event=as_decoded_by_a_server, x_signature="v0=" + mac(text)
    )
    assert receiver(NAMED).receive(sent, NOW).body == BODY


def test_header_names_are_told_in_any_case() -> None:
    hook = receiver({**PLAIN, "header": "x-SIGNATURE"})
    assert hook.receive(arrival(BODY, x_signature=mac(BODY)), NOW).body == BODY


@given(
    cut=st.integers(0, 400), byte=st.integers(0, 255), where=st.sampled_from(["body", "sig", "id"])
)
def test_whatever_is_altered_is_never_accepted(cut: int, byte: int, where: str) -> None:
    stamp = str(int(NOW))
    parts = {"body": BODY, "id": b"evt-1"}
    text = f"v0:{stamp}:evt-1:".encode() + BODY
    parts["sig"] = mac(text).encode()
    old = parts[where]
    at = cut % len(old)
    new = old[:at] + bytes([byte]) + old[at + 1 :]
    if new == old or (where == "sig" and new.lower() == old):
        return
    parts[where] = new
    sent = arrival(
        parts["body"],
        x_time=stamp,
        x_event=parts["id"].decode("latin-1"),
        x_signature="v0=" + parts["sig"].decode("latin-1"),
    )
    with pytest.raises(HubError):
        receiver(NAMED).receive(sent, NOW)


@given(noise=st.text(), stamp=st.text(), event=st.text(), body=st.binary(), query=st.text())
def test_noise_is_refused_and_never_breaks_the_receiver(
    noise: str, stamp: str, event: str, body: bytes, query: str
) -> None:
    sent = arrival(body, {"t": query}, x_signature=noise, x_time=stamp, x_event=event)
    for verify in (
        NAMED,
        STAMPED,
        {"kind": "token", "header": "X-Signature"},
        {"kind": "token", "query": "t"},
    ):
        with pytest.raises(AuthError):
            receiver(verify).receive(sent, NOW)


# --- secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", [PLAIN, {"kind": "token", "header": "X-Signature"}])
def test_both_secrets_count_while_they_are_changed(verify: dict[str, Any]) -> None:
    both = receiver({**verify, "old_secret": "old_hook_secret"}, secret="new", old="old")
    one = receiver({**verify, "old_secret": "old_hook_secret"}, secret="new", old=None)
    for secret in ("new", "old", "older"):
        signature = mac(BODY, secret) if verify is PLAIN else secret
        sent = arrival(BODY, x_signature=signature)
        for hook, known in ((both, ("new", "old")), (one, ("new",))):
            if secret in known:
                assert hook.receive(sent, NOW).body == BODY
            else:
                with refused():
                    hook.receive(sent, NOW)


@pytest.mark.parametrize("secret", [None, ""])
@pytest.mark.parametrize(
    "verify", [PLAIN, {"kind": "token", "query": "t"}, {"kind": "standard_webhooks"}]
)
def test_without_a_secret_nothing_is_received_at_all(
    verify: dict[str, Any], secret: str | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        receiver(verify, secret=secret)
    assert caught.value.code == "hook.no_secret"
    assert "hub connection set-secret shop hook_secret" in str(caught.value)


def test_the_old_secret_alone_is_enough() -> None:
    hook = receiver({**PLAIN, "old_secret": "old_hook_secret"}, secret=None, old="old")
    assert hook.receive(arrival(BODY, x_signature=mac(BODY, "old")), NOW).body == BODY


def test_no_error_shows_a_secret() -> None:
    hook = receiver(PLAIN, secret="canary-7f3a")
    with pytest.raises(AuthError) as caught:
        hook.receive(arrival(BODY, x_signature=mac(BODY)), NOW)
    for language in ("en", "zh"):
        assert "canary" not in caught.value.message(language)
    assert "canary" not in repr(caught.value)


@pytest.mark.parametrize(
    ("verify", "signature"),
    [(PLAIN, "00"), ({"kind": "token", "header": "X-Signature"}, "wrong")],
)
def test_only_a_comparison_in_constant_time_decides(
    monkeypatch: pytest.MonkeyPatch, verify: dict[str, Any], signature: str
) -> None:
    seen: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        seen.append((one, other))
        return True

    hook = receiver(verify)
    monkeypatch.setattr(hooks.hmac, "compare_digest", compare)
    assert hook.receive(arrival(BODY, x_signature=signature), NOW).body == BODY
    assert seen
    monkeypatch.setattr(hooks.hmac, "compare_digest", lambda *_: False)
    right = mac(BODY) if verify is PLAIN else "s3cret"
    with refused():
        hook.receive(arrival(BODY, x_signature=right), NOW)


# --- tokens -----------------------------------------------------------------------------------


def test_a_token_in_a_header_may_have_a_prefix() -> None:
    hook = receiver({"kind": "token", "header": "Authorization", "prefix": "Bearer "})
    assert hook.receive(arrival(BODY, authorization="Bearer s3cret"), NOW).body == BODY
    for wrong in ("s3cret", "bearer s3cret", "Bearer s3cret ", "Bearer ", "Bearer s3cre", ""):
        with refused():
            hook.receive(arrival(BODY, authorization=wrong), NOW)


def test_a_token_in_the_query() -> None:
    hook = receiver({"kind": "token", "query": "token"}, secret="密钥")
    assert hook.receive(arrival(BODY, {"token": "密钥"}), NOW).body == BODY
    for wrong in ({}, {"token": ""}, {"token": "密"}, {"Token": "密钥"}, {"token": "\ud800"}):
        with refused():
            hook.receive(arrival(BODY, wrong), NOW)


def test_a_chinese_token_in_a_header_counts_by_its_bytes() -> None:
    hook = receiver({"kind": "token", "header": "X-Token"}, secret="密钥")
    assert hook.receive(arrival(BODY, x_token="密钥".encode().decode("latin-1")), NOW).body == BODY
    with refused():
        hook.receive(arrival(BODY, x_token="密钥".encode("gbk").decode("latin-1")), NOW)
