"""What streams yield and sinks answer."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
"""One vendor record as decoded JSON; decimals are `Decimal`, never float."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a stream, in the order the source gave it.

    `cursor` continues after this page (plain JSON, opaque to the engine); None means the read is
    complete. `total` is the number of rows the source says the whole read has, when it says so.
    """

    rows: Sequence[Row]
    cursor: Mapping[str, Any] | None
    total: int | None = None


class Op(enum.StrEnum):
    """What a sink should do with a record."""

    UPSERT = "upsert"
    DELETE = "delete"
    DEACTIVATE = "deactivate"


@dataclass(frozen=True, slots=True)
class Write:
    """One record on its way to a sink.

    `key` is the stable key of the target object; `idempotency_key` is the same for every try of
    one version; `target_id` is the id the target gave earlier, None for a first write.
    """

    key: str
    data: Mapping[str, Any]
    op: Op = Op.UPSERT
    idempotency_key: str = ""
    target_id: str | None = None


class Outcome(enum.StrEnum):
    """How one write ended."""

    WRITTEN = "written"
    REJECTED = "rejected"
    RETRY = "retry"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to one `Write`; `code` and `reason` are the vendor's own words.

    `tried` is False for a RETRY that says nothing about this record: the call was not made, or
    was turned away as a whole.
    """

    key: str
    outcome: Outcome
    target_id: str | None = None
    code: str | None = None
    reason: str | None = None
    retry_after: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    tried: bool = True


def join_key(parts: Iterable[object]) -> str:
    """Key parts as one text; different parts never give the same text."""
    return "|".join(str(part).replace("\\", "\\\\").replace("|", "\\|") for part in parts)


class Safety(enum.StrEnum):
    """How a sink makes a repeated write harmless; declared in the manifest."""

    UPSERT = "upsert"
    IDEMPOTENCY_KEY = "idempotency_key"
    LOOK_UP = "look_up"
