"""The HTTP client of a connection: every answer is success, or an error that names its recovery.

Reads are tried again here. A write is never repeated blindly: either it surely was not done
(TransientError, RecordRejected …) or its outcome is unknown (OutcomeUnknown).
"""

from __future__ import annotations

import logging
import random as random_module
import time
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from hub.sdk import tls
from hub.sdk.auth import Authenticator, AuthParts, TokenCache, authenticator
from hub.sdk.body import MISSING, decode, encode
from hub.sdk.breaker import AlwaysClosed, Breaker
from hub.sdk.clock import Clock
from hub.sdk.connection import Connection
from hub.sdk.egress import GuardedTransport, Resolver
from hub.sdk.envelope import classify, shape
from hub.sdk.errors import (
    AuthError,
    ConfigError,
    ContractBroken,
    HubError,
    RecordRejected,
    TransientError,
)
from hub.sdk.exchange import (
    Answer,
    Exchange,
    Failure,
    Outgoing,
    asked_to_wait,
    media_type,
    same_charset,
)
from hub.sdk.limits import Gate
from hub.sdk.login import fetcher
from hub.sdk.manifest import Envelope, Request
from hub.sdk.recovery import Incident, login_error, read_error, write_error
from hub.sdk.reply import Reply
from hub.sdk.templates import fill, fill_path, text_of

log = logging.getLogger(__name__)

_FORM = "application/x-www-form-urlencoded"
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
_ANY_BODY = Envelope(ok=shape("$", "present"))
_DOWN = ("not_sent", "lost", "retry")
_FORBIDDEN = "auth.forbidden"  # one kind of record; the account itself is accepted
_NOT_TRIED = ("http.breaker_open", "http.paused")


@dataclass(frozen=True, slots=True)
class _Call:
    """One call as asked for; `credentials` is off for the login itself."""

    request: Request
    names: Mapping[str, Any]
    envelope: Envelope
    read: bool
    credentials: bool = True
    url: str | None = None
    params: Mapping[str, Any] | None = None
    headers: Mapping[str, str] | None = None
    before: Callable[[], None] | None = None


class Client:
    """Calls one outside system within its limits. Safe for threads; close it when done."""

    def __init__(
        self,
        connection: Connection,
        *,
        gate: Gate,
        clock: Clock,
        tokens: TokenCache,
        breaker: Breaker | None = None,
        random: random_module.Random | None = None,
        transport: httpx.BaseTransport | None = None,
        resolve: Resolver | None = None,
    ) -> None:
        self.connection = connection
        self.clock = clock
        self._gate = gate
        self._breaker = breaker or AlwaysClosed()
        self._limits = connection.manifest.limits
        self._account = connection.account
        self._random = random or random_module.Random()  # noqa: S311 (jitter, not a secret)
        self._auth: Authenticator = authenticator(
            AuthParts(
                auth=connection.manifest.auth,
                config=connection.config,
                connection=connection.name,
                account=self._account,
                cache=tokens,
                clock=clock,
                login=fetcher(connection, self.login_call),
            )
        )
        self._exchange = Exchange(
            transport or self._transport(resolve),
            deadline=self._limits.deadline,
            connect=self._limits.connect,
            max_bytes=self._limits.max_bytes,
        )

    def _transport(self, resolve: Resolver | None) -> httpx.BaseTransport:
        connection = self.connection
        return GuardedTransport(
            connection.egress,
            tls=tls.context(connection.urls, connection.ca, connection.name),
            connections=self._limits.concurrent + 1,
            resolve=resolve,
        )

    def close(self) -> None:
        """Close all sockets."""
        self._exchange.close()

    @property
    def added_params(self) -> frozenset[str]:
        """Names of the parameters added to every call; they are not part of a saved link."""
        return frozenset(self.connection.manifest.common.params) | self._auth.params

    # --- calling ------------------------------------------------------------------------------

    def call(
        self,
        request: Request,
        context: Mapping[str, Any] | None = None,
        *,
        read: bool,
        url: str | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> Reply:
        """The successful answer, decoded. Any other ending raises the error of its recovery.

        `context` fills the templates before the settings do; `params` and `headers` are added;
        `url` (which arrived as data) replaces the address and must stay on an approved host.
        `before` is called when all waiting is over, just before the first byte.
        """
        call = _Call(
            request=request,
            names=ChainMap(dict(context or {}), dict(self.connection.config)),
            envelope=self.connection.manifest.envelope or _ANY_BODY,
            read=read,
            url=url,
            params=params,
            headers=headers,
            before=before,
        )
        if not read:
            return self._settled(call)
        retrying = Retrying(
            stop=stop_after_attempt(self._limits.tries),
            wait=self._wait,
            retry=retry_if_exception(self._worth_waiting),
            sleep=self.clock.sleep,
            reraise=True,
        )
        return retrying(self._settled, call)

    def log_in(self) -> None:
        """Make sure that credentials are at hand; logs in when the kind asks for it."""
        self._auth.token()

    def login_call(
        self,
        request: Request,
        context: Mapping[str, Any] | None = None,
        *,
        envelope: Envelope | None = None,
    ) -> Reply:
        """A call without credentials and common parameters, once; a refusal is AuthError."""
        call = _Call(
            request=request,
            names=ChainMap(dict(context or {}), dict(self.connection.config)),
            envelope=envelope or self.connection.manifest.envelope or _ANY_BODY,
            read=True,
            credentials=False,
        )
        result = self._once(call, None)
        if isinstance(result, Incident):
            raise login_error(result)
        return result

    def _settled(self, call: _Call) -> Reply:
        try:
            return self._answered(call)
        except AuthError as error:
            if error.code != _FORBIDDEN:
                self._breaker.refused(self.connection.name, str(error))
            raise

    def _answered(self, call: _Call) -> Reply:
        token = self._auth.token()
        result = self._once(call, token)
        if isinstance(result, Incident) and result.kind == "reauth" and self._auth.renewable:
            # Refused before anything was done, so that a write may be sent again, too.
            result = self._once(call, self._auth.renew(token))
        if isinstance(result, Reply):
            return result
        raise read_error(result) if call.read else write_error(result)

    def _once(self, call: _Call, token: str | None) -> Reply | Incident:
        out = self._outgoing(call)
        if call.credentials:
            self._auth.apply(out, token)
        _check_headers(out, self.connection.name)
        where = self._where(out, token)
        name, limits = self.connection.name, self._limits
        with self._gate.slot(self._account, limits.concurrent):
            self._gate.wait(self._account, limits.rate)
            with self._breaker.attempt(name, limits.deadline + limits.connect) as attempt:
                if call.before is not None:
                    call.before()
                result = self._judged(call, out, where, token)
                if isinstance(result, Reply):
                    attempt.answered = True
                elif result.kind in _DOWN:
                    attempt.trouble = str(read_error(result))
                else:
                    # Whether refused credentials are the end is seen after the next login.
                    attempt.answered = result.kind != "reauth"
        return result

    def _judged(
        self, call: _Call, out: Outgoing, where: str, token: str | None
    ) -> Reply | Incident:
        started = time.monotonic()
        result = self._exchange.send(out)
        took = (time.monotonic() - started) * 1000
        status = result.status if isinstance(result, Answer) else result.trouble
        log.debug("%s %s %.0f ms", where, status, took)
        if isinstance(result, Failure):
            return self._failed(result, where, out.url)
        return self._judge(call, result, where, out.url, token)

    def _worth_waiting(self, error: BaseException) -> bool:
        """Whether to try a read again in this thread; longer waits are the caller's."""
        if not isinstance(error, TransientError) or error.code in _NOT_TRIED:
            return False
        return error.retry_after is None or error.retry_after <= self._gate.patience

    def _wait(self, state: RetryCallState) -> float:
        """What the vendor asked for, else exponential with full jitter."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, TransientError) and error.retry_after is not None:
            return error.retry_after
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (state.attempt_number - 1))
        return self._random.uniform(0, longest)

    # --- building a request -------------------------------------------------------------------

    def _outgoing(self, call: _Call) -> Outgoing:
        name, request = self.connection.name, call.request
        out = Outgoing(request.method, *self._address(call))
        common = self.connection.manifest.common if call.credentials else None
        if common is not None:
            self._add_params(out, fill(common.params, self.connection.config, name))
            out.headers.update(_texts(fill(common.headers, self.connection.config, name)))
        if call.url is None:
            self._add_params(out, fill(request.params, call.names, name))
        self._add_params(out, call.params or {})
        out.headers.update(_texts(fill(request.headers, call.names, name)))
        out.headers.update(_texts(call.headers or {}))
        if request.body is not None:
            self._add_body(out, call)
        return out

    def _address(self, call: _Call) -> tuple[str, list[tuple[str, str]]]:
        """The URL without its query, and the query."""
        name = self.connection.name
        path = fill_path(call.request.path, call.names, name) if call.url is None else call.url
        if "://" not in path:
            path = self.connection.base_url + ("" if path.startswith("/") else "/") + path
        else:
            self.connection.egress.check_url(path, name)
        address, _, query = path.partition("#")[0].partition("?")
        return address, parse_qsl(query, keep_blank_values=True)

    @staticmethod
    def _add_params(out: Outgoing, params: Mapping[str, Any]) -> None:
        for name, value in params.items():
            if isinstance(value, list):
                out.params.extend((name, text_of(item)) for item in value)
            elif value is not None:
                out.set_param(name, text_of(value))

    def _add_body(self, out: Outgoing, call: _Call) -> None:
        body = fill(call.request.body, call.names, self.connection.name)
        declared = {name.lower(): value for name, value in out.headers.items()}
        media = declared.get("content-type", "")
        try:
            if media.startswith(_FORM):
                pairs = {k: text_of(v) for k, v in dict(body).items() if v is not None}
                out.content = urlencode(pairs).encode()
            else:
                out.content = encode(body)
        except (TypeError, ValueError, OverflowError) as error:
            raise _unsendable(self.connection.name, error, read=call.read) from None
        if not media:
            out.headers["Content-Type"] = "application/json"

    def _where(self, out: Outgoing, token: str | None) -> str:
        path = urlsplit(out.url).path or "/"
        return self.connection.mask(f"{self.connection.name}: {out.method} {path}", token)

    # --- judging an answer --------------------------------------------------------------------

    def _failed(self, failure: Failure, where: str, url: str) -> Incident:
        name = self.connection.name
        if failure.trouble in ("not_sent", "lost"):
            reason = self.connection.mask(f"{urlsplit(url).netloc}: {failure.reason}")
            return Incident(failure.trouble, name, where, reason=reason)
        error = ContractBroken(f"http.{failure.trouble}", where=where, found=failure.reason)
        return Incident("broken", name, where, error=error)

    def _judge(
        self, call: _Call, answer: Answer, where: str, url: str, token: str | None
    ) -> Reply | Incident:
        name, status = self.connection.name, answer.status
        if not 200 <= status < 300 and status < 400:
            return Incident("redirect", name, where, status=status)
        if not answer.raw and (status == 204 or (status == 201 and not call.read)):
            return Reply(None, answer.headers, status, empty=call.read, url=url)
        body = self._body(answer, where)
        if isinstance(body, ContractBroken):
            return Incident("broken", name, where, status=status, error=body)
        verdict = classify(status, body, call.envelope)
        if verdict.kind == "ok" or verdict.kind == "empty":
            return Reply(body, answer.headers, status, empty=verdict.kind == "empty", url=url)
        code, said = self._said(verdict.code, token), self._said(verdict.message, token) or ""
        if verdict.kind == "shape":
            path = call.envelope.ok.path
            error = ContractBroken("http.no_sign_of_success", where=where, path=path)
            return Incident("broken", name, where, status, code, said, error=error)
        asked = asked_to_wait(answer.headers, self.clock.now())
        if asked is not None and verdict.kind in ("throttle", "retry"):
            self._gate.pause(self._account, asked)
        return Incident(verdict.kind, name, where, status, code, said, retry_after=asked)

    def _body(self, answer: Answer, where: str) -> Any:
        """The decoded body, MISSING for an error page, or why a success cannot be read."""
        try:
            self._check_media(answer, where)
            return decode(answer.raw, self.connection.manifest.charset, where)
        except ContractBroken as error:
            return error if answer.status < 300 else MISSING

    def _check_media(self, answer: Answer, where: str) -> None:
        manifest = self.connection.manifest
        if not answer.raw:
            raise ContractBroken("http.no_body", where=where, status=answer.status)
        media, charset = media_type(answer.headers)
        # No declared type at all: decoding is strict enough to tell.
        if media and media not in manifest.media_types:
            raise ContractBroken(
                "http.media_type",
                where=where,
                found=media[:60],
                length=len(answer.raw),
                expected=", ".join(manifest.media_types),
            )
        if charset and not same_charset(charset, manifest.charset):
            raise ContractBroken(
                "http.charset", where=where, found=charset[:40], expected=manifest.charset
            )

    def _said(self, text: str | None, token: str | None) -> str | None:
        return None if text is None else self.connection.mask(text[:500], token)


def quiet_http_logs() -> None:
    """Stop the HTTP libraries from logging full URLs and headers; called once at start."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: text_of(value) for name, value in values.items() if value is not None}


def _check_headers(out: Outgoing, where: str) -> None:
    for name, value in out.headers.items():
        if any(ord(character) < 32 or ord(character) == 127 for character in name + value):
            raise ConfigError("http.header", where=where, header=name)


def _unsendable(connection: str, error: Exception, *, read: bool) -> HubError:
    kind = ConfigError if read else RecordRejected
    return kind("http.unsendable", where=connection, reason=type(error).__name__)
