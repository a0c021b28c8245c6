"""`/hooks/{connection}`: where other systems send their events.

A plain ASGI edge in front of everything else: what it does per event is most of what accepting one
costs. Checked in this order: the address (404, 405), the size (413), the headers (431), the rate
(429), room for one more (503), the signature (401), the body (400). Then the event is kept, and
only after that commit its sender is thanked.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.api.bodies import (
    Held,
    NoRoom,
    TooLarge,
    TooSlow,
    cannot_be_drained,
    headers_of,
    query_of,
    read_body,
)
from hub.api.problems import language_of, problem
from hub.sdk.errors import AuthError, ConfigError, ContractBroken, HubError, TransientError
from hub.sdk.hooks import Arrival, HookReceiver, Received
from hub.sdk.session import Session
from hub.store.inbox import NewEvent

if TYPE_CHECKING:
    from hub.engine.hub import Hub
    from hub.engine.intake import Settled

PREFIX = "/hooks/"
MOST_HEADERS = 100
MOST_HEADER_BYTES = 16_384
MOST_HELD = 64_000_000
"""Bytes of bodies that are being read or wait for their commit."""

_BODY_SECONDS = 30.0
_ANSWER_SECONDS = 25.0
_ASK_AGAIN_SECONDS = 1.0
_LOOK_SECONDS = 2.0
"""How long a secret may be used that another process has changed."""
_CLOSED_RETRY = 60.0
_STORE_RETRY = 5.0
_LARGE = 65_536
"""Bodies from this size on are verified on a worker thread."""

_PLAIN = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
_STATUS = {
    "intake.unknown": 404,
    "intake.method": 405,
    "intake.slow": 408,
    "intake.too_large": 413,
    "intake.rate": 429,
    "intake.headers": 431,
    "intake.disk_full": 507,
}
_OUTCOME = {401: "signature", 400: "undecodable"}

log = logging.getLogger("hub.api.hooks")


class Rate:
    """Lets `rate` events per second through, a second's worth of them at once."""

    def __init__(self, rate: float) -> None:
        self._gap = 1 / rate
        self._burst = max(1.0, self._gap)
        self._next = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until one more is allowed; 0 when this one is, and is counted."""
        ahead = max(self._next, now) + self._gap - now
        if ahead > self._burst + 1e-9:
            return ahead - self._burst
        self._next = now + ahead
        return 0.0


@dataclass(frozen=True, slots=True)
class Door:
    """What is needed to take an event of a connection; as long as its session is the open one."""

    session: Session
    receiver: HookReceiver
    rate: Rate
    thanks: Response
    threaded: bool


class HookEdge:
    """Takes `/hooks/…`; everything else goes on to `app`."""

    def __init__(self, app: ASGIApp, hub: Hub, language: str) -> None:
        self._app = app
        self._hub = hub
        self._language = language
        self._doors: dict[str, Door] = {}
        self._closed: dict[str, tuple[float, HubError]] = {}
        self._looked_at: dict[str, float] = {}
        self._held = Held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        name = scope["path"][len(PREFIX) :]
        try:
            answer = await self._answer(name, scope, receive)
        except HubError as error:
            answer = self._refusal(name, scope, error)
        except ClientDisconnect:
            return
        except Exception as error:
            log.error("an event of %s failed", name, exc_info=error)
            answer = self._refusal(name, scope, HubError("intake.failed", kind=_kind(error)))
        await answer(scope, receive, send)

    async def _answer(self, name: str, scope: Scope, receive: Receive) -> Response:
        door = self._open_door(name) or await self._find_door(name, scope["path"])
        method = scope["method"]
        greeted = method == "GET" and door.receiver.greets
        if method != "POST" and not greeted:
            raise ConfigError("intake.method", path=scope["path"], method=method)
        headers = self._headers(door, scope)
        self._pass_rate(door, scope["path"])
        query = query_of(scope["query_string"])
        if greeted:
            return _reply(door, door.receiver.greet(query))
        body = await self._read(door, scope, receive, headers)
        try:
            received = await self._verify(door, Arrival(headers, query, body))
            await self._keep(name, received)
        finally:
            self._held.free(len(body))
        if received.challenge is not None:
            return _reply(door, received.challenge)
        return door.thanks

    # --- whose event it is ----------------------------------------------------------------------

    def _open_door(self, name: str) -> Door | None:
        """The door of the connection, unless its settings or secrets have changed."""
        door = self._doors.get(name)
        if door is None or door.session is not self._hub.opened_session(name):
            return None
        now = self._hub.clock.monotonic()
        if now - self._looked_at.get(name, now) < _LOOK_SECONDS:
            return door
        self._looked_at[name] = now
        return None

    async def _find_door(self, name: str, path: str) -> Door:
        """Open the session of a connection. Off the event loop: files and the store are read."""
        if name not in self._hub.deployment.connections:
            self._doors.pop(name, None)
            self._closed.pop(name, None)
            raise ConfigError("intake.unknown", path=path)
        now = self._hub.clock.monotonic()
        self._looked_at[name] = now
        ask_at, reason = self._closed.get(name, (now, None))
        if reason is not None and now < ask_at:
            raise _copy(reason)
        try:
            door = await asyncio.to_thread(self._make_door, name)
        except HubError as error:
            found: HubError = ConfigError("intake.unknown", path=path)
            if error.code != "hook.none":
                found = TransientError("intake.closed", retry_after=_CLOSED_RETRY, path=path)
                if reason is None or reason.code != found.code:
                    log.warning("webhook of %s is closed: %s", name, error)
            self._closed[name] = (now + _ASK_AGAIN_SECONDS, found)
            raise _copy(found) from error
        except sa.exc.SQLAlchemyError as error:
            raise TransientError("intake.store", retry_after=_STORE_RETRY) from error
        self._closed.pop(name, None)
        self._doors[name] = door
        return door

    def _make_door(self, name: str) -> Door:
        """The door as settings and secrets are now, whoever has changed them."""
        with suppress(HubError):  # the old files stay
            self._hub.refresh()
        try:
            self._hub.renew_if_changed(name)
        except HubError:
            self._hub.renew_session(name)  # as it is now it says what is wrong
        session = self._hub.session(name)
        known = self._doors.get(name)
        if known is not None and known.session is session:
            return known
        receiver = session.hook()
        said = receiver.hook.answer
        if said.body is None or isinstance(said.body, str):
            thanks = Response(said.body, said.status, _PLAIN, "text/plain" if said.body else None)
        else:
            body = msgspec.json.encode(said.body)
            thanks = Response(body, said.status, _PLAIN, "application/json")
        threaded = isinstance(receiver.hook.verify, str)
        return Door(session, receiver, Rate(receiver.hook.rate), thanks, threaded)

    # --- whether there is room for it -----------------------------------------------------------

    def _headers(self, door: Door, scope: Scope) -> dict[str, str]:
        """The headers by name; several of one name as one list, as HTTP reads them."""
        limit, path = door.receiver.hook.max_bytes, scope["path"]
        headers, fit = headers_of(scope, MOST_HEADERS, MOST_HEADER_BYTES)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()) or int(length) > limit:
            raise _too_large(path, limit)
        if not fit:
            params = {"most": MOST_HEADERS, "limit": MOST_HEADER_BYTES}
            raise ContractBroken("intake.headers", path=path, **params)
        return headers

    def _pass_rate(self, door: Door, path: str) -> None:
        wait = door.rate.wait(self._hub.clock.monotonic())
        if wait > 0:
            seconds = math.ceil(wait)
            raise TransientError("intake.rate", retry_after=wait, path=path, seconds=seconds)

    async def _read(
        self, door: Door, scope: Scope, receive: Receive, headers: dict[str, str]
    ) -> bytes:
        """The body, counted in `_held`; the caller takes it out again."""
        limit, path = door.receiver.hook.max_bytes, scope["path"]
        try:
            self._held.require(int(headers.get("content-length", "0")), MOST_HELD)
            return await read_body(
                receive, self._held, limit=limit, most_held=MOST_HELD, seconds=_BODY_SECONDS
            )
        except TooLarge:
            raise _too_large(path, limit) from None
        except TooSlow:
            raise ContractBroken("intake.slow", path=path, seconds=int(_BODY_SECONDS)) from None
        except NoRoom:
            raise TransientError("intake.overload", retry_after=1.0) from None

    # --- what it is, and keeping it -------------------------------------------------------------

    async def _verify(self, door: Door, arrival: Arrival) -> Received:
        now = self._hub.clock.now().timestamp()
        try:
            if door.threaded or len(arrival.body) >= _LARGE:
                return await asyncio.to_thread(door.receiver.receive, arrival, now)
            return door.receiver.receive(arrival, now)
        except ConfigError as error:
            log.warning("webhook of %s is closed: %s", door.receiver.name, error)
            path = PREFIX + door.receiver.name
            raise TransientError("intake.closed", retry_after=_CLOSED_RETRY, path=path) from error

    async def _keep(self, name: str, received: Received) -> None:
        """Wait for the commit of the event. Raises when it is not known to be kept."""
        loop = asyncio.get_running_loop()
        ticket: asyncio.Future[None] = loop.create_future()
        event = NewEvent(received.event_id, self._hub.now_ms(), received.media_type, received.body)
        self._hub.intake.put(name, event, ticket, settle)
        overdue = loop.call_later(_ANSWER_SECONDS, _give_up, ticket)
        try:
            await ticket
        finally:
            overdue.cancel()

    # --- saying no ------------------------------------------------------------------------------

    def _refusal(self, name: str, scope: Scope, error: HubError) -> Response:
        status = _status_of(error)
        known = name in self._hub.deployment.connections
        self._hub.intake.counts[name if known else "", _outcome(status, error)] += 1
        headers = dict(_PLAIN)
        if isinstance(error, TransientError):
            headers["Retry-After"] = str(max(1, math.ceil(error.retry_after or 1)))
        if status == 405:
            headers["Allow"] = "POST"
        if status == 408 or (status == 413 and cannot_be_drained(scope)):
            headers["Connection"] = "close"
        accepted = b"".join(v for k, v in scope["headers"] if k == b"accept-language")
        language = language_of(accepted.decode("latin-1"), self._language)
        params, path = dict(error.params), scope["path"]
        return problem(status, error.code, params, path=path, language=language, headers=headers)


def settle(settled: Settled) -> None:
    """Tell the requests of a batch how it ended; called on the writer's thread."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Any, HubError | None]]] = {}
    for one in settled:
        by_loop.setdefault(one[0].get_loop(), []).append(one)
    for loop, ended in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, ended)
        except RuntimeError:  # the server has stopped; those senders send again
            log.info("%d events were kept for senders that are gone", len(ended))


def _resolve(settled: Settled) -> None:
    for ticket, reason in settled:
        if not ticket.done():
            if reason is None:
                ticket.set_result(None)
            else:
                ticket.set_exception(_copy(reason))


def _copy(reason: HubError) -> HubError:
    """An exception of its own for every request: a shared one would collect their tracebacks."""
    if isinstance(reason, TransientError):
        return TransientError(reason.code, retry_after=reason.retry_after, **reason.params)
    return type(reason)(reason.code, **reason.params)


def _give_up(ticket: asyncio.Future[None]) -> None:
    if not ticket.done():
        ticket.set_exception(TransientError("intake.store", retry_after=_STORE_RETRY))


def _too_large(path: str, limit: int) -> ContractBroken:
    return ContractBroken("intake.too_large", path=path, limit=limit)


def _reply(door: Door, challenge: str) -> Response:
    """What a sender wants to have back when it tests the address."""
    asked = door.receiver.hook.challenge
    name = asked.reply if asked is not None else None
    if name is None:
        return Response(challenge, 200, _PLAIN, "text/plain")
    return Response(msgspec.json.encode({name: challenge}), 200, _PLAIN, "application/json")


def _kind(error: Exception) -> str:
    return type(error).__name__


def _status_of(error: HubError) -> int:
    if error.code in _STATUS:
        return _STATUS[error.code]
    if isinstance(error, TransientError):
        return 503
    if isinstance(error, AuthError):
        return 401
    return 400 if isinstance(error, ContractBroken) else 500


def _outcome(status: int, error: HubError) -> str:
    """How the refusal is counted: `unknown`, `too_large`, `rate`, `overload`, `signature` …"""
    area, _, name = error.code.partition(".")
    return name if area == "intake" else _OUTCOME.get(status, "failed")
