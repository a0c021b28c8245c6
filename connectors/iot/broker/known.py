"""The sessions we left at brokers, remembered in a file of the deployment.

A session is kept by the broker while we are away. When a source gets fewer slots, another client id
or fewer topics, somebody has to take leave of what is no longer wanted, or the broker goes on
collecting for it; the file `.hub/broker-sessions.json` says what there was.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path

Key = tuple[str, str]
"""A session: its connection and its client id."""

_log = logging.getLogger("connectors.iot.broker")


class KnownSessions:
    """What the brokers keep for us, as far as we know: the patterns asked for, by session."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)

    def others(self, wanted: Collection[Key]) -> dict[Key, tuple[str, ...]]:
        """Sessions of before that nobody wants any more."""
        return {key: patterns for key, patterns in self._known.items() if key not in wanted}

    def begin(self, key: Key, patterns: Sequence[str]) -> list[str]:
        """Note a session before it is made; the patterns of before that are to be undone."""
        former = [one for one in self._known.get(key, ()) if one not in patterns]
        self._change(key, (*patterns, *former))
        return former

    def settle(self, key: Key, patterns: Sequence[str]) -> None:
        """The session asks for these and no others."""
        self._change(key, tuple(patterns))

    def forget(self, key: Key) -> None:
        """The session has ended."""
        self._change(key, None)

    def _change(self, key: Key, patterns: tuple[str, ...] | None) -> None:
        if self._known.get(key) == patterns:
            return
        if patterns is None:
            del self._known[key]
        else:
            self._known[key] = patterns
        shown = [
            {"connection": connection, "client_id": client_id, "patterns": list(asked)}
            for (connection, client_id), asked in sorted(self._known.items())
        ]
        try:
            replace_file(self._path, json.dumps(shown, ensure_ascii=False, indent=1).encode())
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error)


def _read(path: Path) -> dict[Key, tuple[str, ...]]:
    """A file that is missing or spoilt means none."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        return {
            (str(one["connection"]), str(one["client_id"])): tuple(map(str, one["patterns"]))
            for one in loaded
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning(
            "%s cannot be read (%s); sessions of before stay at their brokers", path, error
        )
        return {}


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, finds the old or the new one and never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
