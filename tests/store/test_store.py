"""What the store promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from hub.sdk.errors import ConfigError, LostRace
from hub.store import deliveries, drains, ledger, records, runs, staging
from hub.store.database import Store, open_store
from hub.store.migrate import HEAD, migrate, require_schema, schema_version
from hub.store.sequences import next_numbers
from hub.store.tables import metadata


def test_a_migrated_database_has_exactly_the_tables_the_program_knows(store: Store) -> None:
    with store.reading() as connection:
        inspector = sa.inspect(connection)
        found = {name for name in inspector.get_table_names() if name.startswith("hub_")}
        columns = {
            table.name: {column["name"] for column in inspector.get_columns(table.name)}
            for table in metadata.sorted_tables
        }
    assert found == {*metadata.tables, "hub_schema"}
    assert columns == {t.name: {c.name for c in t.columns} for t in metadata.sorted_tables}


def test_migrating_twice_changes_nothing(store: Store) -> None:
    migrate(store)
    assert schema_version(store) == HEAD
    require_schema(store)


def test_a_database_without_tables_is_refused_with_the_next_step(tmp_path: Path) -> None:
    opened = open_store(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(ConfigError, match="run `hub migrate`"):
        require_schema(opened)
    opened.close()


def test_a_second_process_cannot_open_the_same_sqlite_file(tmp_path: Path) -> None:
    first = open_store(f"sqlite:///{tmp_path}/hub.db")
    with pytest.raises(ConfigError, match="in use by process"):
        open_store(f"sqlite:///{tmp_path}/hub.db")
    first.close()
    open_store(f"sqlite:///{tmp_path}/hub.db").close()


@pytest.mark.parametrize("url", ["nonsense", "mysql+pymysql://u:secret@h/db", "sqlite://"])
def test_an_unusable_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_an_error_inside_a_transaction_leaves_no_trace(store: Store) -> None:
    def write_then_fail() -> None:
        with store.transaction() as connection:
            next_numbers(connection, "n", 3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_then_fail()
    with store.transaction() as connection:
        assert next_numbers(connection, "n", 1) == 1


def test_numbers_of_a_sequence_have_no_gaps_under_eight_writers(store: Store) -> None:
    taken: list[int] = []

    def take() -> None:
        for _ in range(10):
            with store.transaction() as connection:
                taken.append(next_numbers(connection, "n", 2))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 161, 2))


def test_a_run_moves_only_from_where_the_worker_saw_it(store: Store) -> None:
    with store.transaction() as connection:
        run_id = runs.create_run(connection, "f", "full", None, "v", 1)
        seen = runs.load_run(connection, run_id)
        assert seen is not None
        runs.move_run(connection, seen, {"rows_read": 5}, state="reading", page_no=1)
    with pytest.raises(LostRace), store.transaction() as connection:
        runs.move_run(connection, seen, {"rows_read": 5}, state="reading", page_no=1)
    with store.reading() as connection:
        now = runs.load_run(connection, run_id)
    assert now is not None
    assert (now.page_no, now.counts["rows_read"]) == (1, 5)


def _link(key: str) -> ledger.NewLink:
    return ledger.NewLink("f", key, key, None, b"\x01" * 16, b"\x02" * 16, 1, 0, "pending", 1)


def test_links_are_found_whatever_characters_their_keys_have(store: Store) -> None:
    keys = ["a", "客户|1", 'quote"s', "back\\slash", "new\nline", "é", "e\u0301", "%_", "{}"]
    with store.transaction() as connection:
        ledger.insert_links(connection, [_link(key) for key in keys])
        found = ledger.links_of(connection, "f", [*keys, "absent"])
        assert set(found) == set(keys)
        ledger.mark_seen(connection, "f", keys[:4], 9)
        again = ledger.links_of(connection, "f", keys)
    assert sum(link.seen_run == 9 for link in again.values()) == 4


def test_thousands_of_keys_fit_one_question(store: Store) -> None:
    keys = [f"k{number}" for number in range(5000)]
    with store.transaction() as connection:
        ledger.insert_links(connection, [_link(key) for key in keys])
        assert len(ledger.links_of(connection, "f", keys)) == 5000


def _wish(key: str, revision: int, run_id: int = 1) -> dict[str, object]:
    return {
        "target_key": key,
        "flow_id": "f",
        "source_key": key,
        "run_id": run_id,
        "op": "upsert",
        "revision": revision,
        "payload_text": f'{{"r":{revision}}}',
    }


def test_the_newest_wish_for_a_target_replaces_the_one_not_yet_sent(store: Store) -> None:
    with store.transaction() as connection:
        deliveries.put_deliveries(connection, "c/s", [_wish("a", 1), _wish("b", 1)], 10)
        replaced = deliveries.put_deliveries(connection, "c/s", [_wish("a", 2, run_id=2)], 11)
        claimed = deliveries.claim(connection, "c/s", 10, "me", 12)
    assert replaced == {1: 1}
    assert {one.target_key: one.revision for one in claimed} == {"a": 2, "b": 1}


def test_a_target_with_an_open_intent_waits(store: Store) -> None:
    with store.transaction() as connection:
        deliveries.put_deliveries(connection, "c/s", [_wish("a", 1)], 10)
        first = deliveries.claim(connection, "c/s", 10, "me", 10)
        deliveries.put_deliveries(connection, "c/s", [_wish("a", 2)], 11)
        assert deliveries.claim(connection, "c/s", 10, "me", 12) == []
        deliveries.close_intents(connection, "c/s", [first[0].target_key])
        assert [one.revision for one in deliveries.claim(connection, "c/s", 10, "me", 12)] == [2]


def test_an_intent_given_back_keeps_its_key_and_gives_way_to_a_newer_wish(store: Store) -> None:
    with store.transaction() as connection:
        deliveries.put_deliveries(connection, "c/s", [_wish("a", 1), _wish("b", 1)], 10)
        claimed = deliveries.claim(connection, "c/s", 10, "me", 10)
        deliveries.put_deliveries(connection, "c/s", [_wish("b", 2)], 11)
        replaced = deliveries.give_back(connection, claimed, 20, "busy", attempts=1)
        assert deliveries.claim(connection, "c/s", 10, "me", 19)[0].target_key == "b"
        again = deliveries.claim(connection, "c/s", 10, "me", 20)
    assert [one.target_key for one in replaced] == ["b"]
    before = next(one for one in claimed if one.target_key == "a")
    assert [one.idempotency_key for one in again] == [before.idempotency_key]
    assert again[0].attempts == 1


def test_intents_of_another_process_and_due_doubts_are_settled_first(store: Store) -> None:
    with store.transaction() as connection:
        deliveries.put_deliveries(connection, "c/s", [_wish(key, 1) for key in "abc"], 10)
        mine, theirs, doubtful = deliveries.claim(connection, "c/s", 10, "me", 10)
        deliveries.take_over(connection, [replace(theirs, attempts=0)], "dead", 10)
        deliveries.doubt(connection, [doubtful], 15, "no answer")
        early = deliveries.open_intents(connection, "c/s", "me", 14, 10)
        late = deliveries.open_intents(connection, "c/s", "me", 15, 10)
    assert [one.target_key for one in early] == [theirs.target_key]
    assert {one.target_key for one in late} == {theirs.target_key, doubtful.target_key}
    assert mine.target_key not in {one.target_key for one in late}


def test_a_delivery_job_is_asked_for_once_until_it_starts(store: Store) -> None:
    with store.transaction() as connection:
        assert drains.want_drain(connection, "c/s") == 1
        assert drains.want_drain(connection, "c/s") is None
        drains.take_drain(connection, "c/s", 1, 0)
        assert drains.want_drain(connection, "c/s") == 2


def test_a_delivery_job_that_begins_anew_leaves_the_queued_one_in_its_place(store: Store) -> None:
    with store.transaction() as connection:
        assert drains.want_drain(connection, "c/s") == 1
        drains.take_drain(connection, "c/s", 1, 0)
        assert drains.want_drain(connection, "c/s") == 2
        drains.take_drain(connection, "c/s", 1, 0)
        assert drains.want_drain(connection, "c/s") is None
        drains.take_drain(connection, "c/s", 2, 0)
        assert drains.want_drain(connection, "c/s") == 3


def test_a_later_wake_up_does_not_hold_back_an_earlier_one(store: Store) -> None:
    with store.transaction() as connection:
        assert drains.plan_drain(connection, "c/s", 60_000) == 1
        assert drains.want_drain(connection, "c/s") == 2


def test_of_later_wake_ups_only_an_earlier_one_is_queued_beside_another(store: Store) -> None:
    with store.transaction() as connection:
        assert drains.plan_drain(connection, "c/s", 60_000) == 1
        assert drains.plan_drain(connection, "c/s", 90_000) is None
        assert drains.plan_drain(connection, "c/s", 59_990) is None
        assert drains.plan_drain(connection, "c/s", 30_000) == 2
        drains.take_drain(connection, "c/s", 1, 10_000)
        assert drains.plan_drain(connection, "c/s", 60_000) is None
        drains.take_drain(connection, "c/s", 2, 30_000)
        assert drains.plan_drain(connection, "c/s", 60_000) == 3
        drains.reset_drain(connection, "c/s")
        assert drains.plan_drain(connection, "c/s", 90_000) == 4


def test_staged_rows_come_back_exactly_and_whole_groups_at_a_time(store: Store) -> None:
    from decimal import Decimal

    rows = [
        (f"r{n}", f"g{n % 3}", {"n": n, "qty": Decimal("-1.50"), "text": "仓库"}) for n in range(9)
    ]
    with store.transaction() as connection:
        assert staging.stage_rows(connection, 1, rows) == 9
        assert staging.stage_rows(connection, 1, rows[:2]) == 0
        first = staging.next_groups(connection, 1, None, 2)
        rest = staging.next_groups(connection, 1, max(first), 2)
        staging.clear_stage(connection, 1)
        assert staging.next_groups(connection, 1, None, 2) == {}
    assert sorted([*first, *rest]) == ["g0", "g1", "g2"]
    assert first["g0"] == [row for _, group, row in rows if group == "g0"]


def test_records_are_numbered_in_commit_order_and_counted_alive(store: Store) -> None:
    with store.transaction() as connection:
        new = [records.Change(key, '{"a":1}', 1) for key in "abc"]
        records.put_records(connection, "item", new, 5)
        records.put_records(connection, "item", [records.Change("a", '{"a":2}', 2)], 6)
        assert records.count_records(connection, "item") == 3
        changes = records.records_since(connection, "item", 2, 10)
    assert [(one["key"], one["change_no"]) for one in changes] == [("c", 3), ("a", 4)]
    assert changes[1]["data"] == {"a": 2}


def test_who_waits_to_be_alone_does_not_hold_up_an_index_built_concurrently(
    postgres_url: str,
) -> None:
    first, second = open_store(postgres_url), open_store(postgres_url)
    asks = threading.Event()

    def wait() -> None:
        asks.set()
        with second.alone(4711):
            pass

    waiting = threading.Thread(target=wait)
    build = sa.text("CREATE INDEX CONCURRENTLY hub_test_index ON hub_test (id)")
    with first.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("CREATE TABLE hub_test (id integer)"))
        with first.alone(4711):
            waiting.start()
            assert asks.wait(5)
            waiting.join(0.5)
            connection.execute(sa.text("SET statement_timeout = '5s'"))
            connection.execute(build)
        waiting.join(5)
    assert not waiting.is_alive()
    first.close()
    second.close()
