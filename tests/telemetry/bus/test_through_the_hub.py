"""Messages through the bus: whoever dies on the way, every reading is there once."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.telemetry.bus.rig import Fleet, Server, Site, assert_all_is_there_once, children, kill
from tests.telemetry.ingest.rig import ROOT
from tests.telemetry.projector.test_process import until

pytestmark = [pytest.mark.nats, pytest.mark.timeout(200)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Not started yet."""
    made = Server(tmp_path / "nats")
    yield made
    made.kill()


@pytest.mark.slow
def test_kills_of_hub_projector_and_server_lose_and_double_nothing(
    tmp_path: Path, server: Server
) -> None:
    site = Site(tmp_path / "hub", server.url, "hub")
    fleet = Fleet([1])
    with fleet.sending():
        with site.serving() as served:
            fleet.ports[:] = [served.port]
            until(lambda: 503 in fleet.errors)
            server.start()
            fleet.more()
            until(lambda: children(served.process) != [])
            kill(children(served.process)[0])
            fleet.more()
            served.process.kill()
        with site.serving() as served:
            fleet.ports[:] = [served.port]
            fleet.more()
            server.kill()
            fleet.errors.clear()
            until(lambda: 503 in fleet.errors)
            server.start()
            fleet.more()
    with site.serving() as served:
        assert_all_is_there_once(site, fleet)
        status = said(site, "telemetry", "status", "--json")
        assert [row["waiting"] for row in status["parts"] if row["part"] == "bus:0"] == [0]
    assert set(fleet.errors) <= {503}
    site.store.close()


@pytest.mark.postgres
@pytest.mark.parametrize("bus", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_several_servers_share_the_parts_and_one_that_dies_is_replaced(
    tmp_path: Path, nats_url: str, postgres_url: str, bus: bool
) -> None:
    name = f"test-{secrets.token_hex(6)}"
    site = Site(tmp_path / "hub", nats_url if bus else None, name, postgres_url)
    fleet = Fleet([1])
    try:
        with site.serving("--wait", "20") as first, site.serving("--wait", "20") as second:
            fleet.ports[:] = [first.port, second.port]
            with fleet.sending():
                until(lambda: sorted(site.owners().values()) == [2, 2], 40)
                fleet.more()
                assert all(fleet.thanked.values()), "both take messages"
                second.process.kill()
                fleet.ports[:] = [first.port]
                taken = until(lambda: list(site.owners().values()) == [4], 20)
                fleet.more()
            assert taken <= 10
            assert_all_is_there_once(site, fleet)
    finally:
        site.store.close()
        delete_streams(site)


def said(site: Site, *command: str) -> dict[str, list[dict[str, object]]]:
    done = subprocess.run(
        [sys.executable, "-m", "hub.cli", "--dir", str(site.folder), *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
    return found


def delete_streams(site: Site) -> None:
    from hub.engine.deployment import open_deployment
    from tests.telemetry.bus.test_bus import delete

    if at := open_deployment(site.folder).telemetry_bus:
        delete(*at)
