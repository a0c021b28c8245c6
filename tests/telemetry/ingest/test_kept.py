"""What a device is thanked for is in the inbox, whatever becomes of the process that took it."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from hub.store.group_commit import Limits
from hub.store.telemetry.positions import advance, part_name
from tests.telemetry.ingest.rig import TOKEN, Crowd, Device, Edge, Plant, edge, send, serving


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def plant(request: pytest.FixtureRequest, tmp_path: Path) -> Plant:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    return Plant(tmp_path / "hub", url)


@pytest.fixture
def plain(tmp_path: Path) -> Plant:
    """The deployment on SQLite, for what does not depend on the database."""
    return Plant(tmp_path / "hub")


def wait_for(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def test_a_message_is_kept_as_it_came_before_its_sender_is_thanked(plant: Plant) -> None:
    with edge(plant) as here, Device(here.port) as device:
        answers = [device.send(f'{{"n": {at}}}'.encode()) for at in range(3)]
        assert [one.status for one in answers] == [200, 200, 200]
        assert [one.told["seq"] for one in answers] == [1, 2, 3]
        assert here.kept() == [b'{"n": 0}', b'{"n": 1}', b'{"n": 2}']


def test_a_message_that_comes_again_under_its_key_is_a_duplicate(plant: Plant) -> None:
    with edge(plant) as here, Device(here.port) as device:
        first = device.send(b"1", X_Key="k").told
        again = device.send(b"2", X_Key="k").told
        assert (first["duplicate"], again["duplicate"]) == (False, True)
        assert first["seq"] == again["seq"]
        assert here.kept() == [b"1"]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("kills", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_no_message_that_was_thanked_for_is_lost_by_a_kill(plant: Plant, kills: int) -> None:
    thanked: set[bytes] = set()
    for number in range(kills):
        with serving(plant, "--workers", "0", "--wait", "20") as served:
            crowd = Crowd(served.port, name=f"k{number}", thanked=thanked)
            with crowd.sending():
                before = len(thanked)
                wait_for(lambda before=before: len(thanked) > before + 200)
                time.sleep(random.Random(number).uniform(0, 0.2))
                served.process.kill()
                served.process.wait(20)
            assert not crowd.refused
    assert thanked <= set(plant.kept())


def test_a_server_that_is_stopped_keeps_what_it_has_thanked_for(plain: Plant) -> None:
    with serving(plain) as served:
        crowd = Crowd(served.port)
        with crowd.sending():
            wait_for(lambda: len(crowd.thanked) > 100)
            served.process.terminate()
            assert served.process.wait(20) == 0
    assert crowd.thanked <= set(plain.kept())


def test_too_many_waiting_messages_are_refused_and_those_that_wait_are_kept(plain: Plant) -> None:
    with edge(plain) as here:
        here.front.port.ingest._limits = Limits(3, 10_000)
        crowd = Crowd(here.port, devices=12)
        with crowd.sending(), here.hub.telemetry.inbox.transaction():  # the writer waits
            wait_for(lambda: crowd.refused)
            # The first refusal may have come before the writer had to wait.
            wait_for(lambda: here.front.port.room() < 0.5)
            crowd._end.set()
        assert {one.told["code"] for one in crowd.refused} == {"telemetry.overload"}
        assert {one.status for one in crowd.refused} == {503}
        assert sorted(here.kept()) == sorted(crowd.thanked)
        assert here.front.status()["messages"]["overload"] == len(crowd.refused)
        assert send(here.port).status == 200


def test_on_a_full_disk_nothing_is_thanked_for_and_it_goes_on_by_itself(plain: Plant) -> None:
    with edge(plain) as here, Device(here.port) as device:
        assert device.send(b"before").status == 200
        with sqlite_full(here):
            answer = device.send(b"x" * 200_000)
            assert (answer.status, answer.told["code"]) == (507, "telemetry.disk_full")
            assert here.kept() == [b"before"]
        assert device.send(b"after").status == 200
        assert here.kept() == [b"before", b"after"]
    with sqlite3.connect(plain.folder / "telemetry-inbox.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_on_a_full_disk_messages_that_were_projected_make_room(plain: Plant) -> None:
    with edge(plain) as here, Device(here.port) as device:
        for at in range(10):
            assert device.send(bytes([at]) * 100_000).status == 200
        with here.hub.telemetry.readings.transaction() as connection:
            advance(connection, part_name(0), 8, 1)
        with sqlite_full(here):
            assert device.send(b"a" * 100_000).status == 200
        assert [body[:1] for body in here.kept()] == [b"\x08", b"\x09", b"a"]


@pytest.mark.postgres
def test_a_full_disk_of_the_server_is_told_as_such(tmp_path: Path, postgres_url: str) -> None:
    with edge(Plant(tmp_path / "hub", postgres_url)) as here, Device(here.port) as device:
        assert device.send(b"before").status == 200
        execute(postgres_url, FULL)
        answer = device.send(b"lost")
        assert (answer.status, answer.told["code"]) == (507, "telemetry.disk_full")
        execute(postgres_url, "DROP FUNCTION full_disk CASCADE")
        assert device.send(b"after").status == 200
        assert here.kept() == [b"before", b"after"]


@pytest.mark.postgres
def test_while_the_store_is_away_senders_are_asked_to_come_again(
    tmp_path: Path, postgres_url: str
) -> None:
    with edge(Plant(tmp_path / "hub", postgres_url)) as here, Device(here.port) as device:
        assert device.send(b"before").status == 200
        with away(postgres_url):
            answer = device.send(b"again")
            assert (answer.status, answer.told["code"]) == (503, "telemetry.store")
        assert device.send(b"again").status == 200
        with away(postgres_url):
            pass
        assert device.send(b"after").status == 200, "a connection that broke costs no answer"
        assert here.kept() == [b"before", b"again", b"after"]


def test_a_message_that_cannot_be_kept_does_not_take_others_along(
    plain: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub.telemetry import ingest

    append = ingest.append

    def refusing(connection: sa.Connection, messages: list[ingest.NewMessage]) -> object:
        if any(one.body == b"poison" for one in messages):
            raise sa.exc.DataError("insert", {}, ValueError("not storable"))
        return append(connection, messages)

    monkeypatch.setattr(ingest, "append", refusing)
    statuses: dict[bytes, int] = {}
    with edge(plain) as here:

        def deliver(body: bytes) -> None:
            statuses[body] = send(here.port, body).status

        bodies = [b"a", b"b", b"poison", b"c", b"d"]
        given: list[object] = []
        put = here.front.port.ingest.queue.put

        def watched(item: ingest.Waiting, limits: Limits) -> bool:
            given.append(item)
            return put(item, limits)

        monkeypatch.setattr(here.front.port.ingest.queue, "put", watched)
        with here.hub.telemetry.inbox.transaction():  # so that they wait for each other
            threads = [threading.Thread(target=deliver, args=(one,)) for one in bodies]
            for thread in threads:
                thread.start()
            wait_for(lambda: len(given) == len(bodies))
        for thread in threads:
            thread.join(20)
        assert sorted(here.kept()) == [b"a", b"b", b"c", b"d"]
    assert statuses.pop(b"poison") == 500
    assert set(statuses.values()) == {200}


def test_the_server_takes_telemetry_while_the_api_still_starts(plain: Plant) -> None:
    from hub.api.behind import Behind
    from tests.telemetry.ingest import rig

    with rig.open_hub(plain.folder) as hub, rig.open_front(hub, listen=False) as front:
        front.http[:] = [rig.TinyFace(front.port)]
        starting = threading.Event()
        behind = Behind(lambda _parts: starting.wait(20) and None, lambda: None)  # type: ignore[arg-type, return-value]
        behind.start()
        with rig.listen("127.0.0.1", 0) as listener:
            server = rig.uvicorn.Server(rig.server_config(front.edge(behind)))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            assert send(listener.getsockname()[1]).status == 200
            starting.set()
            server.should_exit = True
            thread.join(20)


# --- what goes wrong --------------------------------------------------------------------------


@contextmanager
def sqlite_full(here: Edge) -> Iterator[None]:
    """No page more than there are: what SQLite says then is what it says of a full disk."""

    def limit(connection: object, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]

    engine = here.hub.telemetry.inbox.engine
    sa.event.listen(engine, "connect", limit)
    engine.dispose()
    try:
        yield
    finally:
        sa.event.remove(engine, "connect", limit)
        engine.dispose()


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON hub_telemetry_message EXECUTE FUNCTION full_disk();
"""


def execute(url: str, statement: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


@contextmanager
def away(url: str) -> Iterator[None]:
    """The database lets nobody in, and throws out whoever is."""
    parsed = sa.make_url(url)
    engine = sa.create_engine(parsed.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{parsed.database}" ALLOW_CONNECTIONS false')
        out = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %(name)s"
        connection.exec_driver_sql(out, {"name": parsed.database})
        try:
            yield
        finally:
            text = f'ALTER DATABASE "{parsed.database}" ALLOW_CONNECTIONS true'
            connection.exec_driver_sql(text)
    engine.dispose()


def test_an_unknown_token_is_refused_before_its_body_is_read(plain: Plant) -> None:
    with edge(plain) as here:
        answer = send(here.port, b"x", path="/tiny/guess")
        assert (answer.status, answer.told["code"]) == (401, "telemetry.unknown_sender")
        assert send(here.port, path=f"/tiny/{TOKEN}").status == 200
        assert here.kept() == [b"{}"]
