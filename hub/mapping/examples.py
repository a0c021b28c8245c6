"""The `tests:` of a mapping: example records with what must come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hub.mapping.results import Links, Mapped
from hub.sdk.errors import ConfigError
from hub.sdk.loading import unknown_key
from hub.sdk.messages import render

if TYPE_CHECKING:
    from hub.mapping.mapping import Mapping

_KEYS = ("name", "in", "links", "out", "skipped", "held", "errors")
_EXPECTATIONS = ("out", "skipped", "held", "errors")


@dataclass(frozen=True, slots=True)
class Example:
    """One example: `kind` is the expectation's key, `expected` its value."""

    name: str
    row: dict[str, Any]
    links: Links
    kind: str
    expected: Any


@dataclass(frozen=True, slots=True)
class TestFailure:
    """An example that does not come out as written."""

    __test__ = False

    example: str
    field: str
    expected: object
    found: object

    def message(self, language: str = "en") -> str:
        """One line naming the example, the field and both values."""
        params: dict[str, object] = {
            "example": self.example,
            "field": self.field,
            "expected": repr(self.expected),
            "found": repr(self.found),
        }
        return render("mapping.test_failed", params, language)


def read(specs: Any, where: str) -> tuple[Example, ...]:
    """The examples of a `tests:` list. Raises ConfigError."""
    if not isinstance(specs, list):
        raise ConfigError("mapping.needs_list", where=f"{where}: tests", value=specs)
    return tuple(_read_one(spec, f"tests[{i}]", where) for i, spec in enumerate(specs))


def _read_one(spec: Any, at: str, where: str) -> Example:
    if not isinstance(spec, dict) or not isinstance(spec.get("in"), dict):
        raise ConfigError("mapping.test_form", where=f"{where}: {at}")
    for key in spec:
        if key not in _KEYS:
            raise unknown_key(where, f"{at}.{key}", str(key), _KEYS)
    kinds = [key for key in _EXPECTATIONS if key in spec]
    if len(kinds) != 1:
        raise ConfigError("mapping.test_form", where=f"{where}: {at}")
    expected = spec[kinds[0]]
    if not isinstance(expected, {"out": dict, "errors": list}.get(kinds[0], object)):
        raise ConfigError("mapping.test_form", where=f"{where}: {at}")
    links = {
        (str(entity), str(value)): str(target)
        for entity, pairs in (spec.get("links") or {}).items()
        for value, target in pairs.items()
    }
    name = str(spec.get("name", at))
    return Example(name, spec["in"], links, kinds[0], expected)


def run(tests: tuple[Example, ...], mapping: Mapping) -> list[TestFailure]:
    """Every way in which the examples differ from what the mapping does."""
    return [failure for test in tests for failure in _run_one(test, mapping)]


def _run_one(test: Example, mapping: Mapping) -> list[TestFailure]:
    mapped, partial = mapping.careful(test.row, test.links)
    if test.kind == "out":
        return _differences(test, mapped, partial)
    if test.kind == "errors":
        fields = sorted({problem.field for problem in mapped.problems})
        wanted = sorted(map(str, test.expected))
        return [] if fields == wanted else [TestFailure(test.name, "errors", wanted, fields)]
    found = mapped.outcome == test.kind
    if found == bool(test.expected):
        return []
    return [TestFailure(test.name, "outcome", test.kind, mapped.outcome)]


def _differences(test: Example, mapped: Mapped, partial: dict[str, Any]) -> list[TestFailure]:
    """Only the fields the example names: an example row may leave the others out."""
    if mapped.outcome == "skipped":
        return [TestFailure(test.name, "outcome", "ok", "skipped")]
    problems = {problem.field: problem.message() for problem in mapped.problems}
    failures = []
    for name, expected in test.expected.items():
        if name not in partial:
            found: object = problems.get(name, "no such field")
        elif agrees(expected, partial[name]):
            continue
        else:
            found = partial[name]
        failures.append(TestFailure(test.name, str(name), expected, found))
    return failures


def agrees(expected: Any, found: Any) -> bool:
    """Equality as YAML can write it: numbers by value, dicts as subsets, lists item by item."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return all(k in found and agrees(v, found[k]) for k, v in expected.items())
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(agrees, expected, found))
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, float):
        return str(found) == repr(expected) or bool(found == _exact(expected))
    if isinstance(found, str) or expected is None or isinstance(expected, str):
        return (type(expected) is type(found) and bool(expected == found)) or _same_number(
            expected, found
        )
    return bool(expected == found)


def _exact(value: float) -> object:
    from decimal import Decimal

    return Decimal(repr(value))


def _same_number(expected: Any, found: Any) -> bool:
    """`"12.50"` in an example stands for the decimal as the JSON output shows it."""
    from decimal import Decimal

    return isinstance(expected, str) and isinstance(found, Decimal) and str(found) == expected
