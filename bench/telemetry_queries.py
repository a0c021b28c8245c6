"""Charts of a year of minute data: what readings take on disk, and how long a question takes.

100 devices × 525 600 readings, loaded as they would have come: a day of all devices per transaction
through the writer that the projector uses, then rolled up. Then charts of random devices and days
are asked for, each in a snapshot of its own. `--database FILE` keeps the year for the next time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench import machine
from hub.store.database import Store
from hub.store.telemetry.changes import append_change
from hub.store.telemetry.database import open_telemetry
from hub.store.telemetry.devices import (
    NewDevice,
    create_devices,
    create_series,
    find_devices,
    find_series,
)
from hub.store.telemetry.series_queries import SeriesFilter, snapshot
from hub.telemetry import query
from hub.telemetry.calendar import Zones
from hub.telemetry.query import Asked, Span
from hub.telemetry.rollups import roll_up
from hub.telemetry.series_writer import SeriesWriter

DAY, MINUTE = 86_400_000, 60_000
START = 1_735_689_600_000  # 2025-01-01
ZONES = Zones("Asia/Shanghai")
DEVICES, DAYS, ROUNDS = 100, 365, 60


def enter(store: Store, devices: int) -> np.ndarray:
    keys = [("default", "", f"pump-{number:03}") for number in range(devices)]
    with store.transaction() as connection:
        create_devices(connection, [NewDevice(*key, "iot", "active", "", "", 0) for key in keys])
        ids = [one.device_id for one in find_devices(connection, keys)]
        create_series(connection, [(one, "vib_rms", "mm/s") for one in ids])
        found = find_series(connection, [(one, "vib_rms") for one in ids])
    return np.array(sorted(found.values()), dtype=np.int64)


def build(path: Path, devices: int, days: int, console: Console) -> dict[str, float]:
    """Load and roll up; rates per second, and bytes per reading on disk."""
    store = open_telemetry(f"sqlite:///{path}")
    series, random = enter(store, devices), np.random.default_rng(1)
    level = np.exp(random.normal(0.8, 0.5, devices))
    began, readings, now = time.perf_counter(), 0, START + (days + 2) * DAY
    console.print(f"writing {days} days of {devices} devices")
    for day in range(days):
        minutes = START + day * DAY + np.arange(0, DAY, MINUTE)
        ts = np.repeat(minutes, devices) + random.integers(0, 900, devices * len(minutes))
        wave = 1 + 0.2 * np.sin(np.arange(len(minutes)) / 229)
        noise = np.exp(random.normal(0, 0.08, devices * len(minutes)))
        value = np.round(np.repeat(wave, devices) * np.tile(level, len(minutes)) * noise, 3)
        with store.transaction() as connection:
            written = SeriesWriter().write(connection, np.tile(series, len(minutes)), ts, value)
            append_change(connection, written.hours, now)
        readings += len(ts)
    written_in = time.perf_counter() - began
    began, done = time.perf_counter(), 0
    for turn in (now, now + 2 * DAY):  # the first one notes what is due
        while some := roll_up(store, turn, ZONES):
            done += some
    rolled_in = time.perf_counter() - began
    store.close()
    found = {
        "readings": readings,
        "written_per_second": round(readings / written_in),
        "rolled_up_per_second": round(done / rolled_in),
        "bytes_per_reading": round(path.stat().st_size / readings, 2),
    }
    console.print(found)
    return found


def measure(path: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each question."""
    store = open_telemetry(f"sqlite:///{path}")
    with store.reading() as connection:
        known = query.wanted_series(connection, SeriesFilter())
        every_day, span = Asked("1d", aggregates=("count",)), Span(START, START + 3650 * DAY)
        answer = query.buckets(connection, known[:1], span, every_day, Zones("UTC"))[1]
    names, days = [row.device for row in known], len(answer[0]["ts"])

    random = np.random.default_rng(2)

    def ask(length: int, question: Callable[[Any, Any, Span], Any]) -> Callable[[], Any]:
        def once() -> Any:
            first = START + int(random.integers(0, max(days - length, 1))) * DAY
            with snapshot(store) as connection:
                wanted = SeriesFilter(devices=(names[random.integers(len(names))],))
                found = query.wanted_series(connection, wanted)
                return question(connection, found, Span(first, first + length * DAY))

        return once

    def buckets(every: str | None, *names: str, points: int = 500) -> Callable[..., Any]:
        asked = Asked(every, points, names or ("min", "mean", "max"))
        return lambda *given: query.buckets(*given, asked, ZONES)[1]

    questions = {
        "day, raw (1 440 readings)": ask(1, lambda *given: query.readings(*given, 2000)),
        "day, 300 points of it": ask(1, lambda *given: query.chart(*given, 300)),
        "day, every 5m": ask(1, buckets("5m")),
        "day, every 5m, p95": ask(1, buckets("5m", "p95", "p99")),
        "day, every 1h": ask(1, buckets("1h")),
        "month, every 1h": ask(30, buckets("1h")),
        "month, every 15m": ask(30, buckets("15m")),
        "month, every 1d, p95": ask(30, buckets("1d", "max", "p95")),
        "year, every 1d": ask(365, buckets("1d")),
        "year, every 1d, p95": ask(365, buckets("1d", "max", "p95")),
        "year, every 1h": ask(365, buckets("1h")),
        "year, 2 000 points of it": ask(365, lambda *given: query.chart(*given, 2000)),
    }
    found = {}
    for name, question in questions.items():
        times = []
        for _round in range(rounds):
            began = time.perf_counter()
            question()
            times.append((time.perf_counter() - began) * 1000)
        p50, p99 = np.percentile(times, [50, 99]).round(1).tolist()
        found[name] = {"p50_ms": p50, "p99_ms": p99}
    store.close()
    return found


def table(questions: dict[str, dict[str, float]]) -> Table:
    grid = Table("question", title="telemetry_queries", title_justify="left")
    for heading in ("p50 ms", "p99 ms"):
        grid.add_column(heading, justify="right")
    for name, row in questions.items():
        grid.add_row(name, *(f"{number:.1f}" for number in row.values()))
    return grid


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench telemetry_queries", description=__doc__)
    parser.add_argument("--devices", type=int, default=DEVICES)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each question")
    parser.add_argument("--database", type=Path, help="SQLite file; made when it is not there")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(argv)
    console = Console(stderr=options.json, highlight=False)
    before = machine.facts()
    result: dict[str, Any] = {"devices": options.devices, "days": options.days, "stored": None}
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        path = options.database or Path(folder) / "year.db"
        if not path.exists():
            result["stored"] = build(path, options.devices, options.days, console)
        result["questions"] = measure(path, options.rounds)
    full = result["stored"] and (options.devices, options.days) == (DEVICES, DAYS)
    full = full and options.rounds >= ROUNDS
    saved = machine.save("telemetry_queries" if full else "telemetry_queries.local", result, before)
    if options.json:
        print(json.dumps({"machine": before, **result}, ensure_ascii=False))
    console.print(table(result["questions"]))
    console.print(f"saved {saved.name}")
    return 0
