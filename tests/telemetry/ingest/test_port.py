"""The hub, as faces see it: who sends, what became of it, what is known."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from hub.sdk.errors import HubError, TransientError
from hub.sdk.telemetry import Counts, Message, Receipt, Refused, Sender
from hub.sdk.telemetry_source import TelemetrySource
from hub.store.database import Store
from hub.store.group_commit import Limits
from hub.store.rows import encode_json
from hub.store.tables.telemetry import device, telemetry_message
from hub.store.telemetry.credentials import add_certificate, add_password, add_token, revoke
from hub.store.telemetry.outcomes import Outcome, add_outcomes
from hub.store.telemetry.positions import advance, part_name
from hub.telemetry import counting, senders
from hub.telemetry.ingest import Ingest, part_of
from hub.telemetry.port import HubPort
from hub.telemetry.senders import Recent
from tests.telemetry.ingest.rig import messages

PUMP = Sender("iot", "pump-7")
GATEWAY = Sender("plant", "gw-1", gateway=True)
SOURCES = {"plant": TelemetrySource(source="plant", tenant="acme")}


@pytest.fixture
def port(store: Store) -> Iterator[HubPort]:
    opened = HubPort(lambda: store, lambda: store, SOURCES, parts=4, keep_hours=1)
    yield opened
    opened.close()


def message(body: bytes = b"{}", sender: Sender = PUMP, **how: Any) -> Message:
    return Message(sender, "iot.readings", body, 1_800_000_000_000, **how)


# --- who --------------------------------------------------------------------------------------


def test_tokens_passwords_and_certificates_lead_to_their_senders(
    store: Store, port: HubPort
) -> None:
    with store.transaction() as connection:
        add_token(connection, "t-1", PUMP, 1)
        add_password(connection, "gw", "secret", GATEWAY, 1)
        add_certificate(connection, "aa" * 32, PUMP, 1)

    async def ask() -> list[Sender | None]:
        return [
            await port.admit_token("t-1"),
            await port.admit_token("t-2"),
            await port.admit_password("gw", "secret"),
            await port.admit_password("gw", "secret "),
            await port.admit_password("nobody", "secret"),
            await port.admit_certificate("AA" * 32),
            await port.admit_certificate("bb"),
        ]

    assert asyncio.run(ask()) == [PUMP, None, GATEWAY, None, None, PUMP, None]


def test_a_revoked_token_is_refused_after_some_seconds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "KNOWN_SECONDS", 0.2)
    port = HubPort(lambda: store, lambda: store, {}, parts=1, keep_hours=1)
    with store.transaction() as connection:
        mine = add_token(connection, "t-1", PUMP, 1)
    assert asyncio.run(port.admit_token("t-1")) == PUMP
    with store.transaction() as connection:
        revoke(connection, mine, 2)
    assert asyncio.run(port.admit_token("t-1")) == PUMP
    time.sleep(0.25)
    assert asyncio.run(port.admit_token("t-1")) is None
    port.close()


def test_known_senders_cost_no_look_and_guesses_no_memory(
    store: Store, port: HubPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port._senders, "_unknown", Recent(50, 10))
    with store.transaction() as connection:
        add_token(connection, "t-1", PUMP, 1)
    asked: list[str] = []
    sa.event.listen(store.engine, "before_cursor_execute", lambda *a: asked.append(a[2]))

    async def guess() -> None:
        await port.admit_token("t-1")
        for at in range(200):
            assert await port.admit_token(f"guess-{at}") is None
        before = len(asked)
        for _ in range(100):
            assert await port.admit_token("t-1") == PUMP
            assert await port.admit_token("guess-199") is None
        assert len(asked) == before

    asyncio.run(guess())
    assert len(port._senders._unknown._known) == 50


def test_a_password_that_was_verified_is_not_hashed_again(
    store: Store, port: HubPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.transaction() as connection:
        mine = add_password(connection, "gw", "secret", GATEWAY, 1)
    assert asyncio.run(port.admit_password("gw", "secret")) == GATEWAY
    monkeypatch.setattr(senders, "verify_password", lambda *_: pytest.fail("hashed again"))
    port._senders.forget()
    assert asyncio.run(port.admit_password("gw", "secret")) == GATEWAY
    with store.transaction() as connection:
        revoke(connection, mine, 2)
    port._senders.forget()
    monkeypatch.setattr(senders, "verify_password", lambda *_: False)
    assert asyncio.run(port.admit_password("gw", "secret")) is None


def test_whoever_guesses_passwords_does_not_hold_up_those_that_are_known(
    store: Store, port: HubPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.transaction() as connection:
        add_password(connection, "gw", "secret", GATEWAY, 1)

    async def scene() -> None:
        assert await port.admit_password("gw", "secret") == GATEWAY
        port._senders.forget()
        gate = threading.Event()
        monkeypatch.setattr(senders, "verify_password", lambda *_: gate.wait(20) and False)
        guesses = [asyncio.ensure_future(port.admit_password("gw", str(at))) for at in range(300)]
        async with asyncio.timeout(10):
            assert await port.admit_password("gw", "secret") == GATEWAY
        gate.set()
        ended = await asyncio.gather(*guesses, return_exceptions=True)
        assert {type(one) for one in ended} <= {type(None), TransientError}

    asyncio.run(scene())


def test_a_revoked_credential_is_told_once(store: Store, port: HubPort) -> None:
    with store.transaction() as connection:
        mine = add_token(connection, "t-1", PUMP, 1)
        earlier = add_token(connection, "t-0", GATEWAY, 1)
        revoke(connection, earlier, port.now_ms())

    async def scene() -> None:
        assert await port.revoked() == []
        assert await port.admit_token("t-1") == PUMP
        with store.transaction() as connection:
            revoke(connection, mine, port.now_ms())
        assert await port.revoked() == [PUMP]
        assert await port.revoked() == []
        assert await port.admit_token("t-1") is None

    asyncio.run(scene())


def test_while_the_store_is_away_nobody_is_called_unknown() -> None:
    def away() -> Store:
        raise sa.exc.OperationalError("connect", {}, Exception("away"))

    port = HubPort(away, away, {}, parts=1, keep_hours=1)
    with pytest.raises(TransientError) as refused:
        asyncio.run(port.admit_token("t"))
    assert refused.value.code == "telemetry.store"
    port.close()


# --- messages ---------------------------------------------------------------------------------


def test_messages_of_one_sender_are_kept_in_the_order_of_the_calls(
    store: Store, port: HubPort
) -> None:
    async def keep() -> list[Receipt]:
        futures = [
            port.keep(message(f"{at}".encode(), Sender("iot", f"d{at % 7}"))) for at in range(500)
        ]
        return list(await asyncio.gather(*futures))

    receipts = asyncio.run(keep())
    kept = messages(store)
    for number in range(7):
        mine = [int(one.body) for one in kept if one.sender == f"d{number}"]
        assert mine == sorted(mine)
    assert {(one.part, one.seq) for one in kept} == {(one.part, one.seq) for one in receipts}
    assert all(one.part == part_of("iot", one.sender, 4) for one in kept)


def test_callers_on_several_loops_are_all_told(store: Store, port: HubPort) -> None:
    told: list[int] = []

    def run(number: int) -> None:
        async def keep() -> None:
            for at in range(20):
                receipt = await port.keep(message(f"{number}-{at}".encode()))
                told.append(receipt.seq)

        asyncio.run(keep())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(told) == list(range(1, 81))


def test_a_key_belongs_to_its_sender(store: Store, port: HubPort) -> None:
    other = Sender("iot", "pump-8")
    odd = "\0" * 400 + "\ud800"

    async def keep() -> list[bool]:
        given = [message(key="k"), message(key="k", sender=other), message(key="k")]
        given += [message(key=odd), message(key=odd)]
        return [(await port.keep(one)).duplicate for one in given]

    assert asyncio.run(keep()) == [False, False, True, False, True]


def test_a_full_queue_refuses_at_once_and_takes_again_when_there_is_room(store: Store) -> None:
    ingest = Ingest(lambda: store, 1, limits=Limits(10, 10_000))

    codes: set[tuple[str, float | None]] = set()

    async def flood() -> tuple[int, int]:
        futures, refused = [], 0
        for _ in range(200):
            try:
                futures.append(ingest.keep(message(b"x" * 1000)))
            except TransientError as error:
                codes.add((error.code, error.retry_after))
                refused += 1
        await asyncio.gather(*futures)
        await ingest.keep(message(b"after"))
        return len(futures), refused

    taken, refused = asyncio.run(flood())
    assert taken + refused == 200
    assert codes == {("telemetry.overload", 1.0)}
    assert len(messages(store)) == taken + 1
    assert ingest.room() == 1.0
    ingest.close()
    with pytest.raises(TransientError):
        asyncio.run(flood())


def test_what_waits_when_the_port_closes_is_kept(store: Store, port: HubPort) -> None:
    async def keep() -> list[Receipt]:
        futures = [port.keep(message()) for _ in range(300)]
        port.close()
        return list(await asyncio.gather(*futures))

    assert len(asyncio.run(keep())) == 300
    assert len(messages(store)) == 300


def test_a_message_nobody_can_read_is_kept_with_the_reason(store: Store, port: HubPort) -> None:
    refused = [Refused(-1, "malformed", "no JSON"), Refused(3, "name", "", "d", "m")]
    asyncio.run(port.refuse(message(b"\xff", details={"topic": "x"}), refused))
    (kept,) = messages(store)
    listed = '[[-1,"malformed","no JSON","",""],[3,"name","","d","m"]]'
    why = encode_json({"format": "iot.readings", "refused": listed})
    assert (kept.format, kept.body, kept.details) == ("refused", b"\xff", why.decode())


def test_a_store_that_cannot_be_opened_is_an_outage() -> None:
    def away() -> Store:
        raise HubError("store.unreachable", url="x", reason="y")

    ingest = Ingest(away, 1)

    async def keep() -> None:
        await ingest.keep(message())

    with pytest.raises(TransientError) as refused:
        asyncio.run(keep())
    assert refused.value.code == "telemetry.store"
    ingest.close()


# --- counts -----------------------------------------------------------------------------------


def project(store: Store, receipt: Receipt, accepted: int, position: int | None = None) -> None:
    with store.transaction() as connection:
        add_outcomes(connection, [Outcome(receipt.part, receipt.seq, accepted, 1, 2, 3, 1)])
        advance(connection, part_name(receipt.part), position or receipt.seq, int(time.time()))


def test_all_who_wait_for_counts_get_theirs(store: Store, port: HubPort) -> None:
    receipts = [Receipt(at, False, at % 3) for at in range(1, 31)]

    async def ask() -> list[Counts | None]:
        loop = asyncio.get_running_loop()
        asking = asyncio.gather(*(port.counts(one, 10) for one in receipts))
        for one in receipts:
            await loop.run_in_executor(None, project, store, one, one.seq)
        return await asking

    assert asyncio.run(ask()) == [Counts(one.seq, 1, 2, 3) for one in receipts]


def test_nobody_waits_for_a_projector_that_is_far_behind_or_stands_still(
    store: Store, port: HubPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "_STALLED_SECONDS", 0.4)

    async def ask(receipt: Receipt, seconds: float) -> tuple[Counts | None, float]:
        began = time.monotonic()
        return await port.counts(receipt, seconds), time.monotonic() - began

    project(store, Receipt(1, False), 5)
    assert asyncio.run(ask(Receipt(1, False), 10))[0] == Counts(5, 1, 2, 3)
    found, seconds = asyncio.run(ask(Receipt(100_000, False), 10))
    assert found is None
    assert seconds < 0.3
    found, seconds = asyncio.run(ask(Receipt(2, False), 10))
    assert found is None
    assert seconds < 5
    found, seconds = asyncio.run(ask(Receipt(3, False), 10))
    assert found is None
    assert seconds < 0.3
    found, seconds = asyncio.run(ask(Receipt(2, False), 0.05))
    assert found is None


def test_a_message_whose_counts_are_gone_is_not_waited_for(store: Store, port: HubPort) -> None:
    with store.transaction() as connection:
        advance(connection, part_name(0), 50, 1)
    began = time.monotonic()
    assert asyncio.run(port.counts(Receipt(7, True), 10)) is None
    assert time.monotonic() - began < 3


# --- what is known ----------------------------------------------------------------------------


def test_attributes_are_those_of_the_sender_or_of_its_own_devices(
    store: Store, port: HubPort
) -> None:
    with store.transaction() as connection:
        for gateway, name, client, shared in [
            ("", "gw-1", {"fw": "1"}, {"rate": 5}),
            ("gw-1", "pump", {"fw": "2", "sn": "x"}, {}),
            ("gw-2", "pump", {"fw": "3"}, {"rate": 9}),
            ("gw-1", "K\u00fchler", {"fw": "4"}, {}),
        ]:
            row = {"tenant": "acme", "gateway": gateway, "name": name, "source": "plant"}
            row["state"] = "active"
            row["client_attributes"] = encode_json(client).decode()
            row["shared_attributes"] = encode_json(shared).decode()
            connection.execute(device.insert().values(created_at=1, **row))

    async def ask() -> list[dict[str, Any]]:
        return [
            await port.attributes(GATEWAY, "", None),
            await port.attributes(GATEWAY, "pump", ["sn", "none"]),
            await port.shared_attributes(GATEWAY, "gw-1", ["rate"]),
            await port.shared_attributes(GATEWAY, "pump", None),
            await port.attributes(GATEWAY, "unknown", None),
            await port.attributes(Sender("plant", "gw-1"), "pump", None),
            # Another spelling of the name under which its readings are kept.
            await port.attributes(GATEWAY, " Ku\u0308hler", None),
        ]

    assert asyncio.run(ask()) == [{"fw": "1"}, {"sn": "x"}, {"rate": 5}, {}, {}, {}, {"fw": "4"}]


def test_a_source_that_is_declared_no_more_has_the_defaults(port: HubPort) -> None:
    assert port.source("plant").tenant == "acme"
    assert port.source("gone").tenant == "default"
    port.count("mqtt", "seq_gap", 2)
    assert port.counted["mqtt", "seq_gap"] == 2


# --- trimming ---------------------------------------------------------------------------------


def test_projected_messages_go_after_their_hours_and_keys_after_two_days(store: Store) -> None:
    now = 1_800_000_000_000 + 90 * 60_000
    port = HubPort(lambda: store, lambda: store, {}, parts=1, keep_hours=1, now_ms=lambda: now)

    async def burst() -> None:
        await asyncio.gather(*(port.keep(message(f"{at}".encode())) for at in range(1200)))

    asyncio.run(burst())
    with store.transaction() as connection:
        advance(connection, part_name(0), 1100, 1)
        young = telemetry_message.c.seq > 1050
        connection.execute(telemetry_message.update().where(young).values(received_at=now))
    assert port.trimmer.trim_once() == 1050
    assert [one.seq for one in messages(store)] == list(range(1051, 1201))
    assert port.trimmer.trim_once() == 0
    assert port.trimmer.make_room()
    assert [one.seq for one in messages(store)] == list(range(1101, 1201))
    assert not port.trimmer.make_room()
    port.close()
