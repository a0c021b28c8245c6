"""Endpoints that misbehave: when they are tried again, when not any more, and what they keep."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from random import Random

import pytest

from hub.engine.hub import Hub
from hub.engine.operations import LocalOperations
from hub.engine.statistics import prometheus_text
from hub.engine.sweep import Sweeper
from hub.engine.webhooks import waits
from hub.engine.webhooks.job import send_webhooks
from hub.engine.webhooks.retention import forget_old_webhooks
from hub.sdk.testing import FakeClock, Fault
from tests.engine.webhook_rig import Desk, Receiver, change, states, subscribe

HOUR = 3600.0
STEPS = (5, 300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def hub(tmp_path: Path, clock: FakeClock) -> Iterator[Hub]:
    with Desk(tmp_path / "hub", seconds=0.3).open(clock) as opened:
        yield opened


def wait_of(hub: Hub, one: str) -> float:
    """Seconds until the one waiting message is due."""
    rows = LocalOperations(hub).messages(one, "pending", 10)
    assert len(rows) == 1
    return (datetime.fromisoformat(rows[0]["due_at"]) - hub.clock.now()).total_seconds()


def fail_on(hub: Hub, clock: FakeClock, one: str, tries: int) -> list[float]:
    """Send whenever the message is due; how long it had to wait each time."""
    waited = []
    for _ in range(tries):
        send_webhooks(hub, one)
        waited.append(wait_of(hub, one))
        clock.advance(waited[-1])
    return waited


def test_a_message_is_tried_by_the_schedule_and_keeps_its_id(
    hub: Hub, receiver: Receiver, clock: FakeClock
) -> None:
    one = subscribe(hub, receiver)
    receiver.misbehave(Fault.STATUS, times=None, status=500)
    change(hub, "C-1")
    waited = fail_on(hub, clock, one, 9)
    for found, wanted in zip(waited, [*STEPS, STEPS[-1], STEPS[-1]], strict=True):
        assert 0.9 * wanted - 0.01 <= found <= 1.1 * wanted + 0.01
    assert len(set(receiver.ids)) == 1
    assert len(receiver.requests) == 9
    assert len({request.body for request in receiver.requests}) == 1
    stamps = [request.headers["webhook-timestamp"] for request in receiver.requests]
    assert stamps == sorted(set(stamps))
    receiver.behave()
    send_webhooks(hub, one)
    assert list(states(hub, one).values()) == ["delivered"]


def test_nothing_is_sent_before_it_is_due(hub: Hub, receiver: Receiver, clock: FakeClock) -> None:
    one = subscribe(hub, receiver)
    receiver.misbehave(Fault.STATUS, times=None, status=500)
    change(hub, "C-1")
    send_webhooks(hub, one)
    clock.advance(wait_of(hub, one) - 0.1)
    send_webhooks(hub, one)
    assert len(receiver.requests) == 1


def test_the_waits_spread_around_the_schedule() -> None:
    found = {waits.wait_after(1, Random(seed)) for seed in range(50)}
    assert min(found) >= 4.5
    assert max(found) <= 5.5
    assert len(found) > 40
    for failures in range(1, 12):
        assert waits.hold_after(failures) <= waits.wait_after(failures, Random(failures))


FAULTS = [
    (Fault.STATUS, {"status": 500}, 500, "webhook.status"),
    (Fault.STATUS, {"status": 404}, 404, "webhook.status"),
    (Fault.REDIRECT_LOOP, {}, 302, "webhook.redirect"),
    (Fault.REDIRECT_LOOP, {"status": 307}, 307, "webhook.redirect"),
    (Fault.RESET, {}, None, "webhook.unreachable"),
    (Fault.EARLY_CLOSE, {}, None, "webhook.unreachable"),
    (Fault.GARBAGE, {}, None, "webhook.unreachable"),
    (Fault.HUGE_HEADER, {}, None, "webhook.unreachable"),
    (Fault.SILENCE, {}, None, "webhook.timeout"),
    (Fault.SLOW_HEADERS, {"interval": 0.05}, None, "webhook.timeout"),
    (Fault.LOST_ANSWER, {}, None, "webhook.unreachable"),
    (Fault.TIMEOUT_AFTER, {}, None, "webhook.timeout"),
    (Fault.STATUS_AFTER, {"status": 502}, 502, "webhook.status"),
]


def test_every_kind_of_failure_is_told_and_tried_again(
    hub: Hub, receiver: Receiver, clock: FakeClock
) -> None:
    operations = LocalOperations(hub)
    for number, (fault, options, status, code) in enumerate(FAULTS):
        one = subscribe(hub, receiver, f"/hook{number}")
        receiver.misbehave(fault, f"/hook{number}", **options)
        change(hub, "C-1")
        send_webhooks(hub, one)
        tried = operations.attempts(one, 10)
        assert [(row["status"], row["error"]["code"]) for row in tried] == [(status, code)], fault
        clock.advance(6)
        send_webhooks(hub, one)
        assert list(states(hub, one).values()) == ["delivered"], fault
        mine = [one for one in receiver.requests if one.path == f"/hook{number}"]
        assert len({one.headers["webhook-id"] for one in mine}) == 1
        operations.change_subscription(one, {"state": "paused"})


TAKEN = [
    (Fault.DRIP, {"interval": 0.05}),
    (Fault.CUT_BODY, {}),
    (Fault.CUT_CHUNK, {}),
    (Fault.HTML_200, {}),
    (Fault.GZIP_BOMB, {"inflated": 5_000_000}),
    (Fault.EMPTY_BODY, {}),
    (Fault.EMPTY_BODY, {"status": 204}),
    (Fault.DUPLICATE_REQUEST, {}),
]


@pytest.mark.parametrize(("fault", "options"), TAKEN)
def test_a_2xx_has_taken_the_message_whatever_its_body(
    hub: Hub, receiver: Receiver, fault: Fault, options: dict[str, object]
) -> None:
    one = subscribe(hub, receiver)
    receiver.misbehave(fault, **options)
    change(hub, "C-1")
    send_webhooks(hub, one)
    assert list(states(hub, one).values()) == ["delivered"]
    answer = LocalOperations(hub).attempts(one, 1)[0]["answer"]
    assert len(answer) <= 1000


@pytest.mark.parametrize(
    ("status", "asked", "wait"),
    [
        (429, "40", 40),
        (503, "40", 40),
        (429, "0", 1),
        (429, "-5", 1),
        (429, "9999999", 86_400),
        (429, "Mon, 06 Jan 2025 01:01:30 GMT", 90),
        (429, "soon", 5),
        (500, "400", 5),
        (429, "nan", 5),
    ],
)
def test_retry_after_is_obeyed_within_bounds(
    hub: Hub, receiver: Receiver, status: int, asked: str, wait: float
) -> None:
    one = subscribe(hub, receiver)
    receiver.misbehave(Fault.STATUS, times=None, status=status, retry_after=asked)
    change(hub, "C-1")
    send_webhooks(hub, one)
    assert 0.9 * wait <= wait_of(hub, one) <= 1.1 * wait


def test_an_endpoint_that_asks_for_rest_is_left_alone_and_loses_no_try(
    hub: Hub, receiver: Receiver, clock: FakeClock
) -> None:
    one = subscribe(hub, receiver)
    receiver.misbehave(Fault.TOO_MANY_REQUESTS, times=20, retry_after=60)
    change(hub, "C-1")
    for number in range(20):
        send_webhooks(hub, one)
        change(hub, f"D-{number}")  # nobody is sent anything while the endpoint rests
        send_webhooks(hub, one)
        clock.advance(60)
    assert len(receiver.requests) == 20
    send_webhooks(hub, one)
    assert len(receiver.taken) == 21
    assert set(states(hub, one).values()) == {"delivered"}


def test_an_unwell_endpoint_is_tried_with_one_message_at_a_time(
    hub: Hub, receiver: Receiver, clock: FakeClock
) -> None:
    one = subscribe(hub, receiver)
    receiver.misbehave(Fault.STATUS, times=None, status=503)
    change(hub, *[f"C-{number}" for number in range(40)])
    send_webhooks(hub, one)
    places = hub.endpoints.settings.concurrent
    assert len(receiver.requests) == places
    for tries in range(1, 5):
        clock.advance(300)
        send_webhooks(hub, one)
        assert len(receiver.requests) == places + tries
    receiver.behave()
    clock.advance(300)
    send_webhooks(hub, one)
    assert len(receiver.taken) == 40


def test_a_message_nobody_can_take_does_not_hold_up_the_others(
    hub: Hub, receiver: Receiver, clock: FakeClock
) -> None:
    one = subscribe(hub, receiver)
    receiver.misbehave(Fault.STATUS, status=422)
    change(hub, "poison")
    send_webhooks(hub, one)
    change(hub, *[f"C-{number}" for number in range(9)])
    send_webhooks(hub, one)
    assert len(receiver.taken) == 9


def test_a_message_is_given_up_after_its_last_try_only_if_others_were_taken(
    hub: Hub, receiver: Receiver, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    one = subscribe(hub, receiver)
    change(hub, "poison")
    for number in range(waits.TRIES):
        receiver.misbehave(Fault.STATUS, status=422)
        send_webhooks(hub, one)
        change(hub, f"C-{number}")
        send_webhooks(hub, one)
        clock.advance(11.5 * HOUR)
    assert sorted(states(hub, one).values()) == ["delivered"] * 8 + ["failed"]
    failed = LocalOperations(hub).messages(one, "failed", 10)
    assert [(row["key"], row["attempts"]) for row in failed] == [("poison", 8)]
    assert any(row.levelno == logging.ERROR and "given up" in row.message for row in caplog.records)
    LocalOperations(hub).resend(one, failed[0]["id"])
    send_webhooks(hub, one)
    assert set(states(hub, one).values()) == {"delivered"}
    assert receiver.taken[-1][0] == failed[0]["id"]


def test_an_endpoint_that_never_answers_well_is_disabled_after_five_days_and_loses_nothing(
    hub: Hub, receiver: Receiver, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    operations = LocalOperations(hub)
    one = subscribe(hub, receiver)
    receiver.misbehave(Fault.STATUS, times=None, status=500)
    change(hub, "C-1")
    began = clock.monotonic()
    while operations.subscription(one)["state"] == "active":
        assert clock.monotonic() - began < 135 * HOUR
        assert operations.doctor()["ok"]
        clock.advance(max(0.0, wait_of(hub, one)) if receiver.requests else 0.0)
        send_webhooks(hub, one)
    assert clock.monotonic() - began >= 120 * HOUR
    row = operations.subscription(one)
    assert row["state"] == "disabled"
    assert row["error"]["code"] == "subscription.disabled"
    assert any(line.levelno == logging.ERROR and one in line.message for line in caplog.records)
    check = next(c for c in operations.doctor()["checks"] if c["check"] == "subscription")
    assert (check["name"], check["ok"]) == (one, False)
    assert 'hub_subscriptions_count{state="disabled"} 1' in prometheus_text(hub)

    tries = len(receiver.requests)
    change(hub, "C-2", "C-3")
    clock.advance(24 * HOUR)
    send_webhooks(hub, one)
    row = operations.subscription(one)
    assert (len(receiver.requests), row["unsent"]) == (tries, 1)
    assert row["positions"] == [{"entity": "customer", "change_no": 1, "newest": 3}]

    receiver.behave()
    assert operations.change_subscription(one, {"state": "active"})["error"] is None
    send_webhooks(hub, one)
    assert sorted(receiver.keys) == ["C-1", "C-2", "C-3"]
    assert receiver.ids[0] in [taken for taken, _ in receiver.taken]


def test_gone_disables_at_once_and_resume_sends_on(
    hub: Hub, receiver: Receiver, clock: FakeClock
) -> None:
    operations = LocalOperations(hub)
    one = subscribe(hub, receiver)
    receiver.misbehave(Fault.STATUS, status=410)
    change(hub, "C-1")
    send_webhooks(hub, one)
    row = operations.subscription(one)
    assert (row["state"], row["error"]["code"]) == ("gone", "subscription.gone")
    clock.advance(24 * HOUR)
    send_webhooks(hub, one)
    assert len(receiver.requests) == 1
    operations.change_subscription(one, {"state": "active"})
    send_webhooks(hub, one)
    assert receiver.keys == ["C-1"]


def test_what_changes_in_a_pause_is_sent_after_it(hub: Hub, receiver: Receiver) -> None:
    operations = LocalOperations(hub)
    one = subscribe(hub, receiver)
    operations.change_subscription(one, {"state": "paused"})
    change(hub, "C-1", revision=1)
    change(hub, "C-1", revision=2)
    send_webhooks(hub, one)
    assert receiver.requests == []
    operations.change_subscription(one, {"state": "active"})
    send_webhooks(hub, one)
    assert [body["data"]["revision"] for _, body in receiver.taken] == [2]


def test_after_an_outage_nothing_waits_for_its_schedule(
    hub: Hub, receiver: Receiver, clock: FakeClock
) -> None:
    one = subscribe(hub, receiver)
    receiver.misbehave(Fault.STATUS, times=None, status=503)
    change(hub, "C-1")
    fail_on(hub, clock, one, 5)
    clock.advance(-1.0)  # C-1 is not due again yet
    receiver.behave()
    change(hub, "C-2")
    clock.advance(0.5)
    send_webhooks(hub, one)
    assert sorted(receiver.keys) == ["C-1", "C-2"]


def test_settled_messages_and_tries_are_kept_for_a_time(
    hub: Hub, receiver: Receiver, clock: FakeClock
) -> None:
    operations = LocalOperations(hub)
    one = subscribe(hub, receiver)
    change(hub, "C-1")
    send_webhooks(hub, one)
    clock.advance(20 * 24 * HOUR)
    receiver.misbehave(Fault.STATUS, times=None, status=500)
    change(hub, "C-2", "C-3")
    send_webhooks(hub, one)
    forget_old_webhooks(hub)
    assert len(operations.messages(one, None, 10)) == 3
    clock.advance(11 * 24 * HOUR)
    forget_old_webhooks(hub)
    assert {row["key"] for row in operations.messages(one, None, 10)} == {"C-2", "C-3"}
    assert len(operations.attempts(one, 10)) == 2
    clock.advance(90 * 24 * HOUR)
    forget_old_webhooks(hub)
    assert {row["state"] for row in operations.messages(one, None, 10)} == {"pending"}
    assert operations.attempts(one, 10) == []


def test_metrics_tell_of_tries_and_of_the_oldest_unsent(
    hub: Hub, receiver: Receiver, clock: FakeClock
) -> None:
    one = subscribe(hub, receiver)
    change(hub, "C-1")
    send_webhooks(hub, one)
    receiver.misbehave(Fault.STATUS, times=None, status=500)
    change(hub, "C-2")
    send_webhooks(hub, one)
    clock.advance(77)
    lines = prometheus_text(hub).splitlines()
    assert f'hub_webhook_tries_total{{subscription="{one}",outcome="sent"}} 1' in lines
    assert f'hub_webhook_tries_total{{subscription="{one}",outcome="failed"}} 1' in lines
    assert f'hub_webhook_unsent_count{{subscription="{one}"}} 1' in lines
    assert f'hub_webhook_oldest_unsent_seconds{{subscription="{one}"}} 77' in lines
    assert 'hub_subscriptions_count{state="active"} 1' in lines


def test_old_messages_are_looked_for_at_the_first_sweep_and_then_once_an_hour(
    hub: Hub, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[float] = []
    monkeypatch.setattr(
        "hub.engine.sweep.forget_old_webhooks", lambda _: looked.append(clock.monotonic())
    )
    sweeper = Sweeper(hub)
    began = clock.monotonic()
    for _ in range(800):  # two hours and a bit
        sweeper._forget_webhooks()
        clock.advance(10)
    assert [at - began for at in looked] == [0, HOUR, 2 * HOUR]
