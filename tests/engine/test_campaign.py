"""The kill loop in short: a hub as a user runs it, killed under load, and the referee's verdict.

`dev.py bench kill` is the long version and the one that judges seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.killing.campaign import Outcome, Plan, run_campaign
from bench.killing.cluster import NoServer, server_binaries
from bench.killing.powerloss import run_losses
from bench.killing.world import POSTGRES, SQLITE, STORES, Load

SHORT = Load(events=20.0, edits=4.0, customers=60, materials=30)
LIFE = 0.8


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own: the database server may be another user, who cannot enter that."""
    with tempfile.TemporaryDirectory(prefix="hub-kill-") as name:
        yield Path(name)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    """Both; PostgreSQL where a server can be started that is ours alone."""
    if request.param == POSTGRES:
        try:
            server_binaries()
        except NoServer as reason:
            pytest.skip(str(reason))
    return str(request.param)


def assert_clean(outcome: Outcome, kills: int) -> None:
    assert outcome.problems == []
    assert outcome.verdict["clean"], outcome.verdict["wrong"]
    assert outcome.kills >= kills
    assert outcome.verdict["events"] > kills
    assert outcome.verdict["effects"] > kills


@pytest.mark.timeout(400)
def test_twenty_kills_under_load_lose_nothing_and_double_nothing(store: str, folder: Path) -> None:
    more = {"stops": 1, "zombies": 1} if store == POSTGRES else {}
    plan = Plan(store, 20, life=LIFE, seed=11, load=SHORT, **more)
    assert_clean(run_campaign(plan, folder, lambda _: None), 20)


@pytest.mark.timeout(400)
def test_copies_taken_when_the_power_goes_hold_all_that_was_acknowledged(
    store: str, folder: Path
) -> None:
    loss = run_losses(store, 4, 11, SHORT, folder, lambda _: None)
    assert loss.problems == []
    assert loss.copies == 4
    assert loss.events > 20


@pytest.mark.timeout(400)
def test_a_target_that_swallows_writes_is_found_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.killing.settling.REST_SECONDS", 8.0)
    plan = Plan(SQLITE, kills=1, seed=3, swallow=10**9, load=SHORT)
    outcome = run_campaign(plan, folder, lambda _: None)
    assert not outcome.clean
    assert outcome.verdict["lost"] > 0
    assert any(line.startswith("lost: customer") for line in outcome.verdict["wrong"])
