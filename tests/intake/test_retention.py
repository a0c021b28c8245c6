"""Old events are forgotten a little at a time, and never before every flow has read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from hub.engine import inbox as reading
from hub.engine.hub import Hub, open_hub
from hub.engine.inbox import Retention, inboxes
from hub.sdk.clock import Clock
from hub.sdk.errors import ConfigError
from hub.sdk.testing import FakeClock
from hub.store.inbox import NewEvent, append_events, move_position
from hub.store.runs import lock_flow
from tests.intake.rig import Desk, inbox_rows

BODY = b'{"id": 1}'
DAY = 86_400.0


@contextmanager
def opened(desk: Desk, clock: Clock) -> Iterator[Hub]:
    with open_hub(desk.folder, clock=clock) as hub:
        yield hub


def receive(hub: Hub, number: int) -> None:
    """Events with the names E0, E1 … that came now."""
    events = [NewEvent(f"E{at}", hub.now_ms(), "application/json", BODY) for at in range(number)]
    with hub.store.transaction() as connection:
        append_events(connection, "desk", events)


def read(hub: Hub, upto: int, flow: str = "tickets") -> None:
    """The flow has read so far."""
    with hub.store.transaction() as connection:
        lock_flow(connection, flow)
        move_position(connection, flow, "desk", upto)


def kept(hub: Hub) -> list[bool]:
    """Whether each event has its body still."""
    with hub.store.reading() as connection:
        return [body is not None for body in inbox_rows(connection).values()]


def test_bodies_go_first_and_ids_later(desk: Desk) -> None:
    desk.write_flow()
    clock = FakeClock()
    with opened(desk, clock) as hub:
        receive(hub, 5)
        read(hub, 5)
        retention = Retention(hub)
        clock.advance(29 * DAY)
        retention.round()
        assert kept(hub) == [True] * 5
        clock.advance(2 * DAY)
        retention.round()
        assert kept(hub) == [False] * 5
        receive(hub, 5)  # sent again: still known
        assert kept(hub) == [False] * 5
        clock.advance(60 * DAY)
        retention.round()
        assert kept(hub) == []


def test_events_that_a_flow_has_not_read_stay(desk: Desk) -> None:
    desk.write_flow()
    clock = FakeClock()
    with opened(desk, clock) as hub:
        receive(hub, 5)
        read(hub, 2)
        clock.advance(365 * DAY)
        Retention(hub).round()
        assert kept(hub) == [True] * 3


def test_a_flow_that_has_never_run_or_cannot_be_loaded_counts(desk: Desk) -> None:
    desk.write_flow()
    flows = desk.folder / "mappings" / "flows"
    text = (flows / "tickets.yaml").read_text(encoding="utf-8")
    (flows / "second.yaml").write_text(text.replace("tickets", "second"), encoding="utf-8")
    clock = FakeClock()
    with opened(desk, clock) as hub:
        receive(hub, 4)
        read(hub, 4)
        clock.advance(365 * DAY)
        Retention(hub).round()
        assert kept(hub) == [True] * 4
        read(hub, 1, "second")
        (flows / "second.yaml").write_text("broken: [", encoding="utf-8")
        hub.refresh()
        Retention(hub).round()
        assert kept(hub) == [True] * 3
        (flows / "second.yaml").unlink()
        hub.refresh()
        Retention(hub).round()
        assert kept(hub) == []


def test_without_any_flow_nothing_is_forgotten(desk: Desk) -> None:
    clock = FakeClock()
    with opened(desk, clock) as hub:
        receive(hub, 3)
        clock.advance(365 * DAY)
        Retention(hub).round()
        assert kept(hub) == [True] * 3


def test_when_the_last_flow_is_gone_what_it_had_read_is_forgotten(desk: Desk) -> None:
    clock = FakeClock()
    with opened(desk, clock) as hub:
        receive(hub, 3)
        read(hub, 2, "gone")
        clock.advance(365 * DAY)
        Retention(hub).round()
        assert kept(hub) == [True]


def test_one_round_forgets_a_bounded_number(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_AT_ONCE", 3)
    monkeypatch.setattr(reading, "_MOST_ROUNDS", 2)
    desk.write_flow()
    clock = FakeClock()
    with opened(desk, clock) as hub:
        receive(hub, 14)
        read(hub, 14)
        clock.advance(40 * DAY)
        retention = Retention(hub)
        found = []
        for _ in range(3):
            retention.round()
            found.append(kept(hub).count(False))
        assert found == [6, 12, 14]
        again = Retention(hub)  # after a restart it goes on where it was
        clock.advance(60 * DAY)
        again.round()
        assert kept(hub) == [False] * 8


def test_a_full_read_begins_behind_what_is_forgotten(desk: Desk) -> None:
    desk.write_flow()
    clock = FakeClock()
    with opened(desk, clock) as hub:
        receive(hub, 3)
        read(hub, 3)
        clock.advance(timedelta(days=40).total_seconds())
        Retention(hub).round()
        with hub.store.reading() as connection:
            from hub.store.inbox import first_kept

            assert first_kept(connection, "desk") == 4
            assert inboxes(hub, connection)["desk"].read == 3


def test_ids_that_go_before_their_bodies_are_refused(plain: Desk) -> None:
    settings = plain.folder / "hub.toml"
    text = settings.read_text(encoding="utf-8") + "[hooks]\nkeep_bodies_days = 100\n"
    settings.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="keep_ids_days"), open_hub(plain.folder):
        pass
