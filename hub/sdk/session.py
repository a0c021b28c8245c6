"""A session: one connection in use, with its streams and sinks."""

from __future__ import annotations

import random as random_module
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from hub.sdk.auth import TokenCache
from hub.sdk.body import key_parts
from hub.sdk.breaker import Breaker
from hub.sdk.clock import Clock
from hub.sdk.connection import Connection
from hub.sdk.egress import Resolver
from hub.sdk.errors import AuthError, ConfigError, ContractBroken, HubError, TransientError
from hub.sdk.hooks import HookReceiver
from hub.sdk.http import Client
from hub.sdk.limits import Gate
from hub.sdk.loading import suggestion
from hub.sdk.messages import render
from hub.sdk.sinks import SinkWriter
from hub.sdk.streams import StreamReader


def no_key(where: str, key: list[str]) -> ContractBroken:
    """The error for rows of which none has the declared key."""
    return ContractBroken("read.no_key", where=where, key=", ".join(key))


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of `hub connector check`: what was tried and how it went."""

    step: str
    ok: bool
    error: HubError | None = None
    code: str = "check.ok"
    params: tuple[tuple[str, object], ...] = ()

    def message(self, language: str = "en") -> str:
        """The line for an operator."""
        if self.error is not None:
            return self.error.message(language)
        return render(self.code, dict(self.params), language)


class Session:
    """A connection in use. Close it (or use `with`) to close its sockets. Safe for threads."""

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
        self._clock = clock
        self._receiver: HookReceiver | None = None
        self.client = Client(
            connection,
            gate=gate,
            clock=clock,
            tokens=tokens,
            breaker=breaker,
            random=random,
            transport=transport,
            resolve=resolve,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all sockets."""
        self.client.close()

    def stream(self, name: str) -> StreamReader:
        """The reader of a stream. Raises ConfigError for an unknown name."""
        streams = self.connection.manifest.streams
        if name not in streams:
            raise self._unknown("connection.unknown_stream", name, list(streams))
        return StreamReader(name, streams[name], self.client, self._clock)

    def sink(self, name: str) -> SinkWriter:
        """The writer of a sink. Raises ConfigError for an unknown name."""
        sinks = self.connection.manifest.sinks
        if name not in sinks:
            raise self._unknown("connection.unknown_sink", name, list(sinks))
        return SinkWriter(name, sinks[name], self.client)

    def hook(self) -> HookReceiver:
        """The receiver of the connection's webhook. Raises ConfigError when it has none."""
        if self._receiver is None:
            self._receiver = HookReceiver(self.connection)
        return self._receiver

    def check(self) -> list[CheckResult]:
        """Whether the connection works: reachable, login accepted, first page of every stream.

        Reads only. Steps that cannot succeed after a failure are left out.
        """
        name = self.connection.name
        results = [CheckResult("config", True, params=(("what", f"{name}: settings"),))]
        try:
            self.client.log_in()
        except HubError as error:
            reached = not isinstance(error, TransientError)
            return [*results, CheckResult("login" if reached else "reach", False, error)]
        results.append(CheckResult("login", True, params=(("what", f"{name}: login"),)))
        for stream in self.connection.manifest.streams:
            result = self._check_stream(stream)
            results.append(result)
            if isinstance(result.error, AuthError | TransientError):
                break
        return results

    def _check_stream(self, stream: str) -> CheckResult:
        step = f"stream {stream}"
        try:
            page = next(iter(self.stream(stream).read(None)), None)
        except HubError as error:
            return CheckResult(step, False, error)
        found = list(page.rows) if page is not None else []
        rows = len(found)
        key = self.connection.manifest.streams[stream].key
        if found and all(None in key_parts(row, key) for row in found):
            name = f"{self.connection.name}.{stream}"
            return CheckResult(step, False, no_key(name, key))
        what = f"{self.connection.name}.{stream}"
        return CheckResult(step, True, code="check.page", params=(("what", what), ("rows", rows)))

    def _unknown(self, code: str, name: str, known: list[str]) -> ConfigError:
        hint = suggestion(name, known)
        return ConfigError(code, connection=self.connection.name, name=name, hint=hint)
