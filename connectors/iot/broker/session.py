"""A client that stays: it connects again for as long as it lives, and knows what it asked for."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from connectors.iot.broker.account import Account
from connectors.iot.broker.link import Link, LinkFailed, Subscription, Take, Will

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
_STEADY = 10.0

_log = logging.getLogger("connectors.iot.broker")

Up = Callable[[Link], Awaitable[None]]


class Session:
    """One MQTT session of the broker, by its client id, held from `start` to `stop`.

    `former` holds patterns that an earlier start asked for and nobody wants any more, `settled` is
    called once they are undone. `will` makes the will of the next connection; `up` runs once
    subscribed.
    """

    def __init__(
        self,
        account: Account,
        client_id: str,
        subscriptions: Sequence[Subscription],
        take: Take,
        *,
        former: Sequence[str] = (),
        settled: Callable[[], None] | None = None,
        will: Callable[[], Will | None] | None = None,
        up: Up | None = None,
    ) -> None:
        self.client_id = client_id
        self.link: Link | None = None
        self._account = account
        self._subscriptions = subscriptions
        self._take = take
        self._former = list(former)
        self._settled = settled
        self._will = will
        self._up = up
        self._task: asyncio.Task[None] | None = None
        self._refused: list[str] = []
        self._trouble = ""
        self._reconnects = 0
        self._received = 0

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None

    def status(self) -> dict[str, Any]:
        """For the operating view."""
        link = self.link
        found: dict[str, Any] = {
            "client_id": self.client_id,
            "connected": link is not None,
            "reconnects": self._reconnects,
            "received": self._received + (link.received if link else 0),
            "waiting": link.waiting if link else 0,
        }
        if link is not None:
            found["session_seconds"] = link.properties.get("session_expiry_interval")
        if self._refused:
            found["refused_filters"] = self._refused
        if self._trouble:
            found["trouble"] = self._trouble
        return found

    async def _run(self) -> None:
        delay = _FIRST_DELAY
        while True:
            began = time.monotonic()
            try:
                reason = await self._one_connection()
            except Exception as error:  # noqa: BLE001 (a session outlives any fault of ours)
                _log.exception("broker session %s", self.client_id)
                reason = type(error).__name__
            self._note(reason)
            if time.monotonic() - began > _STEADY:
                delay = _FIRST_DELAY
            # Spread out, so that a broker that comes back is not met by everybody at once.
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
            delay = min(delay * 2, _LONGEST_DELAY)
            self._reconnects += 1

    async def _one_connection(self) -> str:
        """Serve one connection to its end; why it ended."""
        link = Link(self._account, self.client_id, self._take, self._will and self._will())
        try:
            await link.open()
            self._refused = await link.subscribe(self._subscriptions)
            self._take_leave(link)
            self.link = link
            self._changed("")
            if self._up is not None:
                await self._up(link)
            return await link.ended
        except LinkFailed as error:
            return str(error)
        finally:
            self.link = None
            self._received += link.received
            await link.close()

    def _take_leave(self, link: Link) -> None:
        link.unsubscribe(self._former)
        self._former = []
        if self._settled is not None:
            self._settled()

    def _note(self, reason: str) -> None:
        self._changed(reason or "the connection ended")

    def _changed(self, trouble: str) -> None:
        """Log the change, not every repeat."""
        if bool(trouble) != bool(self._trouble) or not self._reconnects:
            where = f"{self._account.host}:{self._account.port} as {self.client_id}"
            if trouble:
                _log.warning("broker %s: %s; trying again", where, trouble)
            else:
                _log.info("broker %s: connected", where)
        if self._refused and not trouble:
            _log.error("broker refuses filters %s of %s", self._refused, self.client_id)
        self._trouble = trouble
