"""Senders that keep what has no acknowledgement and send it again, each on a thread of its own."""

from __future__ import annotations

import gzip
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.telemetry.kills.journal import METRIC, Journal, Reading

_AGAIN = (429, 503, 507)
_TIMEOUT = 30.0


class Sender(threading.Thread):
    """Sends readings of its journal, `size` at once, until told to finish.

    `answers` counts what it was told: HTTP status, or what became of the connection.
    """

    def __init__(self, name: str, journal: Journal, size: int = 5, pause: float = 0.002) -> None:
        super().__init__(name=name, daemon=True)
        self.journal = journal
        self.answers: Counter[str] = Counter()
        self.trouble: Exception | None = None
        self.size, self.pause = size, pause
        self.last = threading.Event()
        """Nothing new is sent any more."""
        self.given_up = threading.Event()

    def run(self) -> None:
        try:
            self.work()
        except Exception as error:  # noqa: BLE001 (`check` raises it where somebody looks)
            self.trouble = error

    def work(self) -> None:
        """Until `last`, and everything that was sent is acknowledged."""
        raise NotImplementedError

    @property
    def kept(self) -> int:
        """Acknowledged readings."""
        return len(self.journal.acknowledged)

    def finish(self, seconds: float = 40.0) -> None:
        """Send no more, and wait for what has no acknowledgement."""
        self.last.set()
        self.join(seconds)
        self.check()
        assert not self.is_alive(), f"{self.name} still waits: {dict(self.answers)}"

    def check(self) -> None:
        """Raises what the sender stumbled over."""
        if self.trouble is not None:
            raise self.trouble


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


Make = Callable[[str, Sequence[Reading]], Request]
"""A request of (device, readings)."""


class HttpSender(Sender):
    """One connection, kept alive; the same request again after anything but success."""

    def __init__(
        self,
        name: str,
        journal: Journal,
        port: int,
        make: Make,
        size: int = 5,
        pause: float = 0.002,
    ) -> None:
        super().__init__(name, journal, size, pause)
        self.port, self.make = port, make
        self.impatient: Counter[int] = Counter()
        """Refusals without Retry-After, by status."""

    def work(self) -> None:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT)
        while not self.last.is_set():
            readings = self.journal.take(self.size)
            request = self.make(self.journal.name, readings)
            while not self._sent(link, request):
                if self.given_up.is_set():
                    return
            self.journal.acknowledge(readings)
            time.sleep(self.pause)
        link.close()

    def _sent(self, link: http.client.HTTPConnection, request: Request) -> bool:
        try:
            link.request("POST", request.path, request.body, request.headers)
            answer = link.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.answers[type(error).__name__] += 1
            link.close()
            time.sleep(0.05)
            return False
        self.answers[str(answer.status)] += 1
        if answer.status in (200, 204):
            return True
        assert answer.status in _AGAIN, (answer.status, said)
        if answer.getheader("Retry-After") is None:
            self.impatient[answer.status] += 1
        time.sleep(0.1)
        return False


# --- the words of each protocol -----------------------------------------------------------------


def thingsboard(device: str, readings: Sequence[Reading]) -> Request:
    """The device's own token is its name."""
    return Request(f"/api/v1/{device}/telemetry", {}, thingsboard_body(readings))


def thingsboard_body(readings: Sequence[Reading]) -> bytes:
    return json.dumps([{"ts": ts, "values": {METRIC: n}} for n, ts in readings]).encode()


def gateway_body(device: str, readings: Sequence[Reading]) -> bytes:
    return b'{"%s": %s}' % (device.encode(), thingsboard_body(readings))


def plain(device: str, readings: Sequence[Reading]) -> Request:
    """Readings with a key; the number is sent as text now and then."""
    body = [
        {"device": device, "ts": ts, "values": {METRIC: str(n) if n % 3 == 0 else n}}
        for n, ts in readings
    ]
    headers = {**_bearer(device), "Idempotency-Key": f"{device}-{readings[0].serial}"}
    return Request("/telemetry/v1/readings", headers, json.dumps(body).encode())


def cloud_events(device: str, readings: Sequence[Reading]) -> Request:
    """A batch; an event has the same id whenever it is sent."""
    body = [
        {
            "specversion": "1.0",
            "id": str(n),
            "source": f"/{device}",
            "type": "reading",
            "subject": device,
            "datacontenttype": "application/json",
            "data": [{"ts": ts, "values": {METRIC: n}}],
        }
        for n, ts in readings
    ]
    headers = {**_bearer(device), "Content-Type": "application/cloudevents-batch+json"}
    return Request("/telemetry/v1/events", headers, json.dumps(body).encode())


def influx_1(device: str, readings: Sequence[Reading]) -> Request:
    path = f"/write?db=plant&precision=ms&u=any&p={device}"
    return Request(path, {"Content-Encoding": "gzip"}, _lines(device, readings, 1))


def influx_2(device: str, readings: Sequence[Reading]) -> Request:
    headers = {"Authorization": f"Token {device}", "Content-Encoding": "gzip"}
    body = _lines(device, readings, 1_000_000)
    return Request("/api/v2/write?org=o&bucket=b&precision=ns", headers, body)


def _lines(device: str, readings: Sequence[Reading], factor: int) -> bytes:
    made = (f"plant,device={device} {METRIC}={n}i {ts * factor}\n" for n, ts in readings)
    return gzip.compress("".join(made).encode(), 1)


def _bearer(device: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {device}"}
