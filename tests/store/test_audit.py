"""The list of who changed what: any later change to it is found."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from hub.store.audit import append_audit, list_audit, verify_audit
from hub.store.database import Store
from hub.store.tables import audit, sequence


def _fill(store: Store, number: int) -> None:
    for n in range(number):
        with store.transaction() as connection:
            append_audit(connection, "lin", "dead_letter.discard", f"letter-{n}", {"n": n}, n)


def test_a_chain_that_nobody_touched_holds(store: Store) -> None:
    _fill(store, 5)
    with store.reading() as connection:
        verdict = verify_audit(connection)
        newest = list_audit(connection, 1)[0]
    assert (verdict.entries, verdict.broken) == (5, None)
    assert verdict.newest_hash == newest["entry_hash"]


def test_an_empty_chain_holds(store: Store) -> None:
    with store.reading() as connection:
        assert verify_audit(connection) == (0, None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "somebody else"},
        {"action": "x"},
        {"subject": "letter-9"},
        {"details_text": '{"n":3}'},
        {"happened_at": 7},
        {"entry_hash": "0" * 64},
    ],
)
def test_an_edited_entry_is_named(store: Store, change: dict[str, object]) -> None:
    _fill(store, 5)
    with store.transaction() as connection:
        connection.execute(audit.update().where(audit.c.entry_no == 3).values(**change))
    with store.reading() as connection:
        assert verify_audit(connection).broken == 3


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_deleted_entry_is_named_the_newest_too(store: Store, number: int) -> None:
    _fill(store, 5)
    with store.transaction() as connection:
        connection.execute(audit.delete().where(audit.c.entry_no == number))
    with store.reading() as connection:
        assert verify_audit(connection).broken == number
    _fill(store, 1)
    with store.reading() as connection:
        assert verify_audit(connection).broken == number, "a later entry hides nothing"


def test_deleting_everything_is_found(store: Store) -> None:
    _fill(store, 3)
    with store.transaction() as connection:
        connection.execute(audit.delete())
    with store.reading() as connection:
        assert verify_audit(connection).broken == 1


def test_two_entries_swapped_are_found(store: Store) -> None:
    _fill(store, 4)
    with store.transaction() as connection:
        for old, new in ((2, 99), (3, 2), (99, 3)):
            statement = audit.update().where(audit.c.entry_no == old).values(entry_no=new)
            connection.execute(statement)
    with store.reading() as connection:
        assert verify_audit(connection).broken == 2


def test_what_is_rolled_back_leaves_no_entry_and_no_gap(store: Store) -> None:
    _fill(store, 1)
    with store.reading() as connection:
        append_audit(connection, "lin", "x", "y", {}, 0)
        connection.rollback()
    _fill(store, 1)
    with store.reading() as connection:
        assert verify_audit(connection)[:2] == (2, None)


def test_several_at_once_make_one_chain(store: Store) -> None:
    threads = [threading.Thread(target=_fill, args=(store, 20)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.reading() as connection:
        assert verify_audit(connection)[:2] == (80, None)
        last = connection.execute(sa.select(sequence.c.last_no)).scalar_one()
    assert last == 80


def test_entries_are_listed_newest_first_page_by_page(store: Store) -> None:
    _fill(store, 5)
    with store.transaction() as connection:
        append_audit(connection, "wang", "secret.set", "crm/token", {}, 9)
    with store.reading() as connection:
        first = list_audit(connection, 2)
        rest = list_audit(connection, 10, before=first[-1]["entry_no"])
        assert [one["entry_no"] for one in [*first, *rest]] == [6, 5, 4, 3, 2, 1]
        assert [one["entry_no"] for one in list_audit(connection, 9, actor="wang")] == [6]
        assert [one["entry_no"] for one in list_audit(connection, 9, action="secret.set")] == [6]
        assert [one["subject"] for one in list_audit(connection, 9, subject="crm")] == ["crm/token"]
