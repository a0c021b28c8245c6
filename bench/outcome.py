"""What each side of `bench sync` reports: one JSON object on the last line of its output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

FIELDS = (
    "code",
    "name",
    "short_name",
    "spec",
    "unit",
    "amount",
    "price",
    "tax_rate",
    "quantity",
    "ordered_on",
    "created_at",
    "modified_at",
    "closed",
    "urgent",
    "size_code",
    "status",
    "phone",
    "region",
    "summary",
)
"""The mapped fields, in the order of the hand-written table."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of one side, measured by the process itself.

    The sync loop begins before the first request and ends after the last commit. `rows` is what
    the store holds afterwards; `written` is how many of them this run inserted or changed, where
    the side knows. `digest` is `digest(...)` over the stored rows, taken after the measurement.
    """

    side: str
    records: int
    cpu_seconds: float
    wall_seconds: float
    startup_cpu_seconds: float
    startup_wall_seconds: float
    peak_mb: float
    rows: int
    written: int | None
    digest: str

    @property
    def per_cpu_second(self) -> float:
        return self.records / self.cpu_seconds

    def report(self) -> None:
        """Print the object where the parent process looks for it."""
        print(json.dumps(asdict(self)), flush=True)


def read_outcome(output: str) -> Outcome:
    """The object a side printed last."""
    return Outcome(**json.loads(output.strip().splitlines()[-1]))


def digest(records: Iterable[Mapping[str, Any]]) -> str:
    """One hash over the mapped records in any order: equal only when all values are equal.

    Decimals count as their text with all places, booleans as 0 or 1.
    """
    lines = sorted(
        json.dumps([_plain(record[name]) for name in FIELDS], ensure_ascii=False)
        for record in records
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _plain(value: Any) -> str | int | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int):
        return int(value)
    return str(value)
