"""Receiving a webhook: raw bytes in, a verified event or a clear refusal out."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.sdk.body import MISSING, dig
from hub.sdk.connection import Connection
from hub.sdk.envelope import holds
from hub.sdk.errors import AuthError, ConfigError, ContractBroken, HubError
from hub.sdk.events import decode_event, storable_type
from hub.sdk.headers import as_sent
from hub.sdk.loading import suggestion
from hub.sdk.manifest_hooks import Event, HmacVerify, Hook, StandardVerify, TokenVerify
from hub.sdk.standard_webhooks import verify as verify_standard

_LONGEST_ID = 200
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it came; header names in lower case, the body as raw bytes."""

    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """A verified event, ready to be kept; `challenge` is what the sender wants to have back."""

    event_id: str
    media_type: str
    body: bytes
    challenge: str | None = None


class HookReceiver:
    """The webhook of one connection. Raises ConfigError when its secret is not set."""

    def __init__(self, connection: Connection) -> None:
        self.name = connection.name
        self.hook = hook_of(connection)
        self._connection = connection
        self._secrets = _secrets(connection, self.hook)
        self._keyed = _keyed(self.hook, self._secrets)
        self._own = _own_function(connection, self.hook)

    def receive(self, arrival: Arrival, now: float) -> Received:
        """The event in a request; `now` is seconds since 1970.

        Raises AuthError when it is not from who we think, or not from now; ContractBroken when
        the body is no text or JSON.
        """
        body, signed_id, stamp = self._verify(arrival, now)
        replaced = body is not arrival.body
        media_type = _JSON if replaced else arrival.headers.get("content-type", "")
        decoded = decode_event(body, media_type, self.name)
        event_id = signed_id or self._declared_id(arrival, decoded)
        if not event_id:
            event_id = _digest(stamp.encode() + b"\0" + body)
        asked = self._asked(decoded)
        return Received(_storable(event_id), storable_type(media_type), body, asked)

    def greet(self, query: Mapping[str, str]) -> str:
        """What a sender that tests the address by GET wants to have back. Raises AuthError."""
        challenge = self.hook.challenge
        if challenge is None or challenge.query is None or challenge.token is None:
            raise ConfigError("hook.no_challenge", connection=self.name)
        self._require(self._knows(_text_bytes(query.get(challenge.token, ""))))
        return query.get(challenge.query, "")

    @property
    def greets(self) -> bool:
        """Whether a GET means anything here."""
        return self.hook.challenge is not None and self.hook.challenge.query is not None

    # --- who sent it --------------------------------------------------------------------------

    def _verify(self, arrival: Arrival, now: float) -> tuple[bytes, str, str]:
        """The body to keep, the id and the timestamp that the sender signed, if it did."""
        how = self.hook.verify
        if isinstance(how, HmacVerify):
            return self._verify_hmac(how, arrival, now)
        if isinstance(how, StandardVerify):
            return self._verify_standard(how, arrival, now)
        if isinstance(how, TokenVerify):
            self._verify_token(how, arrival)
            return arrival.body, "", ""
        return self._verify_own(arrival, now), "", ""

    def _verify_token(self, how: TokenVerify, arrival: Arrival) -> None:
        prefix = how.prefix.encode()
        if how.header is not None:
            given = as_sent(arrival.headers.get(how.header.lower(), ""))
        else:
            given = _text_bytes(arrival.query.get(str(how.query), ""))
        self._require(given.startswith(prefix) and self._knows(given[len(prefix) :]))

    def _verify_hmac(self, how: HmacVerify, arrival: Arrival, now: float) -> tuple[bytes, str, str]:
        event_id = arrival.headers.get(how.id.lower(), "") if how.id else ""
        stamp = arrival.headers.get(how.timestamp.lower(), "") if how.timestamp else ""
        self._require(bool(event_id) or how.id is None)
        text = _signed_text(how.sign, {"body": arrival.body, "timestamp": stamp, "id": event_id})
        given = arrival.headers.get(how.header.lower(), "")
        self._require(given.startswith(how.prefix))
        signature = _raw_signature(given[len(how.prefix) :].strip(), how.encoding)
        matches = [hmac.compare_digest(_mac(keyed, text), signature) for keyed in self._keyed]
        self._require(any(matches))
        if how.timestamp:
            self._require_recent(stamp, how.unit, how.window, now)
        return arrival.body, event_id, stamp

    def _verify_standard(
        self, how: StandardVerify, arrival: Arrival, now: float
    ) -> tuple[bytes, str, str]:
        verify_standard(self._secrets, arrival.headers, arrival.body, now=now, tolerance=how.window)
        return arrival.body, arrival.headers["webhook-id"], ""

    def _verify_own(self, arrival: Arrival, now: float) -> bytes:
        """A function of the connector: True or False, or the body it decrypted, as JSON."""
        assert self._own is not None  # noqa: S101 (no other way of verification is left)
        try:
            found = self._own(self._connection.config, arrival, now)
        except HubError:
            raise
        except Exception as error:  # whatever breaks on a stranger's bytes: they are not verified
            problem = type(error).__name__
            raise AuthError("hook.own", connection=self.name, problem=problem) from error
        if isinstance(found, bytes):
            return found
        self._require(found is True)
        return arrival.body

    def _require_recent(self, stamp: str, unit: str, window: float, now: float) -> None:
        plain = stamp.isascii() and stamp.isdecimal() and len(stamp) <= 16
        self._require(plain)
        moment = int(stamp) / 1000 if unit == "ms" else float(stamp)
        if abs(now - moment) > window:
            raise AuthError("hook.stale", connection=self.name, window=int(window))

    def _knows(self, given: bytes) -> bool:
        return any(hmac.compare_digest(secret.encode(), given) for secret in self._secrets)

    def _require(self, fact: bool) -> None:
        if not fact:
            raise AuthError("hook.signature", connection=self.name)

    # --- what it is ---------------------------------------------------------------------------

    def _declared_id(self, arrival: Arrival, decoded: Any) -> str:
        where = self.hook.event_id
        if where is None:
            return ""
        if where.header is not None:
            return arrival.headers.get(where.header.lower(), "")
        found = dig(decoded, str(where.path))
        plain = isinstance(found, str | int) and not isinstance(found, bool)
        return str(found) if plain else ""

    def _asked(self, decoded: Any) -> str | None:
        challenge = self.hook.challenge
        if challenge is None or challenge.path is None or challenge.match is None:
            return None
        if not holds(challenge.match, decoded):
            return None
        found = dig(decoded, challenge.path)
        if found is MISSING or found is None or isinstance(found, dict | list):
            shown = "nothing" if found is MISSING else type(found).__name__
            raise ContractBroken("hook.no_data", path=challenge.path, found=shown)
        return str(found)


def hook_of(connection: Connection) -> Hook:
    """What the connection's manifest says of its webhook. Raises ConfigError for none."""
    if connection.manifest.hook is None:
        raise ConfigError("hook.none", connection=connection.name)
    return connection.manifest.hook


def event_of(connection: Connection, name: str) -> Event:
    """The declaration of an event. Raises ConfigError for an unknown name."""
    events = hook_of(connection).events
    if name not in events:
        hint = suggestion(name, events)
        raise ConfigError("hook.unknown_event", connection=connection.name, name=name, hint=hint)
    return events[name]


def is_challenge(connection: Connection, body: Any) -> bool:
    """Whether a received body only tested the address."""
    challenge = hook_of(connection).challenge
    if challenge is None or challenge.match is None:
        return False
    return holds(challenge.match, body)


def _secrets(connection: Connection, hook: Hook) -> list[str]:
    found = [connection.config.get(name) for name in hook.secret_fields]
    secrets = [str(one) for one in found if one]
    if hook.secret_fields and not secrets:
        name = hook.secret_fields[0]
        raise ConfigError("hook.no_secret", connection=connection.name, field=name)
    return secrets


def _keyed(hook: Hook, secrets: Sequence[str]) -> list[hmac.HMAC]:
    """An HMAC for each secret, to be copied: keying it anew costs more than a small body."""
    if not isinstance(hook.verify, HmacVerify):
        return []
    return [hmac.new(secret.encode(), digestmod=hook.verify.algorithm) for secret in secrets]


def _mac(keyed: hmac.HMAC, text: bytes) -> bytes:
    # Unlike `hmac.digest`, this keeps Python's lock for a small text: every event would hand it
    # over to whoever writes the inbox, and wait to get it back.
    mac = keyed.copy()
    mac.update(text)
    return mac.digest()


def _own_function(connection: Connection, hook: Hook) -> Callable[..., Any] | None:
    if isinstance(hook.verify, str):
        return connection.connector.hook(hook.verify)
    return None


def _signed_text(template: str, parts: Mapping[str, str | bytes]) -> bytes:
    """`template` with its names filled; the body may hold braces of its own."""
    text = b""
    rest = template
    while rest:
        before, brace, rest = rest.partition("{")
        text += before.encode()
        if brace:
            name, _, rest = rest.partition("}")
            part = parts[name]
            text += part if isinstance(part, bytes) else as_sent(part)
    return text


def _raw_signature(text: str, encoding: str) -> bytes:
    """The bytes of a signature; nothing when it is none."""
    try:
        if encoding == "hex":
            return binascii.unhexlify(text)
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _storable(event_id: str) -> str:
    """The id as a database takes it and as short as an index wants it."""
    plain = event_id.isprintable() and len(event_id) <= _LONGEST_ID
    return event_id if plain else _digest(_text_bytes(event_id))


def _text_bytes(text: str) -> bytes:
    """UTF-8 of any text, also of one that no encoder would take."""
    return text.encode("utf-8", "surrogatepass")
