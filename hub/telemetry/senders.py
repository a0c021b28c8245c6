"""Who holds a credential: looked up in the store, and remembered for some seconds.

What is remembered is found by a salted hash of the credential, never by the credential itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import sqlalchemy as sa

from hub.sdk.errors import HubError, TransientError
from hub.sdk.telemetry import Sender
from hub.store.database import Store
from hub.store.telemetry.credentials import (
    Account,
    find_certificate,
    find_password,
    find_token,
    hash_password,
    revoked_since,
    token_lookup,
    verify_password,
)

KNOWN_SECONDS = 10.0
"""How long after its end a credential may still be taken."""

_MOST_KNOWN = 100_000
_MOST_UNKNOWN = 10_000
"""Apart from the known: whoever guesses drives out other guesses, and no device."""

_MOST_LOOKS = 2_000
_MOST_PASSWORDS = 200
_PASSWORD_THREADS = max(1, min(2, (os.cpu_count() or 1) // 2))
"""Whoever guesses passwords costs this many cores and no more: the others are for devices."""

_REVOKED_MS = 600_000
"""How far back revoked credentials are looked for: clocks of several machines differ."""

_RETRY_SOON = 2.0
_RETRY_LATER = 5.0

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The latest `most` values, each for `seconds`. For any thread."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._known: OrderedDict[bytes, tuple[float, Value]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Value | None:
        found = self._known.get(key)
        if found is None or time.monotonic() > found[0]:
            return None
        return found[1]

    def put(self, key: bytes, value: Value) -> None:
        with self._lock:
            self._known[key] = (time.monotonic() + self._seconds, value)
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._known.clear()


class Looks:
    """Blocking look-ups on threads of their own; only so many may wait."""

    def __init__(self, name: str, threads: int, most: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._most = most
        self._waiting = 0
        self._lock = threading.Lock()

    async def __call__(self, look: Callable[[], Value]) -> Value:
        """Raises TransientError: too many wait (`telemetry.overload`), or the store is away."""
        with self._lock:
            if self._waiting >= self._most:
                raise TransientError("telemetry.overload", retry_after=_RETRY_SOON)
            self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, look)
        except (sa.exc.SQLAlchemyError, HubError) as error:
            raise TransientError("telemetry.store", retry_after=_RETRY_LATER) from error
        finally:
            with self._lock:
                self._waiting -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Senders:
    """The holders of credentials, for the faces of one process."""

    def __init__(self, readings: Callable[[], Store]) -> None:
        self._readings = readings
        self._salt = secrets.token_bytes(32)
        self._known: Recent[Sender] = Recent(_MOST_KNOWN, KNOWN_SECONDS)
        self._unknown: Recent[bool] = Recent(_MOST_UNKNOWN, KNOWN_SECONDS)
        self._verified: Recent[bool] = Recent(_MOST_KNOWN, float("inf"))
        """Which password fits which verifier: costly to find out, and true for ever."""
        self._looks = Looks("hub-admit", 2, _MOST_LOOKS)
        self._passwords = Looks("hub-passwords", _PASSWORD_THREADS, _MOST_PASSWORDS)
        self._nobody = ""
        self._revoked: set[str] | None = None

    async def token(self, token: str) -> Sender | None:
        """Who holds the token."""
        key = self._key("token", token)
        found = self._known.get(key)
        if found is not None or self._unknown.get(key):
            return found
        return await self._looks(lambda: self._remember(key, self._find_token(token)))

    async def certificate(self, fingerprint: str) -> Sender | None:
        """Who holds the certificate."""
        key = self._key("certificate", fingerprint)
        found = self._known.get(key)
        if found is not None or self._unknown.get(key):
            return found
        return await self._looks(lambda: self._remember(key, self._find_certificate(fingerprint)))

    async def password(self, user: str, password: str) -> Sender | None:
        """Whose name and password these are. Takes as long for an unknown name.

        Those that were verified once do not queue behind those that guess.
        """
        key = self._key("password", user, password)
        found = self._known.get(key)
        if found is not None or self._unknown.get(key):
            return found
        account = await self._looks(lambda: self._find_account(user))
        if account is not None and self._verified.get(self._verified_key(account, password)):
            return self._remember(key, account.sender)
        return await self._passwords(lambda: self._remember(key, self._verify(account, password)))

    async def revoked(self, now_ms: int) -> list[Sender]:
        """Whose credentials were revoked since this was asked last."""
        found = await self._looks(lambda: self._find_revoked(now_ms - _REVOKED_MS))
        before, self._revoked = self._revoked, set(found)
        fresh = [] if before is None else [found[one] for one in found if one not in before]
        if fresh:
            self.forget()
        return fresh

    def forget(self) -> None:
        """Look everything up anew from now on."""
        self._known.clear()
        self._unknown.clear()

    def close(self) -> None:
        """End the threads."""
        self._looks.close()
        self._passwords.close()

    def _remember(self, key: bytes, sender: Sender | None) -> Sender | None:
        if sender is None:
            self._unknown.put(key, True)
        else:
            self._known.put(key, sender)
        return sender

    def _find_token(self, token: str) -> Sender | None:
        with self._readings().reading() as connection:
            return find_token(connection, token_lookup(token))

    def _find_certificate(self, fingerprint: str) -> Sender | None:
        with self._readings().reading() as connection:
            return find_certificate(connection, fingerprint)

    def _find_account(self, user: str) -> Account | None:
        with self._readings().reading() as connection:
            return find_password(connection, user)

    def _find_revoked(self, since_ms: int) -> dict[str, Sender]:
        with self._readings().reading() as connection:
            return revoked_since(connection, since_ms)

    def _verify(self, account: Account | None, password: str) -> Sender | None:
        if account is None:
            self._nobody = self._nobody or hash_password(secrets.token_hex())
            verify_password(password, self._nobody)
            return None
        if not verify_password(password, account.verifier):
            return None
        self._verified.put(self._verified_key(account, password), True)
        return account.sender

    def _verified_key(self, account: Account, password: str) -> bytes:
        return self._key("verified", account.verifier, password)

    def _key(self, *parts: str) -> bytes:
        text = "\0".join(f"{len(part)}:{part}" for part in parts)
        raw = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, key=self._salt, digest_size=24).digest()
