"""The journal: what was sent, thanked for and done, in the order in which it happened.

Written by several processes; each line is one append, which the system does not mix with others.
Not synced to the disk: whoever writes here is never killed, and the machine stays up.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Journal:
    """Open for notes; `note` is safe for threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, what: str, **facts: Any) -> None:
        """Add one line; in the file when this returns."""
        line = {"what": what, "at": round(time.monotonic(), 4), **facts}
        os.write(self._file, json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def row(self, sink: str, key: str, content: str) -> None:
        """From now on a source holds this content, and `sink` must come to hold it."""
        self.note("row", sink=sink, key=key, content=content)

    def sending(self, sink: str, key: str, content: str, event: str) -> None:
        """An event is about to be sent; nobody owes it yet."""
        self.note("sending", sink=sink, key=key, content=content, event=event)

    def thanked(self, event: str, began: float) -> None:
        """The hub answered 2xx to a try that began at `began`: now it owes the event."""
        self.note("thanked", event=event, began=round(began, 4))

    def effect(self, sink: str, key: str, content: str, target_id: str) -> None:
        """The target made or changed an object."""
        self.note("effect", sink=sink, key=key, content=content, id=target_id)

    def close(self) -> None:
        os.close(self._file)


def lines_of(path: Path) -> Iterator[Line]:
    """Every complete line so far."""
    with path.open("rb") as file:
        for raw in file:
            if raw.endswith(b"\n"):
                yield json.loads(raw)
