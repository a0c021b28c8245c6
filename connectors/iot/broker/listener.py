"""The sessions of a source at its broker: one per slot, one for Sparkplug, and those to leave."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.iot.broker.account import Account, Accounts
from connectors.iot.broker.filters import parse_filter
from connectors.iot.broker.known import Key, KnownSessions
from connectors.iot.broker.leaving import Farewell
from connectors.iot.broker.link import Subscription, Take
from connectors.iot.broker.session import Session
from connectors.iot.broker.topics import Topics
from connectors.iot.sparkplug.host import SparkplugHost
from hub.sdk.telemetry import Listener, Port
from hub.sdk.telemetry_source import Broker, Sparkplug, TelemetrySource


def make_listeners(port: Port, settings: Mapping[str, Any]) -> list[Listener]:
    """One listener per source with a `broker`, and one that leaves sessions nobody wants."""
    folder = Path(settings["folder"])
    known = KnownSessions(folder / ".hub" / "broker-sessions.json")
    accounts = Accounts(settings["connections"], folder)
    sources: Mapping[str, TelemetrySource] = settings["sources"]
    found = [
        BrokerListener(port, source, source.broker, accounts, folder, known)
        for source in sources.values()
        if source.broker is not None
    ]
    wanted = {key for one in found for key in one.keys}
    unwanted = known.others(wanted)
    listeners: list[Listener] = list(found)
    if unwanted:
        listeners.append(Farewell(known, unwanted, accounts, lambda key: _reader(found, key)))
    return listeners


def _reader(listeners: Sequence[BrokerListener], key: Key) -> Take | None:
    """What reads the messages of a session that is being left."""
    same = [one for one in listeners if one.topics is not None and one.connection == key[0]]
    same.sort(key=lambda one: not key[1].startswith(f"{one.client_id}-"))
    return same[0].topics.take if same and same[0].topics else None


class BrokerListener:
    """See `hub.sdk.telemetry.Listener`."""

    def __init__(
        self,
        port: Port,
        source: TelemetrySource,
        broker: Broker,
        accounts: Accounts,
        folder: Path,
        known: KnownSessions,
    ) -> None:
        self.name = f"broker:{source.source}"
        self._port = port
        self._source = source
        self._broker = broker
        self._accounts = accounts
        self._folder = folder
        self._known = known
        self._sessions: list[Session] = []
        self._host: SparkplugHost | None = None
        self.connection = broker.connection
        self.client_id = broker.client_id
        self.topics: Topics | None = None

    @property
    def keys(self) -> list[Key]:
        """The sessions it holds: connection and client id."""
        broker = self._broker
        names = [f"{broker.client_id}-{slot}" for slot in range(broker.slots) if broker.topics]
        names += [f"{broker.client_id}-sparkplug"] if broker.sparkplug else []
        return [(broker.connection, name) for name in names]

    async def start(self) -> None:
        account = self._accounts.of(self.connection, self._source.source)
        self._sessions = self._slots(account)
        if (settings := self._broker.sparkplug) is not None:
            self._sessions.append(await self._sparkplug(account, settings))
        for session in self._sessions:
            await session.start()

    async def stop(self) -> None:
        if self._host is not None:
            await self._host.stop()
        await asyncio.gather(*(session.stop() for session in self._sessions))

    def status(self) -> dict[str, Any]:
        """For the operating view."""
        found: dict[str, Any] = {"sessions": [one.status() for one in self._sessions]}
        if self._host is not None:
            found["sparkplug"] = self._host.status()
        return found

    def _slots(self, account: Account) -> list[Session]:
        broker = self._broker
        if not broker.topics:
            return []
        self.topics = Topics(self._port, self._source, broker)
        subscriptions = self.topics.subscriptions()
        return [
            self._session(account, f"{broker.client_id}-{slot}", subscriptions, self.topics.take)
            for slot in range(broker.slots)
        ]

    async def _sparkplug(self, account: Account, settings: Sparkplug) -> Session:
        place = self._folder / ".hub" / "sparkplug" / self._source.source
        host = self._host = SparkplugHost(self._port, self._source.source, settings, place)
        subscriptions = host.subscriptions()
        for one in subscriptions:
            parse_filter(one.pattern, self._source.source)
        await host.start()
        client_id = f"{self._broker.client_id}-sparkplug"
        return self._session(account, client_id, subscriptions, host.take, host)

    def _session(
        self,
        account: Account,
        client_id: str,
        subscriptions: Sequence[Subscription],
        take: Take,
        host: SparkplugHost | None = None,
    ) -> Session:
        key = (self._broker.connection, client_id)
        patterns = tuple(one.pattern for one in subscriptions)
        former = self._known.begin(key, patterns)
        return Session(
            account,
            client_id,
            subscriptions,
            take,
            former=former,
            settled=lambda: self._known.settle(key, patterns),
            will=host.will if host else None,
            up=host.up if host else None,
        )
