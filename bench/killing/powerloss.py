"""A stand-in for lost power: the store's files as they are at one instant, opened elsewhere.

SIGKILL leaves what the operating system has not yet written; a loss of power does not. We cannot
cut the power, but we can take files at the worst moment:

cut      SQLite: the hub is frozen between two of its instructions, its file and log are copied
         without the index, and the log is cut off at a random byte behind its last commit before
         the instant (torn: garbage follows), as far as nothing behind the cut had to be on disk
live     SQLite: the file, then its log, while the hub goes on writing; taken anew when the log
         began anew meanwhile, for then the two do not belong together
frozen   PostgreSQL: all processes of the server are frozen while its folder is copied
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.killing.asking import Api
from bench.killing.campaign import misbehave
from bench.killing.owed import Owed, asked, opens, owed_by
from bench.killing.pace import Requester
from bench.killing.settling import damaged_file
from bench.killing.wal import moved_frames, read_log
from bench.killing.world import SQLITE, Failed, Load, World, world

_TRIES = 200


@dataclass(slots=True)
class Loss:
    """What the copies of one store were found to hold."""

    store: str
    seed: int
    copies: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    events: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return self.copies > 0 and not self.problems

    def summary(self) -> dict[str, Any]:
        return {**asdict(self), "clean": self.clean}


@dataclass(frozen=True, slots=True)
class Copy:
    """Files taken at an instant: all acknowledged before it must be in them."""

    kind: str
    instant: float
    path: Path


def run_losses(
    store: str, copies: int, seed: int, load: Load, folder: Path, say: Callable[[str], None]
) -> Loss:
    """Take copies at random instants under load, and examine each."""
    loss, chance = Loss(store, seed), random.Random(seed)
    with world(store, load, folder) as here, Requester(here, seed):
        here.fleet.wait(here.fleet.is_ready, "the first start")
        misbehave(here)
        with closing(Api(here.fleet.deployment, here.fleet.port)) as api:
            while loss.copies < copies:
                time.sleep(chance.uniform(0.2, 1.5))
                answers = asked(api)
                _lose(here, loss, chance, answers)
                if loss.copies % 5 == 0:
                    say(f"{loss.copies} copies, {loss.events} acknowledged before the last")
    return loss


def _lose(here: World, loss: Loss, chance: random.Random, answers: Owed) -> None:
    target = here.fleet.deployment.parent / f"copy-{loss.copies}"
    target.mkdir()
    if here.store == SQLITE:
        take = take_cut if loss.copies % 2 == 0 else take_live
        copy = take(here, target, chance)
        found = examine_file(here, copy, answers, loss)
    else:
        copy, found = _frozen(here, target, chance, answers, loss)
    loss.copies += 1
    loss.kinds[copy.kind] = loss.kinds.get(copy.kind, 0) + 1
    loss.problems += [f"copy {loss.copies} ({copy.kind}): {problem}" for problem in found]
    if not found:
        shutil.rmtree(target)


# --- SQLite -----------------------------------------------------------------------------------


def take_cut(here: World, target: Path, chance: random.Random) -> Copy:
    """The file and its log of a frozen hub, the log cut off where the disk may not have it."""
    path = here.fleet.deployment / "hub.db"
    log_path = path.with_name("hub.db-wal")
    for _ in range(_TRIES):
        instant = time.monotonic()
        before = read_log(log_path)  # whatever was acknowledged by now ends in here
        time.sleep(chance.uniform(0.0, 0.05))
        here.fleet.server.freeze()
        try:
            now = read_log(log_path)
            if now.generation != before.generation:
                continue  # begun anew: what ended where we looked is in the file by now
            synced = now.end_of(moved_frames(path.with_name("hub.db-shm")))
            _copy_pair(path, target, chance)
        finally:
            here.fleet.server.thaw()
        _cut(target / log_path.name, max(before.commit_end, synced), chance)
        return Copy("cut", instant, target / path.name)
    raise Failed("the log begins anew all the time")


def take_live(here: World, target: Path, chance: random.Random) -> Copy:
    """The file, then its log, while the hub writes both."""
    path = here.fleet.deployment / "hub.db"
    log_path = path.with_name("hub.db-wal")
    for _ in range(_TRIES):
        instant = time.monotonic()
        before = read_log(log_path).generation
        shutil.copyfile(path, target / path.name)
        time.sleep(chance.uniform(0.0, 0.2))
        shutil.copyfile(log_path, target / log_path.name)
        if before and before == read_log(log_path).generation:
            return Copy("live", instant, target / path.name)
    raise Failed("the log begins anew all the time")


def _copy_pair(path: Path, target: Path, chance: random.Random) -> None:
    names = [path.name, f"{path.name}-wal"]
    chance.shuffle(names)
    for name in names:
        if (path.parent / name).exists():
            shutil.copyfile(path.parent / name, target / name)
        time.sleep(chance.uniform(0.0, 0.05))


def _cut(log: Path, floor: int, chance: random.Random) -> None:
    """Take away what the disk may not have; now and then put garbage in its place."""
    if not log.exists():
        return
    end = log.stat().st_size
    at = chance.randint(min(floor, end), end)
    with log.open("r+b") as file:
        file.truncate(at)
        if chance.random() < 0.3:
            file.seek(at)
            file.write(chance.randbytes(end - at))


def examine_file(here: World, copy: Copy, answers: Owed, loss: Loss) -> list[str]:
    """What is wrong with a copied file: damage, or something acknowledged that it lacks."""
    owed = owed_by(here.journal, copy.instant, answers)
    loss.events = len(owed.events)
    found = damaged_file(copy.path)
    with closing(sqlite3.connect(copy.path)) as connection:
        found += owed.missing_in(lambda query: connection.execute(query).fetchall())
    return found + opens(_settings(here, copy.path.parent), f"sqlite:///{copy.path}")


# --- PostgreSQL -------------------------------------------------------------------------------


def _frozen(
    here: World, target: Path, chance: random.Random, answers: Owed, loss: Loss
) -> tuple[Copy, list[str]]:
    """The server's folder at one instant, as a server of its own on another port."""
    assert here.cluster is not None  # noqa: S101 (only on PostgreSQL)
    instant = time.monotonic()
    time.sleep(chance.uniform(0.0, 0.05))
    twin = here.cluster.copy(target, _pauses(chance))
    owed = owed_by(here.journal, instant, answers)
    loss.events = len(owed.events)
    twin.start()
    try:
        found = twin.check()
        with twin.connect() as connection:
            found += owed.missing_in(lambda query: connection.execute(query.encode()).fetchall())
        found += opens(_settings(here, target), twin.url)
    finally:
        twin.end()
    return Copy("frozen", instant, target), found


def _pauses(chance: random.Random) -> Iterator[float]:
    while True:
        yield chance.uniform(0.0, 0.02) if chance.random() < 0.02 else 0.0


def _settings(here: World, target: Path) -> Path:
    """The deployment's files beside the copied store, without what tells of the running hub."""
    folder = target / "deployment"
    told = shutil.ignore_patterns("hub.db*", "logs", "serve.json")
    shutil.copytree(here.fleet.deployment, folder, ignore=told)
    return folder
