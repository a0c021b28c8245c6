"""Keeping what nobody would send again."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

from hub.sdk.errors import TransientError
from hub.sdk.telemetry import Message, Port, Receipt

OVERLOAD = "telemetry.overload"
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0

Value = TypeVar("Value")


class Surely:
    """Awaited, the message is kept, however long the store is away.

    For messages of QoS 0, which a broker never delivers a second time. The queue of the port is
    joined at once where it has room. `only_for_room`: any other trouble is raised.
    """

    def __init__(self, port: Port, message: Message, *, only_for_room: bool = False) -> None:
        self._port = port
        self._message = message
        self._only_for_room = only_for_room
        self._first: Awaitable[Receipt] | None = None
        try:
            self._first = port.keep(message)
        except TransientError:
            port.count("broker", "kept_late")

    def __await__(self) -> Generator[Any, None, Receipt]:
        return self._keep().__await__()

    async def _keep(self) -> Receipt:
        attempt, self._first = self._first, None
        delay = _FIRST_DELAY
        while True:
            try:
                return await settled(self._port.keep(self._message) if attempt is None else attempt)
            except TransientError as error:
                if self._only_for_room and error.code != OVERLOAD:
                    raise
                attempt = None
                if error.code == OVERLOAD:  # room comes with the next commit
                    await asyncio.sleep(_FIRST_DELAY)
                    continue
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_DELAY)

    def close(self) -> None:
        """Nobody will await it."""
        leave(self._first)


def keep_when_there_is_room(port: Port, message: Message) -> Awaitable[Receipt]:
    """For messages of QoS 1: the PUBACK comes late while too much waits, which holds the broker
    back. Ending the connection would only bring the same messages again."""
    try:
        return port.keep(message)
    except TransientError as error:
        if error.code != OVERLOAD:
            raise
        return Surely(port, message, only_for_room=True)


async def settled(kept: Awaitable[Value]) -> Value:
    """Await; when we are cancelled meanwhile, the writing itself is not."""
    return await (asyncio.shield(kept) if isinstance(kept, asyncio.Future) else kept)


def leave(kept: object) -> None:
    """Let go of something awaitable that nobody awaits, without a word about it."""
    if inspect.iscoroutine(kept) or isinstance(kept, Surely):
        kept.close()
    elif isinstance(kept, asyncio.Future):
        kept.add_done_callback(lambda done: done.cancelled() or done.exception())
