"""One try of one message: signed, posted to a checked address, within a deadline."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from hub.engine.webhooks.endpoints import Endpoints, refused
from hub.sdk.clock import Clock
from hub.sdk.connection import blot
from hub.sdk.egress import GuardedTransport
from hub.sdk.errors import ConfigError, HubError, TransientError
from hub.sdk.exchange import asked_to_wait
from hub.sdk.standard_webhooks import sign
from hub.store.rows import plain_text, to_ms

KEPT_ANSWER = 1000
"""Characters of an answer that the log keeps."""

_READ_ANSWER = 2 * KEPT_ANSWER
_CONNECT_SECONDS = 10.0
# The status has decided; an endpoint that drips its body must not hold the place.
_BODY_SECONDS = 2.0

log = logging.getLogger("hub.engine.webhooks")


@dataclass(frozen=True, slots=True)
class Letter:
    """What is sent: `secrets` sign it, the newest first."""

    id: str
    url: str
    body: bytes
    secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tried:
    """How a try went; without an error the endpoint has taken the message."""

    began_at: int
    took_ms: int
    status: int | None = None
    error: HubError | None = None
    answer: str | None = None
    asked_wait: float | None = None


class Poster:
    """Posts messages. Safe for threads; close it (or use `with`) when done."""

    def __init__(self, endpoints: Endpoints, clock: Clock) -> None:
        settings = endpoints.settings
        self._endpoints = endpoints
        self._clock = clock
        self._seconds = settings.timeout_seconds
        self._transport = GuardedTransport(
            endpoints.egress,
            tls=endpoints.certificates(),
            connections=settings.concurrent,
            resolve=endpoints.resolve,
        )
        connect = min(_CONNECT_SECONDS, self._seconds)
        self._http = httpx.Client(
            transport=self._transport,
            timeout=httpx.Timeout(self._seconds, connect=connect),
            follow_redirects=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "integration-hub-webhooks"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def post(self, letter: Letter) -> Tried:
        """One try, never an exception for the other side's sake."""
        began, started = self._clock.now(), self._clock.monotonic()
        status: int | None = None
        answer, asked = None, None
        problem: HubError | None = None
        try:
            self._endpoints.check_form(letter.url)  # what hub.toml approves may have changed
            stamp = int(began.timestamp())
            headers = sign(letter.secrets, letter.id, stamp, letter.body)
            headers["Content-Type"] = "application/json"
            self._transport.guard.begin(self._seconds)
            with self._http.stream(
                "POST", letter.url, content=letter.body, headers=headers
            ) as response:
                status = response.status_code
                asked = asked_to_wait(response.headers, began)
                answer = self._answer(response, letter)
            problem = _judged(status)
        except ConfigError as error:
            problem = refused(error) if error.code.startswith("egress.") else error
        except httpx.TimeoutException as error:
            problem = TransientError(
                "webhook.timeout", seconds=f"{self._seconds:g}", kind=_name(error)
            )
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            problem = TransientError("webhook.unreachable", reason=_reason(error))
        except Exception as error:
            log.exception("%s: a try failed in our own code", letter.id)
            problem = TransientError("webhook.internal", kind=_name(error))
        took = int((self._clock.monotonic() - started) * 1000)
        return Tried(to_ms(began), took, status, problem, answer, asked)

    def _answer(self, response: httpx.Response, letter: Letter) -> str:
        """The beginning of the body, secrets blotted out; what does not come is left out."""
        self._transport.guard.begin(min(_BODY_SECONDS, self._seconds))
        raw = b""
        with suppress(httpx.HTTPError):
            for part in response.iter_raw():
                raw += part
                if len(raw) >= _READ_ANSWER:
                    break
        text = plain_text(raw[:_READ_ANSWER].decode("utf-8", "replace"))
        bare = [secret.removeprefix("whsec_") for secret in letter.secrets]
        return blot(text, [*letter.secrets, *bare])[:KEPT_ANSWER]


def _judged(status: int) -> HubError | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return TransientError("webhook.redirect", status=status)
    return TransientError("webhook.status", status=status)


def _name(error: Exception) -> str:
    return type(error).__name__


def _reason(error: Exception) -> str:
    return f"{_name(error)} {error}".strip()[:200]
