"""The senders of `bench hooks`, in a process of their own: signed events over kept connections.

Each connection sends its next event when the last one is answered. Reads one line of JSON from
stdin for each measurement and answers with one line.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

SECRET = "bench-hook-secret"  # noqa: S105 (of a hub that lives for seconds)
BODY_BYTES = 500
WARM_UP = 1.0


@dataclass(slots=True)
class Load:
    """What one measurement saw; latencies in seconds of answers behind the warm-up.

    `thanked` counts every 2xx, `accepted` those within the measured seconds.
    """

    sent: int = 0
    thanked: int = 0
    accepted: int = 0
    refused: int = 0
    broken: int = 0
    seconds: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    slowest: float = 0.0

    @property
    def rate(self) -> float:
        return self.accepted / self.seconds if self.seconds else 0.0


def event(number: int, run: str) -> tuple[bytes, str]:
    """The body of an event and its signature."""
    order = {"no": f"SO{number}", "amount": f"{number % 9999}.50", "customer": f"C{number % 97}"}
    body: dict[str, Any] = {"id": f"{run}-{number}", "type": "order", "order": order, "note": ""}
    body["note"] = "x" * (BODY_BYTES - len(json.dumps(body)))
    raw = json.dumps(body).encode()
    return raw, hmac.new(SECRET.encode(), raw, "sha256").hexdigest()


class Sender(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._began = 0.0
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (narrows the type)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self._answer = b""
        self._work.answered(int(head[9:12]), self._began)
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        self._work.lost()

    def _send(self) -> None:
        request = self._work.next_request()
        if request is None:
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(request)


class Work:
    """What all connections of a measurement share."""

    def __init__(self, url: str, connections: int, seconds: float) -> None:
        parts = urlsplit(url)
        self._head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n".encode()
        self._head += b"content-type: application/json\r\nuser-agent: bench\r\n"
        self._run = uuid.uuid4().hex[:8]
        self._open = connections
        self._latencies: list[float] = []
        self._from = time.perf_counter() + WARM_UP
        self._until = self._from + seconds
        self._last = self._from
        self.load = Load()
        self.done = asyncio.get_running_loop().create_future()

    def next_request(self) -> bytes | None:
        if time.perf_counter() >= self._until:
            return None
        body, signature = event(self.load.sent, self._run)
        self.load.sent += 1
        return b"%sx-signature: %s\r\ncontent-length: %d\r\n\r\n%s" % (
            self._head,
            signature.encode(),
            len(body),
            body,
        )

    def answered(self, status: int, began: float) -> None:
        now = time.perf_counter()
        if status >= 300:
            self.load.refused += 1
            return
        self.load.thanked += 1
        if self._from <= now <= self._until:
            self.load.accepted += 1
            self._latencies.append(now - began)

    def lost(self) -> None:
        self._open -= 1
        if time.perf_counter() < self._until:
            self.load.broken += 1
        if not self._open and not self.done.done():
            self.done.set_result(None)

    def close(self) -> Load:
        self.load.seconds = self._until - self._from
        ordered = sorted(self._latencies)
        if ordered:
            self.load.p50 = ordered[len(ordered) // 2]
            self.load.p99 = ordered[int(len(ordered) * 0.99)]
            self.load.slowest = ordered[-1]
        return self.load


async def load(url: str, connections: int, seconds: float) -> Load:
    """Send events for `seconds` over `connections` connections."""
    work = Work(url, connections, seconds)
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    for _ in range(connections):
        await loop.create_connection(lambda: Sender(work), parts.hostname, parts.port)
    await asyncio.wait_for(work.done, seconds + 60)
    return work.close()


def _length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0] or 0)


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        result = asyncio.run(load(asked["url"], asked["connections"], asked["seconds"]))
        sys.stdout.write(json.dumps(asdict(result)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
