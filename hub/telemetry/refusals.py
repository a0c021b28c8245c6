"""Rows of quarantine: what of a batch can never become a reading."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from hub.store.telemetry.quarantine import SAMPLE_BYTES, WHOLE, Quarantined
from hub.telemetry.batch import Batch, Read
from hub.telemetry.judging import Judged, code_of
from hub.telemetry.resolving import Resolver

MOST_PARTS = 100
"""Rows per message; what is refused beyond is counted in the last one."""


def refused_rows(
    resolver: Resolver, batch: Batch, judged: Judged, texts: Judged
) -> list[Quarantined]:
    """What was refused when the messages were read, and what the hub refused of the rest."""
    found: dict[int, list[Quarantined]] = {}
    for at, read in enumerate(batch.reads):
        if read.decoded.refused:
            found[at] = list(_at_reading(read))
    values: tuple[Any, ...] = (batch.columns.value, batch.texts.text)
    for kind, told in zip((judged, texts), values, strict=True):
        for at, row in _by_hub(resolver, batch, kind, told):
            found.setdefault(at, []).append(row)
    return [row for rows in found.values() for row in _numbered(rows)]


def _at_reading(read: Read) -> Iterator[Quarantined]:
    """A row per refused part; the body goes with the first."""
    for number, one in enumerate(read.decoded.refused):
        detail = one.detail if one.place < 0 else f"#{one.place}: {one.detail}"
        sample = read.message.body[:SAMPLE_BYTES] if number == 0 else b""
        row = _row(read, one.code, detail, sample)
        yield row._replace(
            position=WHOLE if one.place < 0 else 0, device=one.device, metric=one.metric
        )


def _by_hub(
    resolver: Resolver, batch: Batch, judged: Judged, told: Any
) -> Iterator[tuple[int, Quarantined]]:
    """A row per message, device and reason, with the readings themselves."""
    groups: dict[tuple[int, int, str], list[int]] = {}
    for place in np.flatnonzero(judged.why).tolist():
        device = int(resolver.device_of.array[judged.slots[place]])
        key = int(judged.message[place]), device, code_of(resolver, judged, place)
        groups.setdefault(key, []).append(place)
    for (at, device, code), places in groups.items():
        read = batch.reads[at]
        metrics = [resolver.metric_of(int(judged.slots[place])) for place in places]
        readings = [
            [metric, int(judged.told_ts[place]), _plain(told[place])]
            for metric, place in zip(metrics, places, strict=True)
        ]
        sample, kept = _fitting(readings)
        detail = f"{len(places)} readings" + (
            f", {kept} of them here" if kept < len(places) else ""
        )
        row = _row(read, code, detail, sample)
        metric = metrics[0] if len(set(metrics)) == 1 else ""
        yield at, row._replace(device=resolver.name_of(device), metric=metric)


def _row(read: Read, code: str, detail: str, sample: bytes) -> Quarantined:
    message = read.message
    return Quarantined(
        part=message.part,
        seq=message.seq,
        position=0,
        received_at=message.received_at,
        source=message.source,
        sender=message.sender,
        device="",
        metric="",
        code=code,
        detail=detail,
        format=message.format,
        sample=sample,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return float(value) if math.isfinite(value) else str(value)


def _fitting(readings: list[list[Any]]) -> tuple[bytes, int]:
    """JSON of as many readings as fit, and how many those are."""
    parts: list[str] = []
    size = 2
    for reading in readings:
        text = json.dumps(reading, ensure_ascii=False, separators=(",", ":"))
        size += len(text.encode("utf-8", "replace")) + 1
        if size > SAMPLE_BYTES:
            break
        parts.append(text)
    return f"[{','.join(parts)}]".encode("utf-8", "replace"), len(parts)


def _numbered(rows: list[Quarantined]) -> Iterator[Quarantined]:
    """The rows of one message, told apart by their position."""
    kept = rows[:MOST_PARTS]
    if len(rows) > MOST_PARTS:
        more = f"{kept[-1].detail} (and {len(rows) - MOST_PARTS} parts more)"
        kept[-1] = kept[-1]._replace(detail=more)
    for number, row in enumerate(kept):
        whole = row.position == WHOLE and number == 0
        yield row._replace(position=WHOLE if whole else number)
