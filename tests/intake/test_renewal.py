"""Secrets that somebody else renews are noticed in seconds, and what waited for them goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connectors.crm.fake import FakeCrm
from connectors.u8.fake import FakeU8, Sizes
from hub.api import hooks
from hub.engine.hub import Hub, open_hub
from hub.engine.operations import LocalOperations
from hub.engine.planning import start_run
from hub.store.breakers import open_standings
from hub.store.runs import RunState, last_run
from tests.engine.conftest import Rig, finish
from tests.intake.rig import SECRET, Desk, edge, send, wait_for

FLOW = "u8_customers_to_crm"


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_LOOK_SECONDS", 0.2)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    with FakeU8(sizes=Sizes(materials=5, stock=5, customers=20, orders=5)) as u8, FakeCrm() as crm:
        yield Rig(tmp_path / "hub", u8, crm, url)


def statuses(port: int, *secrets: str) -> list[int]:
    return [send(port, secret=secret).status for secret in secrets]


def test_a_secret_in_a_file_is_noticed(plain: Desk) -> None:
    with edge(plain) as here:
        assert statuses(here.port, SECRET, "new") == [200, 401]
        (plain.folder / "desk.secret").write_text("new", encoding="utf-8")
        wait_for(lambda: statuses(here.port, SECRET, "new") == [401, 200], 10)


def test_a_secret_that_vanishes_closes_the_webhook_until_it_is_back(plain: Desk) -> None:
    with edge(plain) as here:
        assert statuses(here.port, SECRET) == [200]
        (plain.folder / "desk.secret").unlink()
        wait_for(lambda: statuses(here.port, SECRET) == [503], 10)
        (plain.folder / "desk.secret").write_text(SECRET, encoding="utf-8")
        wait_for(lambda: statuses(here.port, SECRET) == [200], 10)


def test_an_edited_connection_is_noticed(plain: Desk) -> None:
    with edge(plain) as here:
        assert statuses(here.port, SECRET) == [200]
        plain.connect("desk", max_bytes=5)
        wait_for(lambda: statuses(here.port, SECRET) == [413], 10)


@pytest.mark.postgres
def test_a_secret_set_by_another_process_is_noticed(tmp_path: Path, postgres_url: str) -> None:
    desk = Desk(tmp_path / "hub", postgres_url)
    desk.connections["desk"]["config"]["hook_secret"] = "store"
    desk.write()
    with edge(desk) as here:
        assert statuses(here.port, SECRET) == [503]
        for secret in (SECRET, "new"):
            with open_hub(desk.folder) as other:
                LocalOperations(other).set_secret("desk", "hook_secret", secret, actor="test")
            wait_for(lambda secret=secret: statuses(here.port, secret) == [200], 10)  # type: ignore[misc]
        wait_for(lambda: statuses(here.port, SECRET) == [401], 10)


# --- what waits because credentials were refused ------------------------------------------------


def set_token(rig: Rig, token: str) -> None:
    (rig.folder / "crm.secret").write_text(token, encoding="utf-8")


@contextmanager
def waiting(rig: Rig) -> Iterator[Hub]:
    """A hub whose deliveries wait because the CRM refuses its token."""
    set_token(rig, "wrong")
    with rig.open() as hub:
        run = start_run(hub, FLOW)
        wait_for(lambda: left_alone(hub) == ["crm"], 30)
        wait_for(lambda: rig_state(hub) is RunState.DELIVERING, 30)
        assert not rig.crm.effects_of("customer")
        yield hub
        wait_for(lambda: rig_state(hub) is RunState.DONE, 20)
        assert finish(hub, run).counts["written"] == 20
        assert set(rig.crm.effects_of("customer").values()) == {1}


def left_alone(hub: Hub) -> list[str]:
    with hub.store.reading() as connection:
        return [one.connection_id for one in open_standings(connection)]


def rig_state(hub: Hub) -> RunState | None:
    with hub.store.reading() as connection:
        found = last_run(connection, FLOW)
    return None if found is None else RunState(found.state)


def test_deliveries_go_on_when_their_secret_is_right_again(rig: Rig) -> None:
    right = (rig.folder / "crm.secret").read_text(encoding="utf-8")
    with waiting(rig):
        set_token(rig, right)


def test_deliveries_go_on_when_another_process_says_that_all_is_well(rig: Rig) -> None:
    with waiting(rig) as hub:
        rig.crm.accept("wrong")  # the other side has given in
        hub.breaker.forgive("crm")  # as `hub connector check` does


def test_a_run_whose_source_refused_it_goes_on_when_the_secret_is_right(rig: Rig) -> None:
    place = rig.folder / "u8.secret"
    right = place.read_text(encoding="utf-8")
    place.write_text("wrong", encoding="utf-8")
    with rig.open() as hub:
        failed = finish(hub, start_run(hub, FLOW))
        assert failed.state == RunState.FAILED
        assert str(failed.error_code).startswith("auth.")
        place.write_text(right, encoding="utf-8")
        wait_for(lambda: rig_state(hub) is RunState.DONE, 20)
