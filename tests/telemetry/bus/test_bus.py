"""Keeping messages in the stream of a real server, and reading them from positions."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from hub.sdk.errors import ConfigError, LostRace, TransientError
from hub.sdk.telemetry import Receipt
from hub.store.database import Store
from hub.store.telemetry.database import open_telemetry
from hub.store.telemetry.inbox import NewMessage, StoredMessage
from hub.store.telemetry.positions import advance, part_name
from hub.telemetry.bus import BUS_PART, Bus, BusAt, Link
from hub.telemetry.bus_feed import BusFeed, bus_parts, dealt
from hub.telemetry.bus_keeper import BusKeeper
from hub.telemetry.bus_state import Cleaning, look
from tests.telemetry.projector.test_process import until


@pytest.fixture
def bus(nats_url: str) -> Iterator[Bus]:
    made = Bus(BusAt(nats_url, f"test-{secrets.token_hex(6)}"))
    yield made
    made.close()
    delete(*made.at)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_telemetry(f"sqlite:///{tmp_path}/telemetry.db")) as opened:
        yield opened


def delete(url: str, name: str) -> None:
    with closing(Bus(BusAt(url, name))) as bus:
        bus.run(lambda link: link.jetstream.delete_stream(link.at.stream))


def message(number: int, part: int = 0, key: str = "", size: int = 0) -> NewMessage:
    body = str(number).encode().ljust(size)
    return NewMessage(part, 1_000 + number, "iot", "D", 0, "plain", "", 0, body, key)


def no_table(messages: Sequence[NewMessage]) -> list[Receipt]:
    raise AssertionError(f"{len(messages)} messages were given to the table")


def take(feed: BusFeed, held: dict[int, int], number: int) -> list[StoredMessage]:
    """Exactly so many messages, when they are there."""
    found: list[list[StoredMessage]] = [[]]

    def enough() -> bool:
        found[0] = feed.take(held, 10**8, 10**6).messages
        return len(found[0]) >= number

    until(enough)
    assert len(found[0]) == number
    return found[0]


def test_messages_come_in_order_and_again_until_their_position_is_committed(
    bus: Bus, store: Store
) -> None:
    keeper, feed = BusKeeper(bus), BusFeed(bus, store, 1)
    receipts = keeper.keep([message(n, part=n % 2) for n in range(6)], no_table)
    assert [one.part for one in receipts] == [BUS_PART, BUS_PART + 1] * 3
    assert [one.seq for one in receipts] == [1, 2, 3, 4, 5, 6]
    first = take(feed, {BUS_PART: 0}, 3)
    assert [(one.seq, one.body, one.received_at) for one in first] == [
        (1, b"0", 1000),
        (3, b"2", 1002),
        (5, b"4", 1004),
    ]
    assert take(feed, {BUS_PART: 0}, 3) == first
    assert take(feed, {BUS_PART: 3}, 1) == first[2:]
    assert take(feed, {BUS_PART: 1}, 2) == first[1:], "the store was put back"
    found = feed.take({BUS_PART: 5}, 1, 1)
    assert found.messages == []
    assert found.waiting == 0


def test_what_another_process_projected_is_not_given_out(bus: Bus, store: Store) -> None:
    BusKeeper(bus).keep([message(n) for n in range(10)], no_table)
    with closing(Bus(bus.at)) as other:
        first, second = BusFeed(bus, store, 1), BusFeed(other, store, 1)
        assert len(take(first, {BUS_PART: 0}, 10)) == 10
        assert [one.seq for one in take(second, {BUS_PART: 7}, 3)] == [8, 9, 10]
        assert [one.seq for one in take(first, {BUS_PART: 9}, 1)] == [10]


def test_a_message_is_recognised_by_its_key(bus: Bus) -> None:
    keeper = BusKeeper(bus)
    (first,) = keeper.keep([message(1, key="k")], no_table)
    again, other = keeper.keep([message(2, key="k"), message(2, key="l")], no_table)
    assert (again.seq, again.duplicate) == (first.seq, True)
    assert (other.duplicate, first.duplicate) == (False, False)


def test_what_is_too_large_for_the_server_goes_to_the_table(bus: Bus) -> None:
    given: list[NewMessage] = []

    def table(messages: Sequence[NewMessage]) -> list[Receipt]:
        given.extend(messages)
        return [Receipt(77, False, 3) for _ in messages]

    wanted = [message(1), message(2, size=2_000_000), message(3)]
    found = BusKeeper(bus).keep(wanted, table)
    assert given == [wanted[1]]
    assert found == [
        Receipt(1, False, BUS_PART),
        Receipt(77, False, 3),
        Receipt(2, False, BUS_PART),
    ]


def test_a_stream_that_was_made_anew_is_read_from_its_beginning(bus: Bus, store: Store) -> None:
    keeper, feed = BusKeeper(bus), BusFeed(bus, store, 1)
    keeper.keep([message(n) for n in range(5)], no_table)
    take(feed, {BUS_PART: 0}, 5)
    with store.transaction() as connection:
        advance(connection, part_name(BUS_PART), 5, 1)
    delete(*bus.at)

    def lost() -> bool:
        try:
            feed.take({BUS_PART: 5}, 10, 10)
        except LostRace:
            return True
        except TransientError:
            return False
        return False

    until(lost)
    keeper.keep([message(9)], no_table)
    assert [one.body for one in take(feed, {BUS_PART: 0}, 1)] == [b"9"]


def test_what_others_put_into_the_stream_can_be_told(bus: Bus, store: Store) -> None:
    async def put(link: Link) -> None:
        await link.jetstream.publish(link.at.subject(0), b"\xff not ours")

    bus.run(put)
    (found,) = take(BusFeed(bus, store, 1), {BUS_PART: 0}, 1)
    assert (found.format, found.body) == ("bus.unreadable", b"\xff not ours")


def test_only_what_is_projected_is_deleted(bus: Bus, store: Store) -> None:
    BusKeeper(bus).keep([message(n, part=n % 2) for n in range(10)], no_table)
    with store.transaction() as connection:
        advance(connection, part_name(BUS_PART), 9, 1)
        advance(connection, part_name(BUS_PART + 1), 4, 1)
    cleaning = Cleaning(bus, store, 0)
    cleaning.clean()
    reached = {BUS_PART: 9, BUS_PART + 1: 4}
    found = {one.part: (one.messages, one.waiting) for one in bus.run(lambda x: look(x, reached))}
    assert found == {BUS_PART: (3, 0), BUS_PART + 1: (3, 3)}
    kept = Cleaning(bus, store, 1)
    kept.clean()
    assert sum(one.messages for one in bus.run(lambda link: look(link, reached))) == 6


def test_waiting_is_counted_with_its_age(bus: Bus) -> None:
    BusKeeper(bus).keep([message(n) for n in range(4)], no_table)
    (found,) = bus.run(lambda link: look(link, {BUS_PART: 2}))
    assert (found.messages, found.waiting, found.since) == (4, 2, 1002)


def test_parts_that_are_declared_no_more_are_still_read(bus: Bus) -> None:
    BusKeeper(bus).keep([message(1, part=6)], no_table)
    assert bus_parts(bus, 2) == [BUS_PART + part for part in range(7)]
    assert dealt([0, 1, 2], [256, 257]) == [0, 256, 1, 257, 2]


def test_while_the_server_is_away_senders_are_asked_to_come_again() -> None:
    with closing(Bus(BusAt("nats://user:secret@127.0.0.1:1"))) as bus:
        begun = time.monotonic()
        with pytest.raises(TransientError) as told:
            BusKeeper(bus).keep([message(1)], no_table)
        assert told.value.code == "telemetry.store"
        assert time.monotonic() - begun < 5
        with pytest.raises(TransientError) as told:
            bus.run(lambda link: link.jetstream.account_info())
        assert told.value.code == "telemetry.bus_away"
        assert "secret" not in told.value.message("en")


def test_a_wrong_address_or_a_missing_package_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError) as told:
        Bus(BusAt("http://127.0.0.1:4222"))
    assert told.value.code == "telemetry.bus_url"
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(ConfigError) as told:
        Bus(BusAt("nats://127.0.0.1:4222"))
    assert told.value.code == "telemetry.bus_extra"
