"""The broker client against a broker that does what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest

from connectors.iot.broker.account import account_of
from hub.sdk.errors import ConfigError, TransientError
from hub.sdk.telemetry import Message, Receipt
from hub.sdk.testing.telemetry import MemoryPort
from tests.connectors.iot.brokers import FakeBroker, hub, source, until

TOPICS = {"client_id": "hub", "topics": [{"filter": "a/{device}", "format": "readings"}]}


class SlowPort(MemoryPort):
    """Each message is committed when the test says so; `futures` in the order of arrival."""

    def __init__(self) -> None:
        super().__init__([source(TOPICS)])
        self.futures: list[asyncio.Future[Receipt]] = []

    def keep(self, message: Message) -> Awaitable[Receipt]:
        if self.trouble is not None:
            raise self.trouble
        self.kept.append(message)
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        return future


def test_messages_are_acknowledged_in_order_and_only_once_they_are_safe(tmp_path: Path) -> None:
    async def scene() -> None:
        broker, port = FakeBroker(), SlowPort()
        async with hub(port, await broker.start(), tmp_path):
            for mid in (1, 2, 3):
                broker.publish(mid, "a/x", b"{}")
            await until(lambda: len(port.futures) == 3)
            port.futures[1].set_result(Receipt(2, False))
            port.futures[2].set_result(Receipt(3, False))
            await asyncio.sleep(0.1)
            assert broker.acknowledged == []
            port.futures[0].set_result(Receipt(1, False))
            await until(lambda: broker.acknowledged == [1, 2, 3])
        await broker.stop()

    asyncio.run(scene())


def test_a_failed_write_ends_the_connection_and_nothing_after_it_is_acknowledged(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        broker, port = FakeBroker(), SlowPort()
        async with hub(port, await broker.start(), tmp_path) as (listener,):
            for mid in (1, 2, 3):
                broker.publish(mid, "a/x", b"{}")
            await until(lambda: len(port.futures) == 3)
            port.futures[2].set_result(Receipt(3, False))
            port.futures[0].set_result(Receipt(1, False))
            port.futures[1].set_exception(TransientError("telemetry.store"))
            await until(lambda: len(broker.connects) == 2)
            assert broker.acknowledged == [1]
            await until(lambda: listener.status()["sessions"][0]["connected"])
            assert listener.status()["sessions"][0]["reconnects"] == 1
        await broker.stop()

    asyncio.run(scene())


def test_an_acknowledgement_never_reaches_a_later_connection(tmp_path: Path) -> None:
    async def scene() -> None:
        broker, port = FakeBroker(), SlowPort()
        async with hub(port, await broker.start(), tmp_path):
            broker.publish(1, "a/x", b"{}")
            await until(lambda: port.futures)
            broker.connections[-1].close()
            await until(lambda: len(broker.subscribes) == 2)
            broker.publish(1, "a/other", b"{}")
            await until(lambda: len(port.futures) == 2)
            port.futures[0].set_result(Receipt(1, False))
            await asyncio.sleep(0.1)
            assert broker.acknowledged == [], "number 1 means another message now"
            port.futures[1].set_result(Receipt(2, False))
            await until(lambda: broker.acknowledged == [1])
        await broker.stop()

    asyncio.run(scene())


def test_a_message_without_room_waits_and_the_connection_stays(tmp_path: Path) -> None:
    async def scene() -> None:
        broker, port = FakeBroker(), SlowPort()
        async with hub(port, await broker.start(), tmp_path):
            port.trouble = TransientError("telemetry.overload")
            broker.publish(1, "a/x", b"{}")
            await until(lambda: port.counted["broker", "kept_late"])
            assert broker.acknowledged == []
            port.trouble = None
            await until(lambda: port.futures)
            port.futures[0].set_result(Receipt(1, False))
            await until(lambda: broker.acknowledged == [1])
            assert len(broker.connects) == 1
        await broker.stop()

    asyncio.run(scene())


def test_a_hub_that_cannot_keep_takes_nothing_and_acknowledges_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        broker, port = FakeBroker(), SlowPort()
        async with hub(port, await broker.start(), tmp_path):
            port.trouble = TransientError("telemetry.store")
            broker.publish(1, "a/x", b"{}")
            await until(lambda: len(broker.connects) >= 2)
            assert broker.acknowledged == []
            port.trouble = None
            await until(lambda: len(broker.subscribes) == len(broker.connects) >= 2)
            broker.publish(1, "a/x", b"{}")
            await until(lambda: port.futures)
            port.futures[0].set_result(Receipt(1, False))
            await until(lambda: broker.acknowledged == [1])
        await broker.stop()

    asyncio.run(scene())


def test_a_refusal_is_told_and_tried_again(tmp_path: Path) -> None:
    async def scene() -> None:
        broker, port = FakeBroker(), SlowPort()
        broker.refusal = 0x86
        url = await broker.start()
        with pytest.raises(pytest.fail.Exception):
            async with hub(port, url, tmp_path, patience=1):
                pass
        broker.refusal = 0
        async with hub(port, url, tmp_path):
            pass
        await broker.stop()

    asyncio.run(scene())


def test_nonsense_from_a_broker_is_survived(tmp_path: Path) -> None:
    async def scene() -> None:
        broker, port = FakeBroker(), SlowPort()
        async with hub(port, await broker.start(), tmp_path):
            broker.raw(b"\x32\x04\x00\x01a\x00")
            broker.raw(b"\xff\xff\xff\xff\xff\xff")
            broker.connections[-1].close()
            await until(lambda: len(broker.subscribes) == 2)
            broker.publish(9, "a/x", b"{}")
            await until(lambda: port.futures)
            port.futures[0].set_result(Receipt(1, False))
            await until(lambda: broker.acknowledged == [9])
        await broker.stop()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"url": "http://x"}, "telemetry.broker_url"),
        ({"url": "mqtt://"}, "telemetry.broker_url"),
        ({"url": "mqtt://x:y"}, "telemetry.broker_url"),
        ({"url": "mqtts://x", "ca": "none.pem"}, "telemetry.broker_tls"),
    ],
)
def test_a_wrong_account_is_told(config: dict[str, str], code: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        account_of("site", config, tmp_path)
    assert raised.value.code == code


def test_a_source_whose_connection_is_missing_is_told(tmp_path: Path) -> None:
    async def scene() -> None:
        port = MemoryPort([source({**TOPICS, "connection": "other"})])
        async with hub(port, "mqtt://x", tmp_path):
            pass

    with pytest.raises(ConfigError) as raised:
        asyncio.run(scene())
    assert raised.value.code == "telemetry.broker_connection"
