"""Showing how far work on days of readings is: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from hub.cli.face import Face

_LINE_SECONDS = 5.0

Tell = Callable[[int, int], None]


@contextmanager
def following_days(face: Face, code: str, days: Mapping[int, int]) -> Iterator[Tell]:
    """`days`: which there are, with their readings (0: not known). What it gives hears the day that
    is worked on, and its readings so far."""
    order = {day: number for number, day in enumerate(sorted(days))}
    if not sys.stderr.isatty():
        yield _lines(face, code, order)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=max(len(days), 1))

        def tell(day: int, readings: int) -> None:
            part = min(readings / days[day], 1.0) if days.get(day) else 0.0
            text = face.text(code, day=_date(day), readings=readings)
            bar.update(task, description=text, completed=order.get(day, 0) + part)

        yield tell


def _lines(face: Face, code: str, order: Mapping[int, int]) -> Tell:
    told = time.monotonic()

    def tell(day: int, readings: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _LINE_SECONDS:
            told = time.monotonic()
            done = f"{order.get(day, 0) + 1}/{len(order)}"
            face.say(f"{done} {face.text(code, day=_date(day), readings=readings)}")

    return tell


def _date(day: int) -> str:
    return datetime.fromtimestamp(day / 1000, UTC).date().isoformat()
