"""Answers about series: readings as they are, buckets, newest values.

Wide buckets come from roll-ups; whatever these do not say yet is read from the chunks, so that an
answer is exact at any moment (percentiles of roll-ups: to 1 %). To be asked within a `snapshot`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from hub.sdk.errors import ConfigError
from hub.sdk.telemetry_clock import CLOCK_UNSET_BEFORE
from hub.store.telemetry import rollups as rows
from hub.store.telemetry.chunks import read_points
from hub.store.telemetry.series_queries import (
    SeriesFilter,
    SeriesRow,
    count_points,
    find_series_rows,
    known_devices,
    newest_text,
    some_devices,
    some_metrics,
)
from hub.store.telemetry.texts import read_texts
from hub.telemetry import aggregates
from hub.telemetry.buckets import combined, of_points
from hub.telemetry.calendar import DAY as DAY_MS
from hub.telemetry.calendar import HOUR as HOUR_MS
from hub.telemetry.calendar import Every, Zones, edges_of, parse_every
from hub.telemetry.pieces import Fresh, Reader
from hub.telemetry.thinning import LEAST, thinned

Millis = NDArray[np.int64]
Row = dict[str, Any]

MOST_POINTS = 100_000
"""Points of one answer, over all its series."""

POINTS = 500
"""Buckets per series when nobody says how many."""

MOST_READ = 20_000_000
"""Readings that one answer may be made of."""

MOST_SERIES = 1000

_LADDER = (
    *("1s", "2s", "5s", "10s", "15s", "30s", "1m", "2m", "5m", "10m", "15m", "30m"),
    *("1h", "2h", "3h", "4h", "6h", "12h", "1d", "2d", "1w", "1mo", "3mo", "12mo"),
)
_LAST = 4_102_444_800_000  # 2100-01-01


@dataclass(frozen=True, slots=True)
class Span:
    """[since, until) in milliseconds. Raises ConfigError unless it is one."""

    since: int
    until: int

    def __post_init__(self) -> None:
        if self.since >= self.until:
            raise ConfigError("telemetry.range", since=self.since, until=self.until)

    def clipped(self) -> Span:
        """Without the years of which there cannot be readings."""
        since = min(max(self.since, CLOCK_UNSET_BEFORE), _LAST)
        return Span(since, max(min(self.until, _LAST), since + 1))


@dataclass(frozen=True, slots=True)
class Asked:
    """Buckets: `every` wide, or as wide as `max_points` per series needs them."""

    every: str | None = None
    max_points: int = POINTS
    aggregates: tuple[str, ...] = aggregates.DEFAULT
    zone: str | None = None


def wanted_series(connection: Connection, wanted: SeriesFilter) -> list[SeriesRow]:
    """The series of a filter. Raises ConfigError naming the device or metric that nobody has."""
    found = find_series_rows(connection, wanted, MOST_SERIES + 1)
    if len(found) > MOST_SERIES:
        raise ConfigError("telemetry.too_many_series", limit=MOST_SERIES)
    known = {row.device for row in found}
    for name in wanted.devices:
        if name not in known and not known_devices(connection, [name]):
            some = ", ".join(some_devices(connection, 5)) or "-"
            raise ConfigError("telemetry_device.unknown", device=name, some=some)
    measured = {row.metric for row in found}
    for metric in wanted.metrics:
        if metric not in measured:
            some = ", ".join(some_metrics(connection, wanted.devices, 10)) or "-"
            raise ConfigError("telemetry_metric.unknown", metric=metric, some=some)
    return found


# --- readings ---------------------------------------------------------------------------------


def readings(
    connection: Connection, found: Sequence[SeriesRow], span: Span, limit: int
) -> list[Row]:
    """Per series its readings, oldest first, at most `limit`; `next` is where to go on."""
    _refuse_above(len(found) * limit, MOST_POINTS, "telemetry.too_many_points")
    span = span.clipped()
    return [_readings(connection, row, span, limit) for row in found]


def _readings(connection: Connection, row: SeriesRow, span: Span, limit: int) -> Row:
    ts, value = _first_points(connection, row.series_id, span, limit + 1)
    texts = read_texts(connection, row.series_id, span.since, span.until, limit + 1)
    stops = [int(ts[limit])] if len(ts) > limit else []
    stops += [texts[limit][0]] if len(texts) > limit else []
    end = min(stops, default=None)
    if end is not None:
        ts = ts[: int(np.searchsorted(ts, end))]
        texts = [one for one in texts if one[0] < end]
    points = {"ts": ts.tolist(), "value": value[: len(ts)].tolist()}
    return {**named(row), **points, "texts": [list(one) for one in texts], "next": end}


def _first_points(
    connection: Connection, series_id: int, span: Span, most: int
) -> tuple[Millis, NDArray[np.float64]]:
    """The first of a span, read in steps that grow: a span of years may hold little or much."""
    parts, count, since, step = [], 0, span.since, DAY_MS
    while since < span.until and count < most:
        end = min(since + step, span.until)
        parts.append(read_points(connection, series_id, since, end))
        count += len(parts[-1][0])
        since, step = end, step * 4
    ts = np.concatenate([part[0] for part in parts])
    value = np.concatenate([part[1] for part in parts])
    return ts[:most], value[:most]


def chart(
    connection: Connection, found: Sequence[SeriesRow], span: Span, max_points: int
) -> list[Row]:
    """Per series at most `max_points` of its readings; no peak and no dip is left out."""
    most = max(max_points, LEAST)
    span = span.clipped()
    _refuse_above(len(found) * most, MOST_POINTS, "telemetry.too_many_points")
    _refuse_reading(connection, found, span)
    answer = []
    for row in found:
        ts, value = read_points(connection, row.series_id, span.since, span.until)
        ts, value = thinned(ts, value, most)
        answer.append({**named(row), "ts": ts.tolist(), "value": value.tolist()})
    return answer


def newest(connection: Connection, found: Sequence[SeriesRow]) -> list[Row]:
    """Per series its newest value; `ts` is None while the time of its only value is unknown."""
    return [_newest(connection, row) for row in found]


def _newest(connection: Connection, row: SeriesRow) -> Row:
    answer = {
        **named(row),
        "ts": row.last_ts,
        "value": row.last_value,
        "received_at": row.last_received_at,
        "text": None,
    }
    text = newest_text(connection, row.series_id)
    if text is not None and (row.last_ts is None or text[0] >= row.last_ts):
        answer |= {"ts": text[0], "text": text[1]}
        if row.last_ts != text[0]:
            answer["value"] = None
    return answer


# --- buckets ----------------------------------------------------------------------------------


def width_for(span: Span, max_points: int) -> Every:
    """The narrowest usual width that gives at most so many buckets."""
    length = span.until - span.since
    for text in _LADDER:
        every = parse_every(text)
        if length <= every.millis * max(max_points - 1, 1):
            return every
    return parse_every(_LADDER[-1])


def buckets(
    connection: Connection, found: Sequence[SeriesRow], span: Span, asked: Asked, zones: Zones
) -> tuple[Every, list[Row]]:
    """Per series the columns `ts` (start of a bucket) and one per aggregate; empty ones are left
    out. Only readings of the span count, also in its first and last bucket."""
    span = span.clipped()
    names = aggregates.checked(asked.aggregates)
    every = parse_every(asked.every) if asked.every else width_for(span, asked.max_points)
    expected = -(-(span.until - span.since) // every.millis) + 1
    _refuse_above(expected * len(found) * len(names), MOST_POINTS * 4, "telemetry.too_many_points")
    _refuse_above(expected * len(found), MOST_POINTS, "telemetry.too_many_points")
    if every.millis < HOUR_MS:
        _refuse_reading(connection, found, span)
    fresh = Fresh.of(connection, {row.series_id for row in found}, span.since, span.until)
    answer = []
    for row in found:
        zone = asked.zone or zones.of(row.zone, row.source)
        edges = edges_of(every, zone, span.since, span.until)
        columns = _bucket_columns(connection, row, _within(edges, span), names, zone, fresh)
        labels = edges[np.searchsorted(edges, columns.pop("ts"), side="right") - 1]
        answer.append({**named(row), "zone": zone, "ts": labels.tolist(), **columns})
    return every, answer


def _within(edges: Millis, span: Span) -> Millis:
    inner = edges[(edges > span.since) & (edges < span.until)]
    return np.concatenate([[span.since], inner, [span.until]]).astype(np.int64)


def _bucket_columns(
    connection: Connection,
    row: SeriesRow,
    edges: Millis,
    names: Sequence[str],
    zone: str,
    fresh: Fresh,
) -> dict[str, Any]:
    percents = [at for at in map(aggregates.percent_of, names) if at is not None]
    exact: dict[float, NDArray[np.float64]] = {}
    if np.diff(edges).max() < HOUR_MS:
        ts, value = read_points(connection, row.series_id, int(edges[0]), int(edges[-1]))
        parts = of_points(ts, value, edges, sketches=False)
        exact = aggregates.exact_percentiles(value, parts.count, percents)
    else:
        reader = Reader(connection, row.series_id, edges, bool(percents), fresh)
        if rows.rolled_zone(connection, row.device_id) != zone:
            zone = ""
        parts = combined(list(reader.parts(zone)), edges)
    return {"ts": parts.start, **aggregates.columns_of(parts, names, exact)}


def named(row: SeriesRow) -> Row:
    """What says which series it is."""
    return {
        "tenant": row.tenant,
        "gateway": row.gateway,
        "device": row.device,
        "metric": row.metric,
        "unit": row.unit,
    }


def _refuse_reading(connection: Connection, found: Sequence[SeriesRow], span: Span) -> None:
    total = sum(count_points(connection, row.series_id, span.since, span.until) for row in found)
    _refuse_above(total, MOST_READ, "telemetry.too_much")


def _refuse_above(number: int, limit: int, code: str) -> None:
    if number > limit:
        raise ConfigError(code, number=number, limit=limit)
