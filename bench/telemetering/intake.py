"""Messages accepted durably while the projector works, beside the bare store."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any, Self

from bench.hooks_load import WARM_UP, Load
from bench.telemetering.site import ROOT, Broken, Served, Site

MACHINES = 200
STEADY_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Case:
    """One way of sending. `least` is the target: readings per second, messages for MQTT."""

    name: str
    kind: str
    readings: int
    connections: int
    least: float
    most_p99_ms: float | None = None
    window: int = 0
    most_messages: int = 20_000
    """Made before the clock starts; more than can be taken in the time."""

    @property
    def counts_messages(self) -> bool:
        return self.kind == "mqtt"


CASES = (
    Case("http-100", "json", 100, 24, 30_000, 200.0, most_messages=40_000),
    Case("http-1000", "json", 1000, 16, 200_000, most_messages=14_000),
    Case("mqtt-10", "mqtt", 10, 16, 4_000, window=100, most_messages=260_000),
    Case("lines-1000", "lines", 1000, 16, 80_000, most_messages=14_000),
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one case saw; `drained` is how long the projector took after the last answer."""

    case: Case
    load: Load
    drained: float
    waiting: int
    bare: float
    """Messages of this size per second that the store alone commits."""

    @property
    def readings(self) -> float:
        return self.load.rate * self.case.readings

    @property
    def reached(self) -> float:
        return self.load.rate if self.case.counts_messages else self.readings

    @property
    def projected(self) -> float:
        """Readings per second that became readings, from the first message to the last chunk."""
        seconds = WARM_UP + self.load.seconds + self.drained
        return self.load.thanked * self.case.readings / seconds

    def row(self) -> dict[str, Any]:
        return {
            "messages_per_second": round(self.load.rate),
            "readings_per_second": round(self.readings),
            "p50_ms": round(self.load.p50 * 1000, 1),
            "p99_ms": round(self.load.p99 * 1000, 1),
            "slowest_ms": round(self.load.slowest * 1000, 1),
            "bare_messages_per_second": round(self.bare),
            "of_bare": round(self.load.rate / self.bare, 3),
            "waiting_at_the_end": self.waiting,
            "drained_seconds": round(self.drained, 2),
            "projected_per_second": round(self.projected),
            "load": asdict(self.load),
        }

    def missed(self) -> list[str]:
        found = []
        unit = "messages/s" if self.case.counts_messages else "readings/s"
        if self.reached < self.case.least:
            found.append(f"{self.reached:,.0f} {unit} (target ≥ {self.case.least:,.0f})")
        most = self.case.most_p99_ms
        if most is not None and not self.load.p99 * 1000 < most:
            found.append(f"p99 {self.load.p99 * 1000:.0f} ms (target < {most:.0f} ms)")
        return [f"{self.case.name}: {one}" for one in found]


class Senders:
    """The process that sends."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.telemetering.senders"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def load(self, case: Case, address: str, run: int, seconds: float) -> Load:
        """Make the messages, then send them. Raises Broken when one was refused."""
        share = seconds / 8 + 0.25
        asked = {
            "kind": case.kind, "url": address, "readings": case.readings, "run": run,
            "connections": case.connections, "machines": MACHINES, "window": case.window,
            "seconds": seconds, "messages": int(case.most_messages * share),
        }  # fmt: skip
        self._say(json.dumps(asked))
        if self._hear() != "ready":
            raise Broken("the senders gave up")
        self._say("go")
        found = Load(**json.loads(self._hear()))
        if found.sent >= asked["messages"] - case.connections:
            raise Broken(f"{case.name}: the senders ran out of messages ({found.sent})")
        if found.refused or found.broken or not found.accepted:
            raise Broken(f"{case.name}: {found.refused} refused, {found.broken} broken")
        return found

    def start_steady(self, address: str, run: int, seconds: float, rate: float) -> None:
        """Begin sending `rate` messages of 100 readings per second; `steady` waits for the end."""
        asked = {
            "kind": "steady", "url": address, "readings": 100, "run": run, "rate": rate,
            "connections": STEADY_CONNECTIONS, "machines": MACHINES, "seconds": seconds,
        }  # fmt: skip
        self._say(json.dumps(asked))

    def steady(self) -> Load:
        """What was sent. Raises Broken when something was refused."""
        found = Load(**json.loads(self._hear() or "{}"))
        if found.refused or not found.thanked:
            raise Broken(f"steady: {found.refused} refused, {found.thanked} thanked for")
        return found

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 (asked for above)
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None  # noqa: S101 (asked for above)
        return self._process.stdout.readline().strip()


def take(
    case: Case, site: Site, served: Served, senders: Senders, run: int, seconds: float
) -> tuple[Load, float, int]:
    """Send one case to a running hub, let the projector finish, and count what is there.

    Raises Broken when a reading that was acknowledged is missing.
    """
    address = served.mqtt if case.counts_messages else served.http
    load = senders.load(case, address, run, seconds)
    waiting = site.waiting()
    drained = site.wait_projected()
    kept, owed = site.count(run), load.thanked * case.readings
    if kept < owed:
        raise Broken(f"{case.name}: {owed:,} readings were acknowledged, {kept:,} are there")
    if kept > load.sent * case.readings:
        raise Broken(f"{case.name}: {kept:,} readings are there, fewer were sent")
    return load, drained, waiting


def bare(store: str, group: int, body_bytes: int, seconds: float) -> float:
    """Messages of this size per second that the store alone commits, `group` to a transaction."""
    arguments = [store, str(group), str(seconds), str(body_bytes)]
    command = [sys.executable, "-m", "bench.hooks_ceiling", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Broken(f"the bare store: {done.stderr.strip()[-500:]}")
    return float(done.stdout)
