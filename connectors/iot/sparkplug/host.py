"""The hub as a Sparkplug host application, on one session of a broker."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from connectors.iot.broker.filters import identifier_of
from connectors.iot.broker.keeping import Surely, leave
from connectors.iot.broker.link import Incoming, Link, Subscription, Will
from connectors.iot.sparkplug.birth_files import BirthFiles, NodeName
from connectors.iot.sparkplug.payload import Malformed
from connectors.iot.sparkplug.state import Count, EdgeNode, Effect, Keep, Rebirth, Refuse, Save
from connectors.iot.sparkplug.wire import (
    NAMESPACE,
    Place,
    arrival_of,
    body_of,
    details_of,
    place_of,
    rebirth_body,
)
from hub.sdk.errors import TransientError
from hub.sdk.telemetry import Message, Port, Refused, Sender
from hub.sdk.telemetry_source import Sparkplug

FORMAT = "iot.sparkplug"
_TICK = 0.25
_SAVE_EVERY = 1.0
_REBIRTHS_PER_TICK = 50

_log = logging.getLogger("connectors.iot.sparkplug")


class SparkplugHost:
    """Takes the messages of all edge nodes, keeps them with their names, asks for rebirths."""

    def __init__(self, port: Port, source: str, settings: Sparkplug, folder: Path) -> None:
        self._port = port
        self._source = source
        self._settings = settings
        self._files = BirthFiles(folder)
        self._nodes: dict[NodeName, EdgeNode] = {}
        self._unsaved: set[NodeName] = set()
        self._rebirths: deque[NodeName] = deque()
        self._keeping: asyncio.Queue[tuple[Awaitable[None], asyncio.Future[None]]] = asyncio.Queue()
        self._link: Link | None = None
        self._since = 0
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ---

    async def start(self) -> None:
        """Remember the births of before."""
        remembered = await asyncio.to_thread(self._files.read)
        for name, saved in remembered.items():
            try:
                self._node(name).restore(saved)
            except (ValueError, TypeError, KeyError, AttributeError):
                _log.warning("births of %s/%s cannot be read; asking for a rebirth", *name)
        self._tasks = [
            asyncio.create_task(task()) for task in (self._keep_in_order, self._ticks, self._saves)
        ]

    async def stop(self) -> None:
        """Say goodbye and finish what is begun; called while the session still stands."""
        link, self._link = self._link, None  # or we would answer our own farewell
        if link is not None and self._settings.primary_host and not link.ended.done():
            self._publish_state(link, online=False)
            await link.published()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []
        while not self._keeping.empty():
            kept, done = self._keeping.get_nowait()
            leave(kept)
            done.cancel()
        await self._save()

    def subscriptions(self) -> list[Subscription]:
        """The groups, and the states of hosts when we are one."""
        patterns = [f"{NAMESPACE}/{group}/#" for group in self._settings.groups]
        if self._settings.primary_host:
            patterns += self._state_topics()
        return [
            Subscription(one, identifier_of(one), no_local=one.endswith("#")) for one in patterns
        ]

    def will(self) -> Will | None:
        """The will of the next connection: offline, with the time we came online."""
        if not self._settings.primary_host:
            return None
        self._since = self._port.now_ms()
        return Will(self._state_topics()[0], self._state(online=False)[0])

    async def up(self, link: Link) -> None:
        """Subscribed: tell the nodes, and ask those whose births may be out of date."""
        self._link = link
        if self._settings.primary_host:
            self._publish_state(link, online=True)
        now = time.monotonic()
        for name, node in list(self._nodes.items()):
            self._carry_out(name, None, node.lost_touch(now))

    def status(self) -> dict[str, Any]:
        """For the operating view."""
        return {
            "nodes": len(self._nodes),
            "online": sum(node.born for node in self._nodes.values()),
            "waiting": sum(node.waiting for node in self._nodes.values()),
        }

    # --- messages ---

    def take(self, message: Incoming) -> Awaitable[object] | None:
        """See `connectors.iot.broker.link.Take`. Never raises: Sparkplug is not sent twice."""
        if message.topic in self._state_topics():
            self._heard_state(message)
            return None
        place = place_of(message.topic)
        if place is None or message.retained:
            self._count("retained" if place else "ignored")
            return None
        received_at = self._port.now_ms()
        try:
            arrival = arrival_of(place, message.body, received_at)
        except Malformed as error:
            refused = Refused(-1, error.code, error.detail)
            return self._refuse(place, message.body, received_at, refused)
        self._count("received")
        name = NodeName(place.group, place.edge)
        return self._carry_out(name, message, self._node(name).on(arrival, time.monotonic()))

    def _carry_out(
        self, name: NodeName, message: Incoming | None, effects: list[Effect]
    ) -> Awaitable[object] | None:
        """Do what the state machine says; the last thing that a message waits for."""
        last: Awaitable[object] | None = None
        for effect in effects:
            if isinstance(effect, Keep):
                last = self._keep(name, effect)
            elif isinstance(effect, Refuse):
                _, body, received_at = effect.arrival.raw
                place = Place(name.group, effect.arrival.kind, name.edge, effect.arrival.device)
                refused = Refused(-1, "no_birth", effect.detail)
                last = self._refuse(place, body, received_at, refused)
            elif isinstance(effect, Rebirth):
                self._rebirths.append(name)
            elif isinstance(effect, Count):
                self._count(effect.outcome, effect.number)
            elif isinstance(effect, Save):
                self._unsaved.add(name)
        return last if message is not None else None

    def _keep(self, name: NodeName, keep: Keep) -> Awaitable[object]:
        arrival = keep.arrival
        place = Place(name.group, arrival.kind, name.edge, arrival.device)
        received_at = arrival.raw[2]
        try:
            body = body_of(keep)
        except Malformed as error:
            refused = Refused(-1, error.code, error.detail)
            return self._refuse(place, arrival.raw[1], received_at, refused)
        message = self._message(place, body, received_at, details_of(place, keep.devices))
        return self._in_turn(Surely(self._port, message))

    def _refuse(
        self, place: Place, body: bytes, received_at: int, refused: Refused
    ) -> Awaitable[object]:
        message = self._message(place, body, received_at, details_of(place))
        self._count("refused")
        return self._in_turn(self._refuse_surely(message, refused))

    async def _refuse_surely(self, message: Message, refused: Refused) -> None:
        while True:
            try:
                await self._port.refuse(message, [refused])
            except TransientError:
                await asyncio.sleep(1)
            else:
                return

    def _message(
        self, place: Place, body: bytes, received_at: int, details: dict[str, str]
    ) -> Message:
        sender = Sender(self._source, "", gateway=True)
        return Message(sender, FORMAT, body, received_at, details)

    def _in_turn(self, kept: Any) -> Awaitable[object]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keeping.put_nowait((kept, done))
        return done

    async def _keep_in_order(self) -> None:
        while True:
            kept, done = await self._keeping.get()
            await kept
            if not done.done():
                done.set_result(None)

    # --- time ---

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            for name, node in list(self._nodes.items()):
                if node.busy:
                    self._carry_out(name, None, node.tick(now))
                elif not node.born and name not in self._unsaved and node.idle(now):
                    del self._nodes[name]
            self._send_rebirths()

    def _send_rebirths(self) -> None:
        """A few at a time: a thousand nodes born in one moment would be a storm."""
        for _ in range(min(_REBIRTHS_PER_TICK, len(self._rebirths))):
            if self._link is None or self._link.ended.done():
                return
            group, edge = self._rebirths.popleft()
            self._link.publish(
                f"{NAMESPACE}/{group}/NCMD/{edge}", rebirth_body(self._port.now_ms())
            )

    async def _saves(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_EVERY)
            await self._save()

    async def _save(self) -> None:
        names, self._unsaved = self._unsaved, set()
        changed = {
            name: node.saved() for name in names if (node := self._nodes.get(name)) is not None
        }
        if not changed:
            return
        try:
            await asyncio.to_thread(self._files.write, changed)
        except OSError as error:
            self._unsaved |= names
            self._count("births_unsaved")
            _log.warning("births cannot be saved: %s", error)

    def _node(self, name: NodeName) -> EdgeNode:
        node = self._nodes.get(name)
        if node is None:
            settings = self._settings
            node = EdgeNode(reorder=settings.reorder, commands=settings.commands)
            self._nodes[name] = node
        return node

    # --- our own state ---

    def _state_topics(self) -> list[str]:
        """Of version 3.0 and of 2.2."""
        host = self._settings.primary_host
        return [f"{NAMESPACE}/STATE/{host}", f"STATE/{host}"] if host else []

    def _state(self, *, online: bool) -> tuple[bytes, bytes]:
        new = json.dumps({"online": online, "timestamp": self._since}, separators=(",", ":"))
        return new.encode(), b"ONLINE" if online else b"OFFLINE"

    def _publish_state(self, link: Link, *, online: bool) -> None:
        for topic, body in zip(self._state_topics(), self._state(online=online), strict=True):
            link.publish(topic, body, qos=1, retain=True)

    def _heard_state(self, message: Incoming) -> None:
        """Somebody (an older connection's will, another host) says that we are away: we are not."""
        if self._link is None or self._link.ended.done() or _says_online(message.body):
            return
        self._count("state_answered")
        self._publish_state(self._link, online=True)

    def _count(self, outcome: str, number: int = 1) -> None:
        self._port.count("sparkplug", outcome, number)


def _says_online(body: bytes) -> bool:
    """Text of 2.2 or JSON of 3.0; what is neither is left alone."""
    text = body.decode("utf-8", "replace").strip()
    if text in ("ONLINE", "OFFLINE"):
        return text == "ONLINE"
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError):
        return True
    return not (isinstance(loaded, dict) and loaded.get("online") is False)
