"""SQLite's write-ahead log as a file: where its commits end, and what a checkpoint has moved."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_HEADER, _FRAME = 32, 24
_MAGIC = (0x377F0682, 0x377F0683)
_ATTEMPTED_AT = 128  # nBackfillAttempted in the index of the log (walIndexInfo)


@dataclass(frozen=True, slots=True)
class Log:
    """The log as it stands: `commit_end` is the byte behind its last commit, `end` the file's.

    `generation` changes when the log begins anew from its first byte.
    """

    generation: bytes
    page_size: int
    commit_end: int
    end: int

    def end_of(self, frames: int) -> int:
        """The byte behind so many frames."""
        return _HEADER + frames * (_FRAME + self.page_size) if frames else 0


def read_log(path: Path) -> Log:
    """What stands in a log; one that is empty or being begun has no commit."""
    raw = path.read_bytes() if path.exists() else b""
    if len(raw) < _HEADER:
        return Log(b"", 0, 0, len(raw))
    magic, _, page_size = struct.unpack(">III", raw[:12])
    if magic not in _MAGIC:
        return Log(b"", 0, 0, len(raw))
    salt, step = raw[16:24], _FRAME + page_size
    commit_end = 0
    for at in range(_HEADER, len(raw) - step + 1, step):
        if raw[at + 8 : at + 16] != salt:
            break  # left over from before the log began anew
        if struct.unpack(">I", raw[at + 4 : at + 8])[0]:
            commit_end = at + step
    return Log(salt, page_size, commit_end, len(raw))


def moved_frames(index: Path) -> int:
    """How many frames a checkpoint may have moved into the database; these were synced before."""
    with index.open("rb") as file:
        file.seek(_ATTEMPTED_AT)
        raw = file.read(4)
    return int(struct.unpack("=I", raw)[0]) if len(raw) == 4 else 0
