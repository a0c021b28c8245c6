"""Standard Webhooks 1.0, both directions: signing what we send, verifying what we receive.

The signed text is `id.timestamp.body`; a signature is `v1,` with the base64 of an HMAC-SHA256, or
`v1a,` with that of an ed25519 signature. A header may hold several, so that secrets can be changed.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets as random_secrets
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hub.sdk.errors import AuthError, ConfigError
from hub.sdk.headers import as_sent

ID = "webhook-id"
TIMESTAMP = "webhook-timestamp"
SIGNATURE = "webhook-signature"

_SECRET = "whsec_"  # noqa: S105 (a prefix)
_PUBLIC_KEY = "whpk_"
_SECRET_BYTES = 32
_LONGEST_STAMP = 16
_MOST_SIGNATURES = 20


def new_secret() -> str:
    """A fresh signing secret, as it is handed to the receiver."""
    raw = random_secrets.token_bytes(_SECRET_BYTES)
    return _SECRET + base64.b64encode(raw).decode()


def sign(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers; every secret adds a signature. Raises ConfigError for a broken secret."""
    text = _signed_text(message_id.encode(), str(timestamp), body)
    signatures = [
        "v1," + base64.b64encode(hmac.digest(_key(secret), text, "sha256")).decode()
        for secret in secrets
    ]
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: " ".join(signatures)}


def verify(
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance: float,
) -> None:
    """Raises AuthError unless one of `secrets` signed the raw body within `tolerance` seconds.

    Header names are in lower case; `now` is seconds since 1970. A secret `whpk_…` is a public
    ed25519 key, any other one is a shared secret, with or without `whsec_`.
    """
    message_id, stamp = headers.get(ID, ""), headers.get(TIMESTAMP, "")
    if not message_id or not (stamp.isascii() and stamp.isdecimal()) or len(stamp) > _LONGEST_STAMP:
        raise AuthError("hook.standard_headers")
    text = _signed_text(as_sent(message_id), stamp, body)
    given = headers.get(SIGNATURE, "").split(" ")[:_MOST_SIGNATURES]
    if not any(_signed(secret, one, text) for secret in secrets for one in given):
        raise AuthError("hook.standard_signature")
    if abs(now - int(stamp)) > tolerance:
        raise AuthError("hook.standard_stale", window=int(tolerance))


def _signed_text(message_id: bytes, stamp: str, body: bytes) -> bytes:
    return b".".join((message_id, stamp.encode(), body))


def _signed(secret: str, given: str, text: bytes) -> bool:
    version, _, encoded = given.partition(",")
    signature = _decoded(encoded)
    if signature is None:
        return False
    if secret.startswith(_PUBLIC_KEY):
        return version == "v1a" and _signed_by_key(secret, signature, text)
    expected = hmac.digest(_key(secret), text, "sha256")
    return hmac.compare_digest(expected, signature) and version == "v1"


def _signed_by_key(secret: str, signature: bytes, text: bytes) -> bool:
    raw = _decoded(secret.removeprefix(_PUBLIC_KEY))
    try:
        Ed25519PublicKey.from_public_bytes(raw or b"").verify(signature, text)
    except ValueError as error:
        raise ConfigError("hook.standard_secret") from error
    except InvalidSignature:
        return False
    return True


def _key(secret: str) -> bytes:
    raw = _decoded(secret.removeprefix(_SECRET))
    if not raw:
        raise ConfigError("hook.standard_secret")
    return raw


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
