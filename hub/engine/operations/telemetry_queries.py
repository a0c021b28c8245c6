"""Readings of devices: as they are, in buckets, the newest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hub.engine.letter_rows import iso_ms
from hub.engine.operations.base import Opened, Row, moment_ms, storable
from hub.engine.telemetry_archive import zones_of
from hub.sdk.errors import ConfigError
from hub.sdk.loading import unknown_key
from hub.store.telemetry.series_queries import SeriesFilter, snapshot
from hub.telemetry import query
from hub.telemetry.aggregates import DEFAULT
from hub.telemetry.calendar import is_zone
from hub.telemetry.query import POINTS, Asked, Span

_COMMON = ("device", "metric", "gateway", "tenant")
_TIMES = ("from", "to")
_LARGEST = 2**47
_DIGITS = 11  # so many or more: milliseconds since 1970, not a span

Wanted = Mapping[str, Any]
"""`device` and `metric` are lists of names; `gateway`, `tenant`, `from`, `to` texts."""


class TelemetryQueryOperations(Opened):
    """Asking for readings."""

    def telemetry_series(self, wanted: Wanted) -> Row:
        """Buckets of `every`, or as wide as `max_points` says; `agg` lists the aggregates.

        Per series columns: `ts` (start of the bucket, UTC ms) and one per aggregate.
        """
        known = (*_COMMON, *_TIMES, "every", "agg", "max_points", "zone")
        given, span = _given(wanted, known), self._span(wanted)
        zone = given.get("zone")
        if zone is not None and not is_zone(zone):
            raise ConfigError("telemetry.zone", value=zone)
        asked = Asked(
            given.get("every"),
            int(given.get("max_points", POINTS)),
            tuple(given.get("agg", DEFAULT)),
            zone,
        )
        zones = zones_of(self._hub.deployment)
        with snapshot(self._hub.telemetry.readings) as connection:
            found = query.wanted_series(connection, _filter(given))
            every, series = query.buckets(connection, found, span, asked, zones)
        return {**_said(span), "every": str(every), "series": series}

    def telemetry_readings(self, wanted: Wanted) -> Row:
        """Readings as they are, at most `limit` per series; with `max_points` fewer, peaks kept."""
        given = _given(wanted, (*_COMMON, *_TIMES, "limit", "max_points"))
        span = self._span(wanted)
        with snapshot(self._hub.telemetry.readings) as connection:
            found = query.wanted_series(connection, _filter(given))
            if "max_points" in given:
                series = query.chart(connection, found, span, int(given["max_points"]))
            else:
                series = query.readings(connection, found, span, int(given.get("limit", 1000)))
        return {**_said(span), "series": series}

    def telemetry_latest(self, wanted: Wanted) -> Row:
        """Per series its newest value."""
        given = _given(wanted, _COMMON)
        with snapshot(self._hub.telemetry.readings) as connection:
            found = query.wanted_series(connection, _filter(given))
            return {"series": query.newest(connection, found)}

    def _span(self, wanted: Wanted) -> Span:
        until = self._moment(wanted, "to", self._hub.now_ms())
        return Span(self._moment(wanted, "from", until - 86_400_000), until)

    def _moment(self, wanted: Wanted, name: str, default: int) -> int:
        text = wanted.get(name)
        if text is None:
            return default
        if text.isascii() and text.isdecimal() and len(text) >= _DIGITS:
            return min(int(text[:15]), _LARGEST)
        return moment_ms(self._hub, name, text)


def _given(wanted: Wanted, known: Sequence[str]) -> dict[str, Any]:
    given = {name: value for name, value in wanted.items() if value not in (None, [], ())}
    for name in given:
        if name not in known:
            raise unknown_key("parameter", name, name, known)
    return given


def _filter(given: Mapping[str, Any]) -> SeriesFilter:
    devices, metrics = tuple(given.get("device", ())), tuple(given.get("metric", ()))
    gateway, tenant = given.get("gateway"), given.get("tenant")
    for text in (*devices, *metrics, gateway or "", tenant or ""):
        if not storable(text):
            raise ConfigError("telemetry_device.unknown", device=text, some="-")
    return SeriesFilter(devices, metrics, gateway, tenant)


def _said(span: Span) -> Row:
    clipped = span.clipped()
    return {"from": iso_ms(clipped.since), "to": iso_ms(clipped.until)}
