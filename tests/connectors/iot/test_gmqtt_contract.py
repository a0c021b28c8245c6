"""What the broker client takes for granted of gmqtt, private calls included."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import gmqtt

from connectors.iot.broker.account import Account
from connectors.iot.broker.link import Incoming, Link
from tests.connectors.iot.brokers import FakeBroker, until


def test_the_private_calls_have_the_shapes_we_use() -> None:
    client = gmqtt.Client("x", optimistic_acknowledgement=False)
    handler = client._package_handler
    assert handler._optimistic_acknowledgement is False
    taken = inspect.signature(handler._handle_qos_1_publish_packet)
    assert list(taken.parameters) == ["mid", "packet", "print_topic", "properties"]
    assert next(iter(inspect.signature(handler._send_puback).parameters)) == "mid"
    assert client._connection is None
    assert inspect.iscoroutinefunction(gmqtt.Client.reconnect)


def test_a_message_of_qos_1_comes_through_our_handler_and_is_acknowledged_by_hand() -> None:
    async def scene() -> None:
        broker = FakeBroker()
        url = await broker.start()
        taken: list[Incoming] = []
        release: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(message: Incoming) -> Any:
            taken.append(message)
            return release

        link = Link(Account("127.0.0.1", int(url.rpartition(":")[2])), "hub-0", take)
        await link.open()
        broker.publish(300, "a/b", b"x")
        await until(lambda: taken)
        await asyncio.sleep(0.1)
        assert taken == [Incoming("a/b", b"x", 1, False)]
        assert broker.acknowledged == []
        release.set_result(None)
        await until(lambda: broker.acknowledged == [300])
        assert link._transport() is not None
        link._pause(paused=True)
        broker.publish(301, "a/b", b"y")
        await asyncio.sleep(0.1)
        assert len(taken) == 1, "reading can be paused"
        link._pause(paused=False)
        await until(lambda: len(taken) == 2)
        await link.close()
        await broker.stop()

    asyncio.run(scene())


def test_the_session_is_asked_for_as_it_has_to_be() -> None:
    async def scene() -> bytes:
        broker = FakeBroker()
        url = await broker.start()
        link = Link(Account("127.0.0.1", int(url.rpartition(":")[2])), "hub-0", lambda _: None)
        await link.open()
        await link.close()
        await broker.stop()
        return broker.connects[0]

    connect = asyncio.run(scene())
    assert connect[:7] == b"\0\4MQTT\5", "MQTT 5"
    assert connect[7] & 0x02 == 0, "no clean start"
    assert b"\x11" + (7 * 86_400).to_bytes(4, "big") in connect, "the session stays"
    assert b"\x21" + (2000).to_bytes(2, "big") in connect, "receive maximum"
