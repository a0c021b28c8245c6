"""How Telegraf's two Influx outputs treat answers: what they keep, drop, split, and when they wait.

Written from what its outputs are known to do (docs/telemetry-influx.md has the table):

    answer                   outputs.influxdb (v1)        outputs.influxdb_v2
    204                      done                         done (also 200–202, 206–208)
    error "database not      kept, CREATE DATABASE        –
      found", any status
    401, 403                 dropped                      kept
    413                      dropped                      split in two, each sent at once
    429                      dropped                      kept, waits Retry-After
    other 4xx                dropped                      dropped
    502, 503, 504            kept                         kept, waits Retry-After
    5xx whose text speaks    dropped                      –
      of a partial write …
    other 5xx, no answer     kept                         kept
"""

from __future__ import annotations

import gzip
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import httpx

_SPOKEN_OF_AS_FINAL = (
    "retention policy not found",
    "hinted handoff queue not empty",
    "points beyond retention policy",
    "partial write",
    "unable to parse",
)
_V2_DONE = {200, 201, 202, 204, 206, 207, 208}
_V2_WAITS = {429, 502, 503, 504}


@dataclass
class Telegraf:
    """Holds lines until they are accepted. `waits` are the Retry-After seconds it was told."""

    url: str
    token: str
    zipped: bool = False
    batch: int = 1000
    limit: int = 10_000
    buffer: deque[str] = field(default_factory=deque)
    dropped: list[str] = field(default_factory=list)
    overflowed: int = 0
    waits: list[float] = field(default_factory=list)
    requests: int = 0

    def gather(self, *lines: str) -> None:
        """New metrics; with a full buffer the oldest go."""
        for line in lines:
            if len(self.buffer) >= self.limit:
                self.buffer.popleft()
                self.overflowed += 1
            self.buffer.append(line)

    def flush(self, rounds: int = 1) -> None:
        """What Telegraf does once per interval: batches, oldest first, until one is not taken."""
        for _ in range(rounds):
            while self.buffer:
                lines = [self.buffer.popleft() for _ in range(min(self.batch, len(self.buffer)))]
                kept = self._send(lines)
                self.buffer.extendleft(reversed(kept))
                if kept:
                    break

    def _send(self, lines: list[str]) -> list[str]:
        """Send a batch; what must be sent again later."""
        raise NotImplementedError

    def _post(
        self, client: httpx.Client, path: str, lines: list[str], params: dict[str, str]
    ) -> httpx.Response | None:
        body = "".join(f"{line}\n" for line in lines).encode()
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self.zipped:
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        self.requests += 1
        try:
            return client.post(path, content=body, params=params, headers=headers)
        except httpx.TransportError:
            return None


def _client(url: str, **options: Any) -> httpx.Client:
    # Reading the CA certificates for each client would take most of the time.
    return httpx.Client(base_url=url, verify=False, trust_env=False, **options)  # noqa: S501


@dataclass
class TelegrafV1(Telegraf):
    """`outputs.influxdb`."""

    database_made: bool = False

    def _send(self, lines: list[str]) -> list[str]:
        with _client(self.url, auth=("telegraf", self.token)) as client:
            if not self.database_made:
                self._make_database(client)
            answer = self._post(client, "/write", lines, {"db": "telegraf"})
            if answer is None:
                return lines
            if answer.status_code == 204:
                return []
            text = _error_of(answer)
            if text is None:
                return lines
            if "database not found" in text:
                self._make_database(client)
                return lines
            if 400 <= answer.status_code < 500 or any(one in text for one in _SPOKEN_OF_AS_FINAL):
                self.dropped += lines
                return []
            return lines

    def _make_database(self, client: httpx.Client) -> None:
        answer = client.post("/query", data={"q": 'CREATE DATABASE "telegraf"'})
        results = answer.json().get("results", [{}])
        self.database_made = answer.status_code == 200 and not results[0].get("error")


def _error_of(answer: httpx.Response) -> str | None:
    """Its `error`; None when the body is no JSON, which keeps the data whatever the status."""
    if not answer.content:
        return ""
    try:
        loaded = json.loads(answer.content)
    except ValueError:
        return None
    return str(loaded.get("error", "")) if isinstance(loaded, dict) else ""


@dataclass
class TelegrafV2(Telegraf):
    """`outputs.influxdb_v2`."""

    def _send(self, lines: list[str]) -> list[str]:
        headers = {"Authorization": f"Token {self.token}"}
        with _client(self.url, headers=headers) as client:
            return self._try(client, lines)

    def _try(self, client: httpx.Client, lines: list[str]) -> list[str]:
        params = {"org": "o", "bucket": "b"}
        answer = self._post(client, "/api/v2/write", lines, params)
        if answer is None:
            return lines
        status = answer.status_code
        if status in _V2_DONE:
            return []
        if status == 413:
            if len(lines) == 1:
                return lines
            half = len(lines) // 2
            return self._try(client, lines[:half]) + self._try(client, lines[half:])
        if status in _V2_WAITS:
            self.waits.append(float(answer.headers.get("Retry-After", "0")))
            return lines
        if status in (401, 403) or status >= 500:
            return lines
        self.dropped += lines
        return []
