"""Standard Webhooks 1.0, checked against signatures computed here and published ones."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from hub.sdk import standard_webhooks
from hub.sdk.errors import AuthError, ConfigError
from hub.sdk.standard_webhooks import new_secret, sign, verify
from tests.sdk.hooked import arrival, receiver, refused

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"another secret of 32 bytes......").decode()
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
STAMP = 1614265330
BODY = b'{"test": 2432232314}'
PUBLISHED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
WRONG = "hook.standard_signature"

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = (
    "whpk_"
    + base64.b64encode(PRIVATE.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
)


def symmetric(secret: str, text: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()


def asymmetric(text: bytes) -> str:
    return "v1a," + base64.b64encode(PRIVATE.sign(text)).decode()


TEXT = f"{ID}.{STAMP}.".encode() + BODY


def headers(*signatures: str, **changed: str) -> dict[str, str]:
    plain = {
        "webhook-id": ID,
        "webhook-timestamp": str(STAMP),
        "webhook-signature": " ".join(signatures),
    }
    return {**plain, **{f"webhook-{name}": value for name, value in changed.items()}}


def check(given: dict[str, str], *secrets: str, body: bytes = BODY, now: float = STAMP) -> None:
    verify(secrets or [SECRET], given, body, now=now, tolerance=300)


def test_the_published_signature_is_the_one_computed_here_and_is_accepted() -> None:
    assert symmetric(SECRET, TEXT) == PUBLISHED
    check(headers(PUBLISHED))
    check(headers(PUBLISHED), SECRET.removeprefix("whsec_"))


def test_what_we_send_is_what_the_standard_says() -> None:
    assert sign([SECRET], ID, STAMP, BODY) == headers(PUBLISHED)
    both = sign([SECRET, OTHER], ID, STAMP, BODY)["webhook-signature"]
    assert both == f"{PUBLISHED} {symmetric(OTHER, TEXT)}"


def test_a_signature_by_key_pair_is_accepted() -> None:
    check(headers(asymmetric(TEXT)), PUBLIC)
    with refused(WRONG):
        check(headers(asymmetric(TEXT + b" ")), PUBLIC)


def test_one_fitting_signature_among_several_is_enough() -> None:
    wrong = symmetric(OTHER, TEXT)
    check(headers("v1,AAAA", wrong, PUBLISHED))
    check(headers(wrong, "v2,xyz", asymmetric(TEXT), PUBLISHED))
    check(headers(wrong, asymmetric(TEXT)), SECRET, PUBLIC)
    check(headers("", PUBLISHED))


def test_both_secrets_count_while_they_are_changed() -> None:
    for secret in (SECRET, OTHER):
        check(headers(symmetric(secret, TEXT)), SECRET, OTHER)
    with refused(WRONG):
        check(headers(symmetric(new_secret(), TEXT)), SECRET, OTHER)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        PUBLISHED.removeprefix("v1,"),
        PUBLISHED.replace("v1,", "v1a,"),
        PUBLISHED.replace("v1,", "v2,"),
        PUBLISHED.replace("v1,", "V1,"),
        PUBLISHED.replace("v1,", "v1="),
        PUBLISHED[:-2],
        PUBLISHED[:-4],
        PUBLISHED + "AAAA",
        "v1," + base64.b16encode(b"x" * 32).decode(),
        "v1,Ä\ud800",
        "v1,",
        ",",
        asymmetric(TEXT),
        symmetric(SECRET, BODY),
    ],
)
def test_a_wrong_signature_is_refused(signature: str) -> None:
    with refused(WRONG):
        check(headers(signature))


def test_the_kind_of_a_signature_must_fit_the_kind_of_its_secret() -> None:
    raw = base64.b64decode(PUBLIC.removeprefix("whpk_"))
    by_public_key = "v1," + base64.b64encode(hmac.new(raw, TEXT, hashlib.sha256).digest()).decode()
    with refused(WRONG):
        check(headers(by_public_key), PUBLIC)
    with refused(WRONG):
        check(headers(asymmetric(TEXT).replace("v1a,", "v1,")), PUBLIC)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_header_must_be_there(name: str) -> None:
    given = headers(PUBLISHED)
    del given[name]
    code = "signature" if name == "webhook-signature" else "headers"
    with refused(f"hook.standard_{code}"):
        check(given)


@pytest.mark.parametrize("stamp", ["", "soon", "-1", "1.5", "１", "²", "1e9", "9" * 17, "\ud800"])
def test_a_stamp_that_is_no_number_is_refused_even_when_it_is_signed(stamp: str) -> None:
    text = f"{ID}.".encode() + stamp.encode("utf-8", "surrogatepass") + b"." + BODY
    with refused("hook.standard_headers"):
        check(headers(symmetric(SECRET, text), timestamp=stamp))


@pytest.mark.parametrize(
    ("shift", "fits"), [(300, True), (-300, True), (301, False), (-301, False)]
)
def test_a_stamp_counts_within_the_window_on_both_sides(shift: int, fits: bool) -> None:
    if fits:
        check(headers(PUBLISHED), now=STAMP + shift)
    else:
        with refused("hook.standard_stale"):
            check(headers(PUBLISHED), now=STAMP + shift)


def test_who_cannot_sign_does_not_learn_that_the_stamp_is_old() -> None:
    with refused(WRONG):
        check(headers(symmetric(OTHER, TEXT)), now=STAMP + 9999)


def test_an_id_beyond_ascii_is_signed_as_it_was_sent() -> None:
    sent = "消息".encode()
    text = sent + f".{STAMP}.".encode() + BODY
    check(headers(symmetric(SECRET, text), id=sent.decode("latin-1")))
    assert sign([SECRET], "消息", STAMP, BODY)["webhook-signature"] == symmetric(SECRET, text)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_***", "not base64!", "whpk_AAAA", "密钥"])
def test_a_secret_that_is_none_is_the_operators_problem(secret: str) -> None:
    signature = asymmetric(TEXT) if secret.startswith("whpk_") else PUBLISHED
    with pytest.raises(ConfigError) as caught:
        check(headers(signature), secret)
    assert caught.value.code == "hook.standard_secret"
    assert "AAAA" not in str(caught.value)


def test_a_header_with_thousands_of_signatures_costs_little() -> None:
    with refused(WRONG):
        check(headers(*["v1,AAAA"] * 50_000, PUBLISHED))


def test_only_a_comparison_in_constant_time_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_webhooks.hmac, "compare_digest", lambda *_: False)
    with refused(WRONG):
        check(headers(PUBLISHED))
    monkeypatch.setattr(standard_webhooks.hmac, "compare_digest", lambda *_: True)
    check(headers("v1,AAAA"))


@given(at=st.integers(0, 500), byte=st.integers(0, 255), part=st.sampled_from(["id", "body"]))
def test_whatever_is_altered_is_never_accepted(at: int, byte: int, part: str) -> None:
    old = {"id": ID.encode(), "body": BODY}[part]
    new = old[: at % len(old)] + bytes([byte]) + old[at % len(old) + 1 :]
    if new == old:
        return
    changed = {"id": new.decode("latin-1")} if part == "id" else {}
    with pytest.raises(AuthError):
        check(headers(PUBLISHED, **changed), body=new if part == "body" else BODY)


@given(st.text(), st.text(), st.text(), st.binary())
def test_noise_is_refused_and_never_breaks_the_check(
    event: str, stamp: str, signature: str, body: bytes
) -> None:
    with pytest.raises(AuthError):
        check(headers(signature, id=event, timestamp=stamp), SECRET, PUBLIC, body=body)


@given(st.binary(max_size=200), st.text(st.characters(codec="ascii"), min_size=1, max_size=30))
def test_what_is_signed_is_verified(body: bytes, event: str) -> None:
    secret = new_secret()
    check(sign([OTHER, secret], event, STAMP, body), secret, body=body)


def test_new_secrets_have_32_bytes_and_differ() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32


def test_a_receiver_names_the_event_by_its_header() -> None:
    hook = receiver({"kind": "standard_webhooks"}, secret=SECRET)
    sent = arrival(BODY, **{k.replace("-", "_"): v for k, v in headers(PUBLISHED).items()})
    assert hook.receive(sent, STAMP).event_id == ID
    with refused("hook.standard_stale"):
        hook.receive(sent, STAMP + 301)


def test_a_receiver_takes_two_secrets_and_its_own_window() -> None:
    declared = {"kind": "standard_webhooks", "old_secret": "old_hook_secret", "window": "1h"}
    hook = receiver(declared, secret=OTHER, old=SECRET)
    sent = arrival(BODY, **{k.replace("-", "_"): v for k, v in headers(PUBLISHED).items()})
    assert hook.receive(sent, STAMP + 3600).event_id == ID
