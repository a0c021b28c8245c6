"""What the system says of a process that was told to stand still."""

from __future__ import annotations

import time
from pathlib import Path

_SECONDS = 10.0


def wait_frozen(process: int) -> None:
    """Return when no thread of a process that was sent SIGSTOP moves any more.

    A thread inside a call of the system ends that first: until then files may still change.
    """
    deadline = time.monotonic() + _SECONDS
    while not _states(process) <= set("TtZX"):
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {process} does not stop")
        time.sleep(0.002)


def _states(process: int) -> set[str]:
    """The letters of the states of its threads; none when it is gone."""
    found = set()
    for task in Path(f"/proc/{process}/task").glob("*/stat"):
        try:
            text = task.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found.add(text.rpartition(")")[2].split()[0])
    return found
