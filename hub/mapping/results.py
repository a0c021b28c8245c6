"""What applying a mapping answers: one outcome per record, with every problem found in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from hub.sdk.errors import RecordRejected
from hub.sdk.messages import render

Row = dict[str, Any]
Links = dict[tuple[str, str], str]
Reference = tuple[str, str]

SEVERAL = "mapping.several"
LINK_MISSING = "mapping.link_missing"


class FieldProblem(NamedTuple):
    """One thing wrong with one target field; `value` is the source value as it came."""

    field: str
    value: object
    code: str
    params: dict[str, object]

    def message(self, language: str = "en") -> str:
        """One line naming the field, the value and the next step."""
        params = {"value": show_value(self.value), **self.params, "field": self.field}
        return render(self.code, params, language)


class Mapped(NamedTuple):
    """The outcome of one record; `references` are the (entity, value) pairs a held record needs."""

    outcome: Literal["ok", "skipped", "held", "rejected"]
    key: str | None
    data: dict[str, Any] | None
    problems: tuple[FieldProblem, ...]
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Unusable:
    """What a group holds in place of a sum that cannot be made; any use of it is a problem."""

    value: object


class Findings:
    """Collects problems and missing links while a record is looked at field by field."""

    def __init__(self) -> None:
        self.problems: list[FieldProblem] = []
        self.references: list[Reference] = []

    def add(self, field: str, error: RecordRejected) -> None:
        """Files `error` under `field`; a nested collection keeps its own paths behind it."""
        if error.code == SEVERAL:
            nested: Findings = error.params["findings"]  # type: ignore[assignment]  # always ours
            for problem in nested.problems:
                self.problems.append(problem._replace(field=field + problem.field))
            self.references.extend(nested.references)
        elif error.code == LINK_MISSING and error.params.get("hold"):
            self.references.append((str(error.params["entity"]), str(error.params["value"])))
        else:
            params = dict(error.params)
            value = storable(params.pop("value", None))
            self.problems.append(FieldProblem(field, value, error.code, params))

    def __bool__(self) -> bool:
        return bool(self.problems or self.references)

    def error(self) -> RecordRejected:
        """Everything found as one exception, for the level above."""
        return RecordRejected(SEVERAL, findings=self)


def reject(code: str, value: object, **params: object) -> RecordRejected:
    """The error for a value that cannot become what the field asks for."""
    return RecordRejected(code, value=value, **params)


def show_value(value: object) -> str:
    """A value as a person reads it in a message: text quoted, a missing one as `null`."""
    return "null" if value is None else repr(value) if isinstance(value, str) else str(value)


def storable(value: object) -> object:
    """A source value as a dead letter can keep it, whatever it is; long ones are cut."""
    if isinstance(value, Unusable):
        value = value.value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return int(value)
    if isinstance(value, Decimal) and value.is_finite():
        return value
    shown = value if isinstance(value, str) else repr(value)
    shown = shown[:200].replace("\0", "\\0")
    return shown.encode("utf-8", "backslashreplace").decode()


def unique(references: Iterable[Reference]) -> tuple[Reference, ...]:
    """The references without repeats, in order."""
    return tuple(dict.fromkeys(references))
