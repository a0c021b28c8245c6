"""The answer to a successful call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """A decoded body with its headers. `empty` = the vendor says there is no data."""

    body: Any
    headers: Mapping[str, str]
    status: int
    empty: bool = False
    url: str = ""
