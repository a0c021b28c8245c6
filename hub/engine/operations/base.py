"""What all operations share."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from hub.sdk.errors import ConfigError
from hub.sdk.manifest import seconds_of
from hub.store.rows import plain_text, to_ms

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


def moment_ms(hub: Hub, name: str, text: str) -> int:
    """A date, a time (in the deployment's zone unless it says), or a span before now."""
    span = seconds_of(text)
    try:
        if span is not None:
            return to_ms(hub.clock.now() - timedelta(seconds=span))
        moment = datetime.fromisoformat(text)
        zone = ZoneInfo(hub.deployment.settings.zone)
        return to_ms(moment if moment.tzinfo else moment.replace(tzinfo=zone))
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError("dead_letter.time", name=name, value=text) from error


def storable(text: str) -> bool:
    """Whether a database can hold the text; otherwise nothing of this name can be there."""
    return plain_text(text) == text


def iso(moment: datetime | None) -> str | None:
    """A UTC time in ISO 8601."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
