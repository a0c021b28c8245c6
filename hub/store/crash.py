"""Named points at which a test may kill the process, as if the power went."""

from __future__ import annotations

import os

EXIT_CODE = 137


def crash_point(name: str) -> None:
    """Die here when `HUB_CRASH_AT` says `name` (or `name:N` for the N-th time)."""
    wanted = os.environ.get("HUB_CRASH_AT")
    if wanted is None:
        return
    point, _, number = wanted.partition(":")
    if point != name:
        return
    left = int(number or 1) - 1
    if left <= 0:
        os._exit(EXIT_CODE)
    os.environ["HUB_CRASH_AT"] = f"{point}:{left}"
