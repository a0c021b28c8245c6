"""What is kept, how often, and what becomes of it when the store cannot keep it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from hub.api import hooks
from hub.engine import intake
from hub.engine.intake import Settle
from hub.engine.operations import LocalOperations
from hub.store.inbox import NewEvent
from tests.intake.rig import SECRET, Desk, Edge, Sender, edge, new_id, send, signed, wait_for

BODY = b'{"id": 1}'
FORM = "application/x-www-form-urlencoded"
EXACT = [
    ("application/json", b' {"b":1.10,\r\n "a" : 1e2, "a":"\\u0000\\ud83d\\ude00"}\n\n'),
    ("application/json; charset=gbk", '{"name": "上海", "id": 1}'.encode("gbk")),
    ("application/json", '{"name": "上海\U0001f600"}'.encode()),
    (FORM, b"id=1&raw=\x00\x01&name=%E4%B8%8A%00"),
]


@pytest.mark.parametrize(("media_type", "body"), EXACT)
def test_a_body_is_kept_byte_for_byte(desk: Desk, media_type: str, body: bytes) -> None:
    with edge(desk) as here, Sender(here.port) as sender:
        headers = {**signed(body, "exact"), "Content-Type": media_type}
        assert sender.ask("POST", body, headers).status == 200
        assert here.kept() == {"exact": body}


def test_an_event_sent_again_is_thanked_for_and_kept_once(desk: Desk) -> None:
    with edge(desk) as here, Sender(here.port) as sender:
        statuses = {sender.send(BODY, "again").status for _ in range(3)}
        assert statuses == {200}
        assert here.kept() == {"again": BODY}
        assert here.hub.intake.counts["desk", "duplicate"] == 2
    with edge(desk) as here:  # and so it is after a restart
        assert send(here.port, BODY, "again").status == 200
        assert list(here.kept()) == ["again"]


def test_an_event_sent_many_times_at_once_is_kept_once(desk: Desk) -> None:
    statuses: list[int] = []

    def deliver(port: int) -> None:
        with Sender(port) as sender:
            statuses.extend(sender.send(BODY, f"twin-{number}").status for number in range(10))

    with edge(desk) as here:
        threads = [threading.Thread(target=deliver, args=(here.port,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert statuses == [200] * 80
        assert len(here.kept()) == 10


def test_the_first_body_of_an_id_stays(desk: Desk) -> None:
    with edge(desk) as here, Sender(here.port) as sender:
        assert sender.send(b'{"id": "first"}', "same").status == 200
        assert sender.send(b'{"id": "second"}', "same").status == 200
        assert here.kept() == {"same": b'{"id": "first"}'}


def test_the_same_id_of_two_connections_is_two_events(desk: Desk) -> None:
    with edge(desk) as here:
        for path in ("/hooks/desk", "/hooks/other"):
            assert send(here.port, BODY, "shared", path=path).status == 200
        assert here.kept("desk") == here.kept("other") == {"shared": BODY}


# --- secrets ----------------------------------------------------------------------------------


def test_during_a_rotation_both_secrets_are_accepted_and_then_only_the_new_one(
    plain: Desk,
) -> None:
    config = plain.connections["desk"]["config"]
    config["hook_secret"] = config["old_hook_secret"] = "store"
    plain.write()
    with edge(plain) as here:
        operations = LocalOperations(here.hub)
        operations.set_secret("desk", "old_hook_secret", SECRET, actor="test")
        operations.set_secret("desk", "hook_secret", "new", actor="test")
        assert send(here.port, secret=SECRET).status == 200
        assert send(here.port, secret="new").status == 200
        assert send(here.port, secret="third").status == 401
        operations.set_secret("desk", "old_hook_secret", "worn out", actor="test")
        assert send(here.port, secret=SECRET).status == 401
        assert send(here.port, secret="new").status == 200
        assert len(here.kept()) == 3


# --- senders that go away ---------------------------------------------------------------------


def test_a_sender_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind(
    here: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "MOST_HELD", 100_000)
    head = "".join(f"{k}: {v}\r\n" for k, v in signed(BODY, new_id()).items())
    first = "POST /hooks/desk HTTP/1.1\r\nHost: hub\r\nContent-Length: 90000\r\n"
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", here.port)) as link:
            link.sendall((first + head + "\r\n").encode() + b"x" * 60_000)
    large = b'"' + b"x" * 60_000 + b'"'
    wait_for(lambda: send(here.port, large, "after").status == 200)
    assert here.kept() == {"after": large}


def test_a_sender_that_does_not_wait_for_its_answer_has_its_event_kept(
    here: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = _watched(here, monkeypatch)
    head = "".join(f"{k}: {v}\r\n" for k, v in signed(BODY, "gone").items())
    first = f"POST /hooks/desk HTTP/1.1\r\nHost: hub\r\nContent-Length: {len(BODY)}\r\n"
    with (
        here.hub.store.transaction(),
        socket.create_connection(("127.0.0.1", here.port)) as link,
    ):
        link.sendall((first + head + "\r\n").encode() + BODY)
        wait_for(lambda: put == ["gone"])
    wait_for(lambda: here.kept() == {"gone": BODY})
    assert send(here.port).status == 200


# --- a store that cannot ----------------------------------------------------------------------


def test_on_a_full_disk_nothing_is_thanked_for_and_it_goes_on_by_itself(plain: Desk) -> None:
    with edge(plain) as here, Sender(here.port) as sender:
        assert sender.send(BODY, "before").status == 200
        with _sqlite_full(here):
            answer = sender.send(b'"' + b"x" * 90_000 + b'"', "lost")
            assert (answer.status, answer.code) == (507, "intake.disk_full")
            assert int(answer.headers["retry-after"]) >= 1
            assert list(here.kept()) == ["before"]
        assert sender.send(BODY, "after").status == 200
        assert list(here.kept()) == ["before", "after"]


@pytest.mark.postgres
def test_a_full_disk_of_the_server_is_told_as_such(tmp_path: Path, postgres_url: str) -> None:
    with edge(Desk(tmp_path / "hub", postgres_url)) as here, Sender(here.port) as sender:
        assert sender.send(BODY, "before").status == 200
        _execute(postgres_url, _FULL)
        answer = sender.send(BODY, "lost")
        assert (answer.status, answer.code) == (507, "intake.disk_full")
        _execute(postgres_url, "DROP FUNCTION full_disk CASCADE")
        assert sender.send(BODY, "after").status == 200
        assert list(here.kept()) == ["before", "after"]


@pytest.mark.postgres
def test_while_the_store_is_away_senders_are_asked_to_come_again(
    tmp_path: Path, postgres_url: str
) -> None:
    with edge(Desk(tmp_path / "hub", postgres_url)) as here, Sender(here.port) as sender:
        assert sender.send(BODY, "before").status == 200
        with _away(postgres_url):
            answer = sender.send(BODY, "again")
            assert (answer.status, answer.code) == (503, "intake.store")
            assert int(answer.headers["retry-after"]) >= 1
        assert sender.send(BODY, "again").status == 200
        assert list(here.kept()) == ["before", "again"]


@pytest.mark.postgres
def test_a_connection_that_broke_meanwhile_costs_no_sender_an_answer(
    tmp_path: Path, postgres_url: str
) -> None:
    with edge(Desk(tmp_path / "hub", postgres_url)) as here, Sender(here.port) as sender:
        assert sender.send(BODY, "before").status == 200
        assert sender.send(BODY, "warm").status == 200
        with _away(postgres_url):
            pass
        assert sender.send(BODY, "after").status == 200
        assert list(here.kept()) == ["before", "warm", "after"]


def test_an_event_that_cannot_be_kept_does_not_take_others_along(
    here: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = intake.append_new

    def refusing(connection: sa.Connection, name: str, events: list[NewEvent]) -> int:
        if any(event.event_id == "poison" for event in events):
            raise sa.exc.DataError("insert", {}, ValueError("not storable"))
        return append(connection, name, events)

    monkeypatch.setattr(intake, "append_new", refusing)
    put = _watched(here, monkeypatch)
    statuses: dict[str, int] = {}

    def deliver(event_id: str) -> None:
        statuses[event_id] = send(here.port, BODY, event_id).status

    ids = ["a", "poison", "b", "c"]
    with here.hub.store.transaction():  # so that they wait for each other
        threads = [threading.Thread(target=deliver, args=(one,)) for one in ids]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(put) == len(ids))
    for thread in threads:
        thread.join(20)
    assert statuses == {"a": 200, "b": 200, "c": 200, "poison": 500}
    assert sorted(here.kept()) == ["a", "b", "c"]


def test_events_of_a_flow_become_records_once(desk: Desk) -> None:
    desk.write_flow()
    with edge(desk, jobs=True) as here:
        for number in range(20):
            body = json.dumps({"id": f"T{number}", "name": "x"}).encode()
            for _ in range(2):
                assert send(here.port, body, f"event-{number}").status == 200
        operations = LocalOperations(here.hub)
        wait_for(lambda: operations.records("ticket", 0, 100)["records"][19:] != [], 30)
        assert operations.count_records("ticket")["count"] == 20
        runs = operations.runs("tickets", 100)
        assert sum(run["counts"]["read"] for run in runs) == 20


def _watched(here: Edge, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the events that are handed to the writer from now on."""
    seen: list[str] = []
    put = here.hub.intake.put

    def watched(name: str, event: NewEvent, ticket: object, settle: Settle) -> None:
        put(name, event, ticket, settle)
        seen.append(event.event_id)

    monkeypatch.setattr(here.hub.intake, "put", watched)
    return seen


@contextmanager
def _sqlite_full(here: Edge) -> Iterator[None]:
    """No page more than there are: what SQLite says then is what it says of a full disk."""

    def limit(connection: object, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]

    engine = here.hub.store.engine
    sa.event.listen(engine, "connect", limit)
    engine.dispose()
    try:
        yield
    finally:
        sa.event.remove(engine, "connect", limit)
        engine.dispose()


_FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON hub_inbox EXECUTE FUNCTION full_disk();
"""


@contextmanager
def _away(url: str) -> Iterator[None]:
    """The database lets nobody in, and throws out whoever is."""
    name = sa.make_url(url).database
    out = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"
    _execute(url, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false', out.format(name))
    try:
        yield
    finally:
        _execute(url, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        time.sleep(0.1)


def _execute(url: str, *statements: str) -> None:
    """As an administrator; from another database where ours is closed."""
    alters = statements[0].startswith("ALTER DATABASE")
    place = sa.make_url(url).set(drivername="postgresql")
    if alters:
        place = place.set(database="postgres")
    plain = place.render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True, connect_timeout=3) as connection:
        for statement in statements:
            connection.execute(statement)
