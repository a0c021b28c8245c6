"""Raw messages are numbered per part, recognised by their keys, and go when they are done."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hub.store.database import Store
from hub.store.telemetry.inbox import (
    NewMessage,
    append,
    last_seq,
    read_after,
    trim,
    trim_seen,
)


def message(body: bytes = b"{}", part: int = 0, key: str = "", **changes: Any) -> NewMessage:
    made = NewMessage(part, 1000, "iot", f"device-{part}", 0, "iot.readings", "", 0, body, key)
    return made._replace(**changes)


def put(store: Store, *messages: NewMessage) -> list[tuple[int, bool]]:
    with store.transaction() as connection:
        return append(connection, messages)


def bodies(store: Store, part: int = 0, seq: int = 0) -> dict[int, bytes]:
    with store.reading() as connection:
        return {one.seq: one.body for one in read_after(connection, part, seq, 10**9, 10**6)}


def test_messages_are_numbered_per_part_in_their_order(store: Store) -> None:
    first = put(store, message(b"a", 3), message(b"b", 1), message(b"c", 3))
    second = put(store, message(b"d", 3))
    assert [seq for seq, _ in [*first, *second]] == [1, 1, 2, 3]
    assert bodies(store, 3) == {1: b"a", 2: b"c", 3: b"d"}
    with store.reading() as connection:
        assert (last_seq(connection, 3), last_seq(connection, 9)) == (3, 0)


def test_a_message_comes_back_as_it_was_kept(store: Store) -> None:
    body = bytes(range(256)) * 300
    given = message(body, gateway=1, counted=1, details='{"topic":"线/a"}', sender="网关 1")
    put(store, given)
    with store.reading() as connection:
        (found,) = read_after(connection, 0, 0, 10, 10)
    assert found == (given.part, 1, *given[1:9])


def test_a_key_that_was_seen_before_leads_to_the_first_message(store: Store) -> None:
    put(store, message(b"first", key="k"))
    placed = put(store, message(b"again", key="k"), message(b"x"), message(b"new", key="n"))
    assert placed == [(1, True), (2, False), (3, False)]
    assert bodies(store) == {1: b"first", 2: b"x", 3: b"new"}


def test_a_key_twice_in_one_batch_is_kept_once(store: Store) -> None:
    placed = put(store, message(b"a", key="k"), message(b"b", key="k"))
    assert placed == [(1, False), (1, True)]
    assert bodies(store) == {1: b"a"}


def test_the_same_key_of_another_source_is_another_key(store: Store) -> None:
    placed = put(store, message(key="k"), message(key="k", source="other"))
    assert placed == [(1, False), (2, False)]


def test_a_transaction_that_is_undone_leaves_no_gap(store: Store) -> None:
    put(store, message(b"a"))
    with pytest.raises(ZeroDivisionError), store.transaction() as connection:  # noqa: PT012
        append(connection, [message(b"lost", key="k"), message(b"lost")])
        raise ZeroDivisionError
    assert put(store, message(b"b", key="k")) == [(2, False)]


def test_a_page_ends_at_its_bytes_but_has_at_least_one_message(store: Store) -> None:
    put(store, *(message(b"x" * 100) for _ in range(5)))
    with store.reading() as connection:
        assert len(read_after(connection, 0, 0, 250, 100)) == 2
        assert [one.seq for one in read_after(connection, 0, 3, 1, 100)] == [4]
        assert len(read_after(connection, 0, 0, 10**9, 3)) == 3
        assert read_after(connection, 0, 5, 10**9, 100) == []


def test_only_old_messages_that_were_projected_go(store: Store) -> None:
    put(store, *(message(str(at).encode(), received_at=at) for at in (10, 20, 30, 40)))
    with store.transaction() as connection:
        assert trim(connection, 0, 3, 100, most=2) == 2
        assert trim(connection, 0, 3, 30, most=10) == 0
        assert trim(connection, 0, 3, 100, most=10) == 1
        assert trim(connection, 0, 3, 100, most=10) == 0
    assert bodies(store) == {4: b"40"}
    assert put(store, message()) == [(5, False)]


def test_an_old_key_is_forgotten(store: Store) -> None:
    put(store, message(key="old", received_at=10), message(key="young", received_at=50))
    with store.transaction() as connection:
        assert trim_seen(connection, 40, 100) == 1
        assert trim_seen(connection, 40, 100) == 0
    placed = put(store, message(key="old"), message(key="young"))
    assert placed == [(3, False), (2, True)]


@pytest.mark.postgres
def test_processes_that_write_the_same_parts_wait_for_each_other(store: Store) -> None:
    """Numbers stay gapless, and no two transactions lock the same parts in different order."""
    if store.embedded:
        pytest.skip("one writer only")
    failures: list[Exception] = []

    def write(seed: int) -> None:
        try:
            for at in range(30):
                parts = [(seed + at + step) % 5 for step in range(4)]
                key = f"k{at}" if seed % 2 else ""
                put(store, *(message(b"x", part, key and f"{key}-{part}") for part in parts))
        except Exception as error:  # noqa: BLE001 (shown below)
            failures.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    for part in range(5):
        kept = list(bodies(store, part))
        assert kept == list(range(1, len(kept) + 1))
