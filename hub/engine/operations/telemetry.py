"""How telemetry fares: what waits, what each source and gateway sent, what was quarantined."""

from __future__ import annotations

from typing import Any

from hub.engine.letter_rows import iso_ms
from hub.engine.operations.base import Opened, Row, capped, storable
from hub.engine.operations.protocol import Filters
from hub.engine.telemetry_sources import telemetry_sources
from hub.engine.telemetry_status import lag_of_parts
from hub.sdk.errors import ConfigError
from hub.sdk.loading import unknown_key
from hub.store.telemetry import registry
from hub.store.telemetry.quarantine import Quarantined, count_quarantined, find_quarantined

_FILTERS = ("source", "sender", "device", "metric", "code", "format")
_DAY_MS = 86_400_000
_TOTALS = ("readings", "late", "duplicates", "restated", "quarantined")


class TelemetryOperations(Opened):
    """The operating view of telemetry."""

    def telemetry_status(self) -> Row:
        """Per part what waits for the projector; per source and gateway what came."""
        hub = self._hub
        declared = telemetry_sources(hub.deployment)
        with hub.telemetry.readings.reading() as connection:
            sources = registry.totals_by_source(connection)
            gateways = registry.gateways(connection)
            codes = count_quarantined(connection, hub.now_ms() - _DAY_MS)
        return {
            "parts": lag_of_parts(hub),
            "sources": [_source_row(name, sources) for name in sorted(declared)],
            "gateways": [{**row, "seen_at": iso_ms(row["seen_at"])} for row in gateways],
            "quarantined_last_day": codes,
        }

    def quarantine(self, filters: Filters, limit: int, after: str | None = None) -> Row:
        """What can never become a reading, newest first; `next` goes on behind it."""
        given = {name: text for name, text in filters.items() if text is not None}
        for name in given:
            if name not in _FILTERS:
                raise unknown_key("filter", name, name, _FILTERS)
        size = capped(limit)
        if not all(storable(text) for text in given.values()):
            return {"items": [], "next": None}
        with self._hub.telemetry.readings.reading() as connection:
            found = find_quarantined(connection, given, size, _place(after))
        next_place = _name(found[-1]) if len(found) == size else None
        return {"items": [_quarantine_row(one) for one in found], "next": next_place}


def _source_row(name: str, rows: list[Row]) -> Row:
    mine = [row for row in rows if row["source"] == name]
    seen = [row["seen_at"] for row in mine if row["seen_at"] is not None]
    found: Row = {"source": name, "seen_at": iso_ms(max(seen, default=None))}
    for state in ("active", "waiting", "refused"):
        found[f"devices_{state}"] = sum(row["devices"] for row in mine if row["state"] == state)
    return {**found, **{total: sum(row[total] for row in mine) for total in _TOTALS}}


def _quarantine_row(one: Quarantined) -> Row:
    row: dict[str, Any] = one._asdict()
    for name in ("part", "seq"):
        del row[name]
    row["id"] = _name(one)
    row["received_at"] = iso_ms(one.received_at)
    row["sample"] = one.sample.decode("utf-8", "backslashreplace")
    return row


def _name(one: Quarantined) -> str:
    return f"{one.received_at}-{one.part}-{one.seq}-{one.position}"


def _place(after: str | None) -> tuple[int, int, int, int] | None:
    if after is None:
        return None
    pieces = after.split("-", 3)
    if len(pieces) != 4 or any(not piece.removeprefix("-").isdecimal() for piece in pieces):
        raise ConfigError("telemetry.place", place=after)
    received_at, part, seq, position = (int(piece[:18]) for piece in pieces)
    return received_at, part, seq, position
