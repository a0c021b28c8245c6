"""Taking leave of sessions that nobody wants any more: slots taken away, sources that went."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectors.iot.broker.account import Account, Accounts
from connectors.iot.broker.known import Key, KnownSessions
from connectors.iot.broker.link import Incoming, Link, LinkFailed, Take
from hub.sdk.errors import ConfigError

_QUIET = 1.0
_DELAYS = (1.0, 5.0, 30.0, 300.0)

_log = logging.getLogger("connectors.iot.broker")


class Farewell:
    """A listener that ends once it is done: see `hub.sdk.telemetry.Listener`.

    `reader` gives what reads the messages that the broker still holds for a session; without one
    they are dropped, for no source wants them.
    """

    name = "broker:leaving"

    def __init__(
        self,
        known: KnownSessions,
        unwanted: Mapping[Key, Sequence[str]],
        accounts: Accounts,
        reader: Callable[[Key], Take | None],
    ) -> None:
        self._known = known
        self._unwanted = unwanted
        self._accounts = accounts
        self._reader = reader
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._trouble: dict[Key, str] = {}

    async def start(self) -> None:
        for key, patterns in self._unwanted.items():
            self._tasks[key] = asyncio.create_task(self._leave(key, patterns))

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def status(self) -> dict[str, Any]:
        """For the operating view."""
        open_ = [key for key, task in self._tasks.items() if not task.done()]
        return {
            "leaving": [
                {"connection": key[0], "client_id": key[1], "trouble": self._trouble.get(key, "")}
                for key in open_
            ]
        }

    async def _leave(self, key: Key, patterns: Sequence[str]) -> None:
        try:
            account = self._accounts.of(key[0], "")
        except ConfigError as error:
            self._trouble[key] = str(error)
            _log.warning("session %s at %s cannot be left: %s", key[1], key[0], error)
            return
        attempt = 0
        while (trouble := await leave_session(account, key[1], patterns, self._reader(key))) != "":
            if trouble != self._trouble.get(key):
                _log.warning("session %s at %s cannot be left: %s", key[1], key[0], trouble)
            self._trouble[key] = trouble
            await asyncio.sleep(_DELAYS[min(attempt, len(_DELAYS) - 1)])
            attempt += 1
        self._known.forget(key)
        _log.info("session %s at %s is left", key[1], key[0])


async def leave_session(
    account: Account, client_id: str, patterns: Sequence[str], take: Take | None
) -> str:
    """Read what the broker still holds for a session, then end it; "" or why it went wrong."""
    link = Link(account, client_id, take or _unread)
    forget = False
    try:
        await link.open()
        link.unsubscribe(patterns)
        seen = -1
        while seen != link.received or link.waiting:
            seen = link.received
            await asyncio.wait([link.ended], timeout=_QUIET)
            if link.ended.done():
                return link.ended.result()
        forget = True
    except LinkFailed as error:
        return str(error)
    finally:
        await link.close(forget=forget)
    return ""


def _unread(message: Incoming) -> None:
    return None
