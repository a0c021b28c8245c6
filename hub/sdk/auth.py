"""How a connection proves who it is: static keys, fetched tokens, signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hub.sdk.clock import Clock
from hub.sdk.errors import AuthError
from hub.sdk.exchange import Outgoing
from hub.sdk.manifest import (
    ApiKeyAuth,
    Auth,
    BasicAuth,
    BearerAuth,
    HmacAuth,
    NoAuth,
    OAuth2Auth,
    SendToken,
    TokenAuth,
)
from hub.sdk.templates import fill, text_of

Fetch = Callable[[], tuple[str, float]]
"""Logs in; the token and its life in seconds."""


class Authenticator(Protocol):
    """Adds credentials to a request. `token` may log in, `renew` replaces a refused token.

    `params` are the query parameters it sets.
    """

    renewable: bool
    params: frozenset[str]

    def token(self) -> str | None:
        """The token to use now, None for static credentials."""

    def renew(self, refused: str | None) -> str | None:
        """A token other than the refused one."""

    def apply(self, out: Outgoing, token: str | None) -> None:
        """Put the credentials into the request (last, after all parameters are set)."""


# --- tokens -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    value: str | None = field(default=None, repr=False)
    refresh_at: float = float("-inf")
    attempts: int = 0
    failure: Exception | None = None


class TokenCache:
    """Fetched tokens of this process, one per account; parallel callers fetch once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._slots: dict[str, _Slot] = {}

    def get(self, account: str, fetch: Fetch) -> str:
        """The cached token, or a new one 5 minutes (10 % of a short life) before its end."""
        slot = self._slot(account)
        seen = slot.attempts
        with slot.lock:
            if slot.value is not None and self._clock.monotonic() < slot.refresh_at:
                return slot.value
            return self._fetch(slot, seen, fetch)

    def renew(self, account: str, refused: str | None, fetch: Fetch) -> str:
        """Another token than `refused`: one that somebody fetched meanwhile, else a new one."""
        slot = self._slot(account)
        seen = slot.attempts
        with slot.lock:
            if slot.value is not None and slot.value != refused:
                return slot.value
            return self._fetch(slot, seen, fetch)

    def forget(self, account: str) -> None:
        """Log in again at the next call (the credentials changed)."""
        slot = self._slot(account)
        with slot.lock:
            slot.value = None

    def _fetch(self, slot: _Slot, seen: int, fetch: Fetch) -> str:
        # Waiters share a failed login instead of repeating it: vendors lock accounts for less.
        if slot.attempts != seen and slot.failure is not None:
            raise slot.failure
        slot.value, slot.failure = None, None
        try:
            value, life = fetch()
        except Exception as error:
            slot.failure = error
            raise
        finally:
            slot.attempts += 1
        slot.value = value
        slot.refresh_at = self._clock.monotonic() + life - min(300.0, life / 10)
        return value

    def _slot(self, account: str) -> _Slot:
        with self._lock:
            return self._slots.setdefault(account, _Slot())


# --- kinds ------------------------------------------------------------------------------------


class _Static:
    """Credentials that never change by themselves."""

    renewable = False
    params: frozenset[str] = frozenset()

    def token(self) -> str | None:
        return None

    def renew(self, refused: str | None) -> str | None:
        return refused

    def apply(self, out: Outgoing, token: str | None) -> None:
        """Nothing to add."""


class _ApiKey(_Static):
    def __init__(self, auth: ApiKeyAuth, value: str) -> None:
        self._auth, self._value = auth, value
        self.params = frozenset([auth.query] if auth.query else [])

    def apply(self, out: Outgoing, token: str | None) -> None:
        if self._auth.header is not None:
            out.headers[self._auth.header] = self._value
        else:
            out.set_param(self._auth.query or "", self._value)


class _Header(_Static):
    def __init__(self, value: str) -> None:
        self._value = value

    def apply(self, out: Outgoing, token: str | None) -> None:
        out.headers["Authorization"] = self._value


class _Fetched:
    """A token from a login, shared by all users of the account."""

    renewable = True

    def __init__(self, cache: TokenCache, account: str, fetch: Fetch, send: SendToken) -> None:
        self._cache, self._account, self._fetch, self._send = cache, account, fetch, send
        self.params = frozenset([send.query] if send.query else [])

    def token(self) -> str | None:
        return self._cache.get(self._account, self._fetch)

    def renew(self, refused: str | None) -> str | None:
        return self._cache.renew(self._account, refused, self._fetch)

    def apply(self, out: Outgoing, token: str | None) -> None:
        value = self._send.prefix + (token or "")
        if self._send.query is not None:
            out.set_param(self._send.query, value)
        else:
            out.headers[self._send.header or "Authorization"] = value


class _Signed(_Static):
    """Each request carries a keyed digest of itself."""

    def __init__(self, auth: HmacAuth, config: Mapping[str, Any], clock: Clock, where: str) -> None:
        self._auth, self._config, self._clock, self._where = auth, config, clock, where
        self.params = frozenset(auth.params)

    def apply(self, out: Outgoing, token: str | None) -> None:
        names = self._names(out)
        self._add(out, names, signed=False)
        names["query"] = out.query
        key = text_of(fill(self._auth.secret, self._config, self._where))
        text = text_of(fill(self._auth.sign, names, self._where))
        names["signature"] = _signature(key.encode(), text.encode(), self._auth)
        self._add(out, names, signed=True)

    def _names(self, out: Outgoing) -> dict[str, Any]:
        now = self._clock.now()
        stamps = {
            "s": str(int(now.timestamp())),
            "ms": str(int(now.timestamp() * 1000)),
            "iso": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        host, _, path = out.url.partition("://")[2].partition("/")
        return {
            **self._config,
            "method": out.method,
            "host": host,
            "path": "/" + path,
            "timestamp": stamps[self._auth.timestamp],
            "nonce": uuid.uuid4().hex,
            "body": out.content.decode("utf-8", "replace"),
            "body_sha256": hashlib.sha256(out.content).hexdigest(),
        }

    def _add(self, out: Outgoing, names: Mapping[str, Any], *, signed: bool) -> None:
        # Parameters without the signature travel first: the signature covers them.
        for name, template in self._auth.params.items():
            if ("{signature}" in template) is signed:
                out.set_param(name, text_of(fill(template, names, self._where)))
        if signed:
            for name, template in self._auth.headers.items():
                out.headers[name] = text_of(fill(template, names, self._where))


def _signature(key: bytes, text: bytes, auth: HmacAuth) -> str:
    digest = hmac.new(key, text, auth.algorithm)
    if auth.encoding == "base64":
        return base64.b64encode(digest.digest()).decode()
    hexadecimal = digest.hexdigest()
    return hexadecimal.upper() if auth.encoding == "HEX" else hexadecimal


# --- building ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuthParts:
    """What building an authenticator needs; `login` performs the declared login."""

    auth: Auth
    config: Mapping[str, Any]
    connection: str
    account: str
    cache: TokenCache
    clock: Clock
    login: Fetch


def authenticator(parts: AuthParts) -> Authenticator:
    """The authenticator of a connection. Raises AuthError for an empty credential."""
    auth = parts.auth
    if isinstance(auth, NoAuth):
        return _Static()
    if isinstance(auth, ApiKeyAuth):
        return _ApiKey(auth, _credential(parts, auth.value))
    if isinstance(auth, BearerAuth):
        return _Header("Bearer " + _credential(parts, auth.token))
    if isinstance(auth, BasicAuth):
        return _Header(basic(_credential(parts, auth.username), _credential(parts, auth.password)))
    if isinstance(auth, HmacAuth):
        _credential(parts, auth.secret)
        return _Signed(auth, parts.config, parts.clock, parts.connection)
    return _Fetched(parts.cache, parts.account, parts.login, _place(auth))


def _place(auth: TokenAuth | OAuth2Auth) -> SendToken:
    if isinstance(auth, TokenAuth):
        return auth.send
    return SendToken(header="Authorization", prefix="Bearer ")


def basic(username: str, password: str) -> str:
    """The value of a Basic `Authorization` header (RFC 7617, UTF-8)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _credential(parts: AuthParts, template: str) -> str:
    value = fill(template, parts.config, parts.connection)
    if value is None or value == "":
        raise AuthError("auth.empty", connection=parts.connection, setting=template.strip("{}"))
    return text_of(value)
