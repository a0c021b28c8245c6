"""What all operations share."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from hub.store.rows import plain_text

if TYPE_CHECKING:
    from hub.engine.hub import Hub

Row = dict[str, Any]

MAX_LIMIT = 1000

LARGEST_NUMBER = 2**63 - 1
"""The largest one a database can be asked for."""


class Opened:
    """Operations on a hub opened in this process."""

    def __init__(self, hub: Hub) -> None:
        self._opened = hub

    @property
    def _hub(self) -> Hub:
        """The hub with the files as they are now."""
        self._opened.refresh()
        return self._opened


def capped(limit: int) -> int:
    """A limit within what one answer may hold."""
    return max(1, min(limit, MAX_LIMIT))


def storable(text: str) -> bool:
    """Whether a database can hold the text; otherwise nothing of this name can be there."""
    return plain_text(text) == text


def iso(moment: datetime | None) -> str | None:
    """A UTC time in ISO 8601."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
