"""Writing source for a closed namespace: helpers and constants by number, user text only quoted."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple

from hub.mapping import text
from hub.mapping.functions import dig
from hub.mapping.pipes import Kind
from hub.mapping.syntax import Path


class Piece(NamedTuple):
    """Python source of one value and what is known about it."""

    source: str
    kind: Kind


class Code:
    """The namespace of one mapping; everything its functions may touch is put here by us."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {
            "__builtins__": {},
            "STR": str,
            "LEN": len,
            "NUL": "\0",
            "NORMAL": unicodedata.normalize,
            "JOIN": "".join,
            "SPACED": " ".join,
            "FILLED": text.filled,
            "COPIED": text.copied,
            "NOT_TEXT": (TypeError, UnicodeError),
        }
        self._shared: dict[object, str] = {}
        self._temps = 0

    def constant(self, value: Any) -> str:
        """The name under which the generated source reaches `value`."""
        name = f"k{len(self.namespace)}"
        self.namespace[name] = value
        return name

    def helper(self, function: Callable[..., Any]) -> str:
        """Like `constant`, once per function."""
        return self.shared(function, lambda: function)

    def shared(self, key: object, make: Callable[[], Any]) -> str:
        """Like `constant`, made once per key."""
        if key not in self._shared:
            self._shared[key] = self.constant(make())
        return self._shared[key]

    def temp(self) -> str:
        """A fresh local name."""
        self._temps += 1
        return f"t{self._temps}"

    def run(self, source: str) -> None:
        """Defines what `source` says inside the namespace."""
        exec(compile(source, "<mapping>", "exec"), self.namespace)  # noqa: S102 (no user text in it)


def path_source(path: Path, code: Code) -> str:
    """Source that reads `path`: `get` is the row's own, `up` the records around it."""
    if path.up:
        base = "up" + "[1]" * (path.up - 1) + "[0]"
        return f"{code.helper(dig)}({base}, {path.parts!r})"
    first = f"get({path.parts[0]!r})"
    return first if len(path.parts) == 1 else f"{code.helper(dig)}({first}, {path.parts[1:]!r})"
