"""What comes up behind the webhooks: events are taken meanwhile, every other request waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import ExitStack

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_POLL_SECONDS = 0.02


class Behind:
    """The app that `bring_up` makes on a thread of its own; requests wait until it is there.

    `bring_up` puts what is to be closed at the end into the stack that it gets. `give_up` is
    called when it fails; `close` raises what it raised.
    """

    def __init__(
        self, bring_up: Callable[[ExitStack], ASGIApp], give_up: Callable[[], None]
    ) -> None:
        self._bring_up = bring_up
        self._give_up = give_up
        self._parts = ExitStack()
        self._app: ASGIApp | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="hub-start", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        while self._app is None:
            await asyncio.sleep(_POLL_SECONDS)
        await self._app(scope, receive, send)

    def close(self) -> None:
        """Close all that came up. Raises what made it fail."""
        self._thread.join()
        self._parts.close()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._app = self._bring_up(self._parts)
        except BaseException as error:  # noqa: BLE001 (raised again by `close`)
            self._failure = error
            self._app = Response(status_code=503)
            self._give_up()
