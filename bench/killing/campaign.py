"""The whole loop: kills, database stops and zombies under load, a last quiet while, the verdict."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.killing.fleet import Program
from bench.killing.pace import Requester, Stopwatch
from bench.killing.settling import come_to_rest, examine, verdict_on
from bench.killing.takeover import Observer
from bench.killing.world import Load, World, world
from bench.killing.writers import Probe

BACK_SECONDS = 5.0
"""Within how many seconds a killed hub accepts events again."""

TAKE_OVER_SECONDS = 10.0
"""Within how many seconds a living process goes on with the work of a killed one."""

GRACE_SECONDS = 6.0
"""The age of a heartbeat at which a process counts as dead (`hub.engine.durable`)."""

TIMED = ("ready", "accepted", "without_worker", "after_stop", "take_overs")
"""The measured seconds of an outcome: since the end of the server until the next one was ready and
had accepted an event; since the end of a worker, and the return of the database, until the server
accepted one; since the end of a worker until others went on with its jobs."""

_MID_START = 0.25
"""The share of kills that come while the process is still starting."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is broken, and in which order: the same seed gives the same order."""

    store: str
    kills: int = 200
    stops: int = 0
    zombies: int = 0
    take_overs: int = 0
    life: float = 2.5
    """The longest a process is left at work before the next kill, in seconds."""
    seed: int = 1
    swallow: int = 0
    load: Load = field(default_factory=Load)


@dataclass(slots=True)
class Outcome:
    """What a campaign did and found; `verdict` is the referee's."""

    store: str
    seed: int
    kills: int = 0
    stops: int = 0
    zombies: int = 0
    ended_by_itself: int = 0
    seconds: float = 0.0
    ready: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    without_worker: list[float] = field(default_factory=list)
    after_stop: list[float] = field(default_factory=list)
    take_overs: list[float] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    verdict: dict[str, Any] = field(default_factory=dict)

    @property
    def late(self) -> list[str]:
        """Promises about time that were not kept."""
        found = []
        for name, times, limit in (
            ("back after a kill", self.accepted, BACK_SECONDS),
            ("accepting while a worker is down", self.without_worker, BACK_SECONDS),
            ("back after a stop of the database", self.after_stop, BACK_SECONDS),
            ("take-over", self.take_overs, TAKE_OVER_SECONDS),
        ):
            if times and max(times) > limit:
                found.append(f"{name}: {max(times):.1f} s, promised {limit:g} s")
        return found

    @property
    def clean(self) -> bool:
        return bool(self.verdict.get("clean")) and not self.problems

    def summary(self) -> dict[str, Any]:
        """As the results keep it: lists of seconds become median and maximum."""
        plain = asdict(self)
        for name in TIMED:
            times = plain.pop(name)
            if times:
                plain[f"{name}_seconds"] = {
                    "p50": round(median(times), 2),
                    "max": round(max(times), 2),
                    "measured": len(times),
                }
        return {**plain, "late": self.late, "clean": self.clean}


def run_campaign(plan: Plan, folder: Path, say: Callable[[str], None]) -> Outcome:
    """One campaign on one store in an empty folder, from a new deployment to the verdict."""
    outcome = Outcome(plan.store, plan.seed)
    began = time.monotonic()
    with world(plan.store, plan.load, folder) as here:
        here.fleet.wait(here.fleet.is_ready, "the first start")
        misbehave(here)
        if plan.swallow:
            here.crm.do("swallow", times=plan.swallow)
        with (
            Stopwatch(here) as watch,
            Requester(here, plan.seed),
            closing(here.probe("STOP")) as probe,
        ):
            _Tormentor(here, plan, outcome, watch, probe, say).run()
        outcome.ready, outcome.accepted, outcome.slow = watch.ready, watch.accepted, watch.slow
        say("a last quiet while")
        outcome.problems += come_to_rest(here)
        outcome.ended_by_itself = sum(one.ended_by_itself for one in here.fleet.programs)
        codes = here.fleet.end()
        outcome.problems += [f"exit code {code} at the end" for code in codes if code]
        outcome.problems += examine(here.fleet.deployment, here.cluster)
        outcome.verdict = verdict_on(here.journal)
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def misbehave(here: World) -> None:
    """The outside world answers badly now and then until it is told to behave."""
    for fault, chance in (
        ("lost_answer", 0.02),
        ("status_after", 0.02),
        ("reset", 0.02),
        ("timeout_after", 0.002),
        ("too_many_requests", 0.01),
    ):
        here.crm.misbehave(fault, "/api/v1/*", times=None, options={"chance": chance})
    for fault, chance in (("reset", 0.02), ("status", 0.02), ("cut_body", 0.01)):
        here.u8.misbehave(fault, "/api/*", times=None, options={"chance": chance})


class _Tormentor:
    """Breaks one thing after the other and measures how fast it heals."""

    def __init__(
        self,
        here: World,
        plan: Plan,
        outcome: Outcome,
        watch: Stopwatch,
        probe: Probe,
        say: Callable[[str], None],
    ) -> None:
        self._here, self._fleet, self._plan = here, here.fleet, plan
        self._outcome, self._watch, self._say = outcome, watch, say
        self._chance = random.Random(plan.seed)
        self._probe = probe

    def run(self) -> None:
        """Every fault of the plan, in a random order."""
        plan = self._plan
        acts = [self._kill] * plan.kills + [self._stop_database] * plan.stops
        acts += [self._zombie] * plan.zombies + [self._take_over] * plan.take_overs
        self._chance.shuffle(acts)
        for number, act in enumerate(acts):
            if self._outcome.kills < plan.kills or act != self._kill:
                act()
            if number % 10 == 9:
                self._say(f"{self._outcome.kills} kills, {number + 1} of {len(acts)} faults")

    def _kill(self) -> None:
        """SIGKILL to one process, at work or in the middle of its start."""
        program = self._chance.choice(self._fleet.programs)
        early = self._chance.random() < _MID_START
        if early:
            time.sleep(self._chance.uniform(0.0, 1.5))
        else:
            self._watch.wait_back()
            time.sleep(self._chance.uniform(0.0, self._plan.life))
        program.kill()
        self._outcome.kills += 1
        if not early and program is not self._fleet.server:
            self._outcome.without_worker.append(self._until_accepted())
        program.start()

    def _until_accepted(self) -> float:
        began = time.monotonic()
        self._probe.send()
        return time.monotonic() - began

    def _strike(self, program: Program) -> None:
        program.kill()
        program.start()
        self._outcome.kills += 1

    def _stop_database(self) -> None:
        """The database crashes and comes back; now and then a process dies meanwhile."""
        cluster = self._here.cluster
        assert cluster is not None  # noqa: S101 (planned on PostgreSQL only)
        self._watch.disturb()
        cluster.stop()
        if self._chance.random() < 0.3:
            self._strike(self._chance.choice(self._fleet.programs))
        time.sleep(self._chance.uniform(0.0, 2.5))
        self._watch.disturb()
        cluster.start()
        self._outcome.stops += 1
        self._outcome.after_stop.append(self._until_accepted())

    def _zombie(self) -> None:
        """One process sleeps until it counts as dead, others die meanwhile, then it wakes up."""
        sleeper = self._chance.choice(self._fleet.programs)
        sleeper.freeze()
        wakes = time.monotonic() + GRACE_SECONDS + self._chance.uniform(2.0, 5.0)
        others = [one for one in self._fleet.programs if one is not sleeper]
        for _ in range(2):
            time.sleep(self._chance.uniform(0.5, 2.0))
            self._strike(self._chance.choice(others))
        time.sleep(max(0.0, wakes - time.monotonic()))
        sleeper.thaw()
        self._outcome.zombies += 1

    def _take_over(self) -> None:
        """A worker dies with work in hand, undisturbed: how long until another goes on."""
        cluster = self._here.cluster
        assert cluster is not None  # noqa: S101 (planned on PostgreSQL only)
        with Observer(cluster) as observer:
            worker = self._fleet.workers[self._chance.randrange(len(self._fleet.workers))]
            jobs = observer.wait_for_work(worker)
            if not jobs:
                return
            worker.kill()
            self._outcome.kills += 1
            self._outcome.take_overs.append(observer.wait_for_another(jobs))
            worker.start()
