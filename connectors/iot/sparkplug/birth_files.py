"""The last births of each edge node, so that a restarted hub knows its aliases.

One file per node in `.hub/sparkplug/SOURCE/`, replaced as a whole. A node that died has none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from connectors.iot.broker.known import replace_file

_log = logging.getLogger("connectors.iot.sparkplug")


class NodeName(NamedTuple):
    group: str
    edge: str


class BirthFiles:
    """Files of one source. Both calls touch the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> dict[NodeName, dict[str, Any]]:
        """Everything remembered; a spoilt file is left out, its node is asked for a rebirth."""
        found = {}
        for path in sorted(self._folder.glob("*.json")):
            try:
                loaded = json.loads(path.read_text(encoding="utf-8"))
                found[NodeName(str(loaded["group"]), str(loaded["edge"]))] = dict(loaded["births"])
            except (OSError, ValueError, KeyError, TypeError):
                _log.warning("births in %s cannot be read; the node has to be born again", path)
        return found

    def write(self, changed: Mapping[NodeName, dict[str, Any] | None]) -> None:
        """None forgets the node. Raises OSError."""
        for node, births in changed.items():
            path = self._path(node)
            if births is None:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                continue
            shown = {"group": node.group, "edge": node.edge, "births": births}
            replace_file(path, json.dumps(shown, ensure_ascii=False).encode())

    def _path(self, node: NodeName) -> Path:
        digest = hashlib.sha256("\0".join(node).encode("utf-8", "replace")).hexdigest()
        return self._folder / f"{digest[:32]}.json"
