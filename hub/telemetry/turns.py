"""One process at a time works on the archive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hub.sdk.errors import TransientError
from hub.store.database import Store
from hub.store.telemetry.positions import release, take_lease

_LEASE = "archive"
_SECONDS = 120.0
_RENEW_SECONDS = 10.0


@contextmanager
def archive_turn(store: Store, owner: str) -> Iterator[Callable[[], None]]:
    """What it gives is called often meanwhile, to stay the one who works.

    Raises TransientError while somebody else does; a process that died stands in the way for two
    minutes.
    """

    def take() -> None:
        with store.transaction() as connection:
            if not take_lease(connection, _LEASE, owner, _SECONDS):
                raise TransientError("telemetry.archive_busy")

    take()
    renewed = time.monotonic()

    def renew() -> None:
        nonlocal renewed
        if time.monotonic() - renewed > _RENEW_SECONDS:
            take()
            renewed = time.monotonic()

    try:
        yield renew
    finally:
        with store.transaction() as connection:
            release(connection, [_LEASE], owner)
