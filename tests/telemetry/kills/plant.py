"""A hub, a broker, and a sender for every protocol at work at the same time."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from connectors.iot.sparkplug.payload import parse_payload
from hub.store.database import Store
from hub.store.tables.telemetry import quarantine, telemetry_message
from tests.connectors.iot.brokers import mosquitto
from tests.telemetry.kills.broker_senders import BrokerSender, EdgeNode
from tests.telemetry.kills.journal import (
    Backlog,
    Found,
    Journal,
    integrity,
    wait_projected,
)
from tests.telemetry.kills.mqtt_senders import GatewaySender, MqttSender
from tests.telemetry.kills.senders import (
    HttpSender,
    Sender,
    cloud_events,
    influx_1,
    influx_2,
    plain,
    thingsboard,
)
from tests.telemetry.kills.served import KillableHub

_PROGRESS_SECONDS = 40.0
_SETTLE_SECONDS = 40.0
_UNLIMITED = "max_queued_messages 0"
HTTP = {
    "thingsboard": thingsboard,
    "readings": plain,
    "events": cloud_events,
    "influx1": influx_1,
    "influx2": influx_2,
}


class Crowd(NamedTuple):
    """Senders of each HTTP face and each version of MQTT; the messages that are sent without an
    acknowledgement; the seconds between two."""

    http: int
    mqtt: int
    window: int
    broker: int
    pause: float


ONE_OF_EACH = Crowd(1, 1, 20, 1, 0.002)
_SIZES = {"readings": 20}
"""Readings of a request: the answer of some waits for the projector."""


class Plant:
    """`senders` by protocol; `hub` runs."""

    def __init__(self, hub: KillableHub, senders: Sequence[Sender]) -> None:
        self.hub = hub
        self.senders = list(senders)
        self.backlogs: list[int] = []
        """How many readings the gateway had taken while the hub was away."""

    def begin(self) -> None:
        for one in self.senders:
            one.start()

    def progress(self, least: int = 30) -> None:
        """Until every sender has had so many readings more acknowledged."""
        before = {one: one.kept for one in self.senders}
        until = time.monotonic() + _PROGRESS_SECONDS
        slow = self.senders
        while slow := [one for one in slow if one.kept < before[one] + least]:
            for one in slow:
                one.check()
            said = [(one.name, one.kept - before[one], dict(one.answers)) for one in slow]
            assert time.monotonic() < until, f"no progress: {said}\n{self.hub.last_words()}"
            time.sleep(0.02)

    def kill(self, chance: random.Random) -> None:
        """SIGKILL in mid-stream, and another start after a while."""
        self.progress()
        time.sleep(chance.uniform(0.0, 0.4))
        self.hub.kill()
        for node in self.edges():
            node.forget_demands()
        time.sleep(chance.uniform(0.0, 0.3))
        self.hub.start()
        for node in self.edges():
            node.await_rebirth(20)

    def edges(self) -> list[EdgeNode]:
        return [one for one in self.senders if isinstance(one, EdgeNode)]

    def finish(self) -> dict[str, Found]:
        """Everything acknowledged, kept and projected; what was found of each sender."""
        for node in self.edges():
            node.sure.set()
        self.progress()
        for one in self.senders:
            one.last.set()
        for one in self.senders:
            one.finish()
        return self.compare()

    def compare(self) -> dict[str, Found]:
        """Senders' journals and the stores, once nothing moves any more."""
        until = time.monotonic() + _SETTLE_SECONDS
        with self.hub.readings() as readings, self.hub.inbox() as inbox:
            while True:
                for node in self.edges():  # what the hub kept must be there, asked for or not
                    node.journal.acknowledged |= _in_the_inbox(inbox)
                wait_projected(readings, inbox)
                found = {one.journal.name: one.journal.compare(readings) for one in self.senders}
                if time.monotonic() > until or all(one.is_right for one in found.values()):
                    break
                time.sleep(0.2)
            assert (integrity(readings), integrity(inbox)) == ("ok", "ok")
            assert _refused(readings) == []
        return found


def _refused(readings: Store) -> list[tuple[str, str, str]]:
    with readings.reading() as connection:
        query = sa.select(quarantine.c.device, quarantine.c.code, quarantine.c.detail)
        return [(one.device, one.code, one.detail) for one in connection.execute(query)][:10]


def _in_the_inbox(inbox: Store) -> set[int]:
    """Serial numbers in the Sparkplug messages that were kept."""
    query = sa.select(telemetry_message.c.body)
    with inbox.reading() as connection:
        bodies = connection.execute(query.where(telemetry_message.c.format == "iot.sparkplug"))
        metrics = [metric for (body,) in bodies for metric in parse_payload(body).metrics]
    return {int(one.double_value) for one in metrics if one.HasField("double_value")}


@contextmanager
def plant(
    folder: Path,
    store_url: str = "",
    *,
    more: Sequence[str] = (),
    module: str = "hub.cli",
    crowd: Crowd = ONE_OF_EACH,
) -> Iterator[Plant]:
    """Senders of every protocol; call `begin`. See `KillableHub` for the rest."""
    with ExitStack() as stack:
        broker = stack.enter_context(
            mosquitto(folder / "broker", "allow_anonymous true", _UNLIMITED)
        )
        hub = KillableHub(folder / "hub", store_url, more=more, module=module)
        stack.callback(hub.close)
        hub.connect_broker(broker.url)
        senders = _senders(hub, broker.url, crowd)
        hub.admit(*[one.journal.name for one in senders])
        hub.admit("gateway", gateway=True)
        hub.start()
        try:
            yield Plant(hub, senders)
        finally:
            for one in senders:
                one.given_up.set()
                one.last.set()


def _senders(hub: KillableHub, broker: str, crowd: Crowd) -> list[Sender]:
    found: list[Sender] = []
    window, pause = crowd.window, crowd.pause
    for number in range(crowd.http):
        for name, make in HTTP.items():
            journal, size = Journal(f"{name}-{number}"), _SIZES.get(name, 5)
            found.append(HttpSender(name, journal, hub.http_port, make, size, pause))
    for number in range(crowd.mqtt):
        for version in (4, 5):
            journal = Journal(f"mqtt{version}-{number}")
            made = MqttSender(journal, hub.mqtt_port, version, window=window, pause=pause)
            found.append(made)
    gateway = GatewaySender(Backlog("furnace"), hub.mqtt_port, 5, token="gateway")
    node = EdgeNode(Journal("line1/edge1"), broker)
    return [*found, gateway, BrokerSender(Journal("press"), broker, window=crowd.broker), node]
