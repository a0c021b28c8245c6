"""One HTTP request and its raw answer: capped, within a deadline, never inflated."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Literal
from urllib.parse import quote, urlencode

import httpx

from hub.sdk.egress import GuardedTransport

Trouble = Literal["not_sent", "lost", "too_large", "encoded"]


@dataclass(slots=True)
class Outgoing:
    """A request about to be sent; authentication still adds to it."""

    method: str
    url: str
    params: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def query(self) -> str:
        """The query string exactly as it will be sent."""
        return urlencode(self.params, quote_via=quote, safe="")

    def set_param(self, name: str, value: str) -> None:
        """Set a parameter, replacing one of the same name."""
        self.params = [pair for pair in self.params if pair[0] != name]
        self.params.append((name, value))


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and raw body of a complete answer."""

    status: int
    headers: Mapping[str, str]
    raw: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """No usable answer: nothing was sent, the answer was lost, or it may not be read."""

    trouble: Trouble
    reason: str


class Exchange:
    """Sends requests for one connection. Safe for threads; close it when done."""

    def __init__(
        self,
        transport: httpx.BaseTransport,
        *,
        deadline: float,
        connect: float,
        max_bytes: int,
    ) -> None:
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._guard = transport.guard if isinstance(transport, GuardedTransport) else None
        self._http = httpx.Client(
            transport=transport,
            timeout=httpx.Timeout(deadline, connect=min(connect, deadline)),
            follow_redirects=False,
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"Accept-Encoding": "identity", "User-Agent": "integration-hub"},
        )

    def close(self) -> None:
        """Close all sockets."""
        self._http.close()

    def send(self, out: Outgoing) -> Answer | Failure:
        """The complete answer, or why there is none. Never raises for the network's sake."""
        if self._guard is not None:
            self._guard.begin(self._deadline)
        url = f"{out.url}?{out.query}" if out.params else out.url
        headers = [(name.encode(), value.encode()) for name, value in out.headers.items()]
        try:
            with self._http.stream(
                out.method, url, content=out.content or None, headers=headers
            ) as response:
                return self._receive(response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return Failure("not_sent", f"{type(error).__name__} {error}".strip()[:200])
        except httpx.TransportError as error:
            sent = self._guard is None or self._guard.sent
            return Failure("lost" if sent else "not_sent", type(error).__name__)

    def _receive(self, response: httpx.Response) -> Answer | Failure:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            if response.status_code < 300:
                return Failure("encoded", encoding[:40])
            return Answer(response.status_code, response.headers, b"")
        parts: list[bytes] = []
        size = 0
        for part in response.iter_raw():
            size += len(part)
            if size > self._max_bytes:
                return Failure("too_large", f"more than {self._max_bytes} bytes")
            parts.append(part)
        return Answer(response.status_code, response.headers, b"".join(parts))


def asked_to_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """`Retry-After` in seconds from `now`, at most a week; None when absent or unreadable."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError):
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    return min(max(seconds, 0.0), 7 * 86400.0) if seconds == seconds else None


def media_type(headers: Mapping[str, str]) -> tuple[str, str | None]:
    """The declared media type (lower case, `` when absent) and its charset."""
    media, _, rest = headers.get("content-type", "").partition(";")
    for parameter in rest.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return media.strip().lower(), value.strip().strip("\"'").lower()
    return media.strip().lower(), None


def same_charset(declared: str, expected: str) -> bool:
    """Whether two names mean one charset; ASCII is part of every one we read."""
    try:
        found, wanted = codecs.lookup(declared).name, codecs.lookup(expected).name
    except LookupError:
        return False
    return found == wanted or found == "ascii"
