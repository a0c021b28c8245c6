"""Where mappings find what they name: lookup tables and mappings of sub-records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hub.mapping.lookups import Lookups, find_file
from hub.sdk.loading import load_yaml


class Library:
    """`lookups/<name>.yaml` and `<name>.yaml` from the first of `folders` that has them.

    Files are read when first needed and kept; make a new Library to see changed files.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self.lookups = Lookups(self.folders)
        self._mappings: dict[str, dict[str, Any]] = {}

    def mapping(self, name: str, where: str = "mapping") -> dict[str, Any]:
        """The content of a named mapping. Raises ConfigError with a near name."""
        if name not in self._mappings:
            self._mappings[name] = load_yaml(find_file(self.folders, "", name, where))
        return self._mappings[name]
