"""Showing how far a run is: a bar on a terminal, a line every few seconds anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from hub.cli.face import Face

Run = dict[str, Any]

_LINE_SECONDS = 5.0


class Progress(Protocol):
    """Shows the newest state of a run."""

    def show(self, run: Run) -> None: ...


@contextmanager
def progress_for(face: Face, run: Run) -> Iterator[Progress]:
    """The progress display that fits where standard error goes."""
    if not sys.stderr.isatty():
        yield _Lines(face, run)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(face, run, bar)


class _Pace:
    """Rows per second since the display began."""

    def __init__(self, run: Run) -> None:
        self._began = time.monotonic()
        self._first = run["counts"]["read"]

    def rate(self, run: Run) -> int:
        passed = max(time.monotonic() - self._began, 0.001)
        return int((run["counts"]["read"] - self._first) / passed)


def _line(face: Face, run: Run, rate: int) -> str:
    counts = run["counts"]
    return face.text(
        "run.progress",
        flow=run["flow"],
        state=face.text(f"state.{run['state']}"),
        pages=run["pages"],
        read=counts["read"],
        total="?" if run["total"] is None else run["total"],
        pending=counts["pending"],
        rate=rate,
    )


class _Lines:
    def __init__(self, face: Face, run: Run) -> None:
        self._face = face
        self._pace = _Pace(run)
        self._next = time.monotonic() + _LINE_SECONDS

    def show(self, run: Run) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_SECONDS
            self._face.say(_line(self._face, run, self._pace.rate(run)))


class _Bar:
    """The bar follows the read; when the read is over, the writing."""

    def __init__(self, face: Face, run: Run, bar: RichProgress) -> None:
        self._face = face
        self._bar = bar
        self._pace = _Pace(run)
        self._rate = 0
        self._task = bar.add_task(_line(face, run, 0), total=None)

    def show(self, run: Run) -> None:
        counts = run["counts"]
        done, total = counts["read"], run["total"]
        if run["state"] == "delivering":
            done, total = counts["mapped"] - counts["pending"], counts["mapped"]
        else:
            self._rate = self._pace.rate(run)
        text = _line(self._face, run, self._rate)
        self._bar.update(self._task, description=text, completed=done, total=total)
