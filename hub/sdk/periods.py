"""Points in time as a vendor wants them written, and the windows a stream is read in."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hub.sdk.errors import ConfigError
from hub.sdk.manifest import seconds_of


def zone_of(name: str, where: str) -> ZoneInfo:
    """The time zone `name`. Raises ConfigError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError("read.unknown_zone", where=where, zone=name) from None


def written(moment: datetime, form: str, zone: str, where: str) -> str:
    """`moment` in `zone` by a strftime pattern, or `unix` / `unix_ms`."""
    if form == "unix":
        return str(int(moment.timestamp()))
    if form == "unix_ms":
        return str(int(moment.timestamp() * 1000))
    return moment.astimezone(zone_of(zone, where)).strftime(form)


def start_of(text: str, zone: str, now: datetime, where: str) -> datetime:
    """The start of the first window: an ISO date or time, or a span before now (`30d`)."""
    span = seconds_of(text)
    if span is not None:
        return now - timedelta(seconds=span)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone_of(zone, where))
