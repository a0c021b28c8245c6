"""How much memory a process holds while it works."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

_EVERY = 0.25


def resident_mb() -> float:
    """The memory this process holds now, in MB (10⁶ bytes)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Memory:
    """Samples taken beside the work, as (seconds, MB)."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(_EVERY):
            self.samples.append((round(time.monotonic() - began, 2), round(resident_mb(), 1)))
