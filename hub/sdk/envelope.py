"""What an answer means: success, no data, or a failure with the recovery it asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from hub.sdk.body import MISSING, dig
from hub.sdk.manifest import Condition, Envelope, ErrorClass, ErrorRule

Kind = Literal[
    "ok", "empty", "throttle", "reauth", "reject", "retry", "permanent", "duplicate", "shape"
]

_BY_STATUS: dict[int, ErrorClass] = {401: "reauth", 408: "retry", 425: "retry", 429: "throttle"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of one answer; `code` and `message` are the vendor's own words.

    `shape` = a 2xx body with neither the sign of success nor a known error.
    """

    kind: Kind
    code: str | None = None
    message: str | None = None


def classify(status: int, body: Any, envelope: Envelope) -> Verdict:
    """What an answer with this status and decoded body (MISSING: none) means."""
    if 200 <= status < 300 and holds(envelope.ok, body):
        return Verdict("ok")
    if (200 <= status < 300 or status == 404) and _says_empty(envelope, body):
        return Verdict("empty")
    code, message = _text(body, envelope.code), _text(body, envelope.message)
    code = code or _text(body, envelope.ok.path)
    return Verdict(_failure(status, body, envelope, code), code, message)


def _says_empty(envelope: Envelope, body: Any) -> bool:
    return envelope.empty is not None and holds(envelope.empty, body)


def _failure(status: int, body: Any, envelope: Envelope, code: str | None) -> Kind:
    explicit = _matching(status, body, [r for r in envelope.errors if r.else_ is None])
    if explicit is not None:
        return explicit
    if status >= 500:
        return "retry"
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status < 300 and code is None and dig(body, envelope.ok.path) is MISSING:
        return "shape"
    return _matching(status, body, envelope.errors) or "reject"


def classify_item(item: Any, ok: Condition, errors: Sequence[ErrorRule]) -> Kind:
    """What one entry of a batch answer means."""
    return "ok" if holds(ok, item) else _matching(200, item, errors) or "reject"


def shape(path: str, kind: str) -> Condition:
    """The condition that the value at `path` has a shape (`text`, `present` …)."""
    return Condition.model_validate({"path": path, "is": kind})


def holds(condition: Condition, body: Any) -> bool:
    """Whether `body` passes the test."""
    value = dig(body, condition.path)
    if condition.in_ is not None:
        return any(_same(value, wanted) for wanted in condition.in_)
    return _SHAPES[condition.is_ or "present"](value)


def _same(value: Any, wanted: Any) -> bool:
    # True == 1 in Python, not in JSON.
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


_SHAPES = {
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "text": lambda value: isinstance(value, str) and value != "",
    "number": lambda value: isinstance(value, int | Decimal) and not isinstance(value, bool),
    "true": lambda value: value is True,
    "present": lambda value: value is not MISSING and value is not None,
    "absent": lambda value: value is MISSING or value is None,
}


def _matching(status: int, body: Any, rules: Sequence[ErrorRule]) -> ErrorClass | None:
    for rule in rules:
        if rule.else_ is not None:
            return rule.else_
        if _matches(status, body, rule):
            return rule.as_
    return None


def _matches(status: int, body: Any, rule: ErrorRule) -> bool:
    if rule.status is not None and status not in rule.status:
        return False
    return all(
        (text := _text(body, path)) is not None and re.search(pattern, text) is not None
        for path, pattern in (rule.match or {}).items()
    )


def _text(body: Any, path: str | None) -> str | None:
    """A single value as text; lists and objects are nobody's code or message."""
    value = MISSING if path is None else dig(body, path)
    return str(value) if isinstance(value, str | int | Decimal) else None
