"""A set of fields compiled to functions, and such sets inside records (`each`, `object`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import DivisionByZero, InvalidOperation, Overflow
from typing import Any, Protocol

from hub.mapping import text
from hub.mapping.code import Code, Piece
from hub.mapping.fields import MAX_FIELDS, Fields, Node
from hub.mapping.lookups import Lookups
from hub.mapping.parts import flag
from hub.mapping.results import Findings, Links, Row, reject
from hub.sdk.errors import ConfigError, RecordRejected
from hub.sdk.loading import unknown_key

MAX_LEVELS = 5
MAX_ITEMS = 100_000

Up = tuple[Row, Any] | None
Compute = Callable[[Row, Links, Up], Any]


class NamedMappings(Protocol):
    """Where named mappings come from."""

    def mapping(self, name: str, where: str) -> dict[str, Any]:
        """The content of `<name>.yaml`. Raises ConfigError."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Compiled fields: `fast` computes all or raises, `checks` compute one each."""

    nodes: dict[str, Node]
    fast: Callable[[Row, Links, Up], dict[str, Any] | None]
    checks: tuple[tuple[str, Compute], ...]
    when: Compute | None
    when_node: Node | None

    def careful(self, row: Row, links: Links, up: Up) -> tuple[dict[str, Any], Findings]:
        """Every field on its own, with all problems; `when` is not looked at."""
        data: dict[str, Any] = {}
        findings = Findings()
        for name, compute in self.checks:
            try:
                data[name] = compute(row, links, up)
            except Exception as error:  # noqa: BLE001 (one field must not hide the others)
                findings.add(name, as_rejected(error))
        return data, findings

    def wanted(self, row: Row, links: Links, up: Up) -> bool:
        """Whether `when` lets the record through. Raises RecordRejected."""
        if self.when is None:
            return True
        try:
            return bool(self.when(row, links, up))
        except Exception as error:
            findings = Findings()
            findings.add("when", as_rejected(error))
            raise findings.error() from error


def as_rejected(error: Exception) -> RecordRejected:
    """Any failure while computing a field as one that can be filed and shown."""
    if isinstance(error, RecordRejected):
        return error
    if isinstance(error, DivisionByZero | ZeroDivisionError):
        return RecordRejected("mapping.division_by_zero")
    if isinstance(error, Overflow | OverflowError):
        return RecordRejected("mapping.number_too_large", limit="1000 digits")
    if isinstance(error, InvalidOperation):
        return RecordRejected("mapping.impossible_number")
    return RecordRejected("mapping.failed", reason=f"{type(error).__name__}: {error}")


class Nested(Protocol):
    """A nested set of fields inside one field."""

    @property
    def plan(self) -> Plan:
        """Its compiled fields."""

    def rows(self, row: Row, up: Up) -> Iterator[tuple[Row, Up]]:
        """The inner records of one outer record, with what surrounds them."""


@dataclass(frozen=True, slots=True)
class EachRecord:
    """`each`: a list of sub-records through a plan of their own."""

    plan: Plan
    source: Compute

    def __call__(self, value: Any, row: Row, links: Links, up: Up) -> list[dict[str, Any]]:
        items = _items(value)
        around = (row, up)
        fast = self.plan.fast
        try:
            found = [fast(item, links, around) for item in items]
        except Exception as error:  # noqa: BLE001 (raised again, with all that is wrong)
            raise (self._explained(items, links, around) or error) from None
        return [item for item in found if item is not None]

    def _explained(self, items: list[Any], links: Links, around: Up) -> RecordRejected | None:
        all_found = Findings()
        for position, item in enumerate(items):
            try:
                if not isinstance(item, dict):
                    raise reject("mapping.not_a_record", item)
                if not self.plan.wanted(item, links, around):
                    continue
                findings = self.plan.careful(item, links, around)[1]
            except RecordRejected as error:
                all_found.add(f"[{position}]", _dotted(error))
                continue
            if findings:
                all_found.add(f"[{position}]", _dotted(findings.error()))
        return all_found.error() if all_found else None

    def rows(self, row: Row, up: Up) -> Iterator[tuple[Row, Up]]:
        """The sub-records, without those that are no records."""
        try:
            items = _items(self.source(row, {}, up))
        except Exception:  # noqa: BLE001 (the record will be rejected with this very error)
            return
        yield from ((item, (row, up)) for item in items if isinstance(item, dict))


@dataclass(frozen=True, slots=True)
class SubObject:
    """`object`: a dict built from the same record."""

    plan: Plan

    def __call__(self, row: Row, links: Links, up: Up) -> dict[str, Any] | None:
        try:
            return self.plan.fast(row, links, up)
        except Exception:  # noqa: BLE001 (looked at again, field by field)
            if not self.plan.wanted(row, links, up):
                return None
            data, findings = self.plan.careful(row, links, up)
            if findings:
                raise _dotted(findings.error()) from None
            return data

    def rows(self, row: Row, up: Up) -> Iterator[tuple[Row, Up]]:
        """The record itself."""
        yield row, up


def _items(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise reject(
            "mapping.not_a_list", value if isinstance(value, str) else type(value).__name__
        )
    if len(value) > MAX_ITEMS:
        raise reject("mapping.too_many_items", len(value), limit=MAX_ITEMS)
    return list(value)


def _dotted(error: RecordRejected) -> RecordRejected:
    """The nested findings of `error` with a dot before their field names."""
    findings = error.params.get("findings")
    if isinstance(findings, Findings):
        findings.problems = [p._replace(field="." + p.field) for p in findings.problems]
    return error


class Builder:
    """Builds plans; `used` names the mappings and lookups that went into them."""

    def __init__(self, code: Code, lookups: Lookups, named: NamedMappings) -> None:
        self.code = code
        self.lookups = lookups
        self.named = named
        self.used: dict[str, dict[str, Any]] = {}
        self.tables: set[str] = set()

    def plan(self, fields: dict[str, Any], when: Any, where: str, levels: int) -> Plan:
        """The compiled plan of a `fields:` block. Raises ConfigError."""
        if not isinstance(fields, dict) or not fields or len(fields) > MAX_FIELDS:
            raise ConfigError("mapping.needs_fields", where=where, limit=MAX_FIELDS)
        maker = Fields(self.code, self.lookups, self, levels)
        nodes = {
            field_name(name, where): maker.build(spec, f"{where}.{name}")
            for name, spec in fields.items()
        }
        self.tables.update(name for node in nodes.values() for name in node.lookups)
        condition = None if when is None else maker.expression(when, f"{where}: when")
        checks = tuple((name, self.function(node.piece)) for name, node in nodes.items())
        decide = self.function(condition.piece) if condition else None
        fast = self._define("row, links, up", record_source(nodes, condition))
        return Plan(nodes, fast, checks, decide, condition)

    def function(self, piece: Piece) -> Compute:
        """A function (row, links, up) that computes one piece."""
        source = piece.source
        if piece.kind not in ("plain", "bool", "number"):
            source = f"{self.code.helper(text.copied)}({source})"
        return self._define("row, links, up", ["get = row.get", f"return {source}"])

    def _define(self, arguments: str, lines: list[str]) -> Compute:
        name = f"f{len(self.code.namespace)}"
        body = "\n".join(f"    {line}" for line in lines)
        self.code.run(f"def {name}({arguments}):\n{body}\n")
        made: Compute = self.code.namespace[name]
        return made

    def each(self, fields: Fields, spec: dict[str, Any], where: str) -> Node:
        """The node of an `each` form."""
        if fields.levels >= MAX_LEVELS:
            raise ConfigError("mapping.nested_too_deep", where=where, limit=MAX_LEVELS)
        inner, when, inner_where = self._inner(spec, where)
        source = fields.build(spec["each"], f"{where}.each")
        plan = self.plan(inner, when, inner_where, fields.levels + 1)
        each = EachRecord(plan, self.function(source.piece._replace(kind="plain")))
        call = self.code.constant(each)
        piece = Piece(f"{call}({source.piece.source}, row, links, up)", "plain")
        node = replace(
            source,
            piece=piece,
            steps=(*source.steps, f"each → {spec.get('mapping', 'fields')}"),
            nested=(each,),
        )
        if flag(spec, "required", where):
            check = self.code.helper(_not_empty)
            node = replace(node, piece=Piece(f"{check}({piece.source})", "plain"))
        return node

    def _inner(self, spec: dict[str, Any], where: str) -> tuple[dict[str, Any], Any, str]:
        if ("mapping" in spec) == ("fields" in spec):
            raise ConfigError("mapping.each_form", where=where)
        if "fields" in spec:
            return spec["fields"], spec.get("when"), where
        name = spec["mapping"]
        if isinstance(name, dict):
            return name.get("fields", name), spec.get("when"), where
        content = self.named.mapping(name, where)
        self.used[name] = content
        known = ("mapping", "title", "fields", "when")
        for key in content:
            if key not in known:
                raise unknown_key(f"{name}.yaml", str(key), str(key), known)
        if "when" in spec and "when" in content:
            raise ConfigError("mapping.one_when", where=where, name=name)
        return content.get("fields", {}), spec.get("when", content.get("when")), f"{name}.yaml"

    def object(self, fields: Fields, spec: dict[str, Any], where: str) -> Node:
        """The node of an `object` form."""
        if where.count(".") > 40:
            raise ConfigError("mapping.nested_too_deep", where=where, limit=MAX_LEVELS)
        plan = self.plan(spec["object"], spec.get("when"), where, fields.levels)
        sub = SubObject(plan)
        piece = Piece(f"{self.code.constant(sub)}(row, links, up)", "plain")
        return Node(piece, steps=("object",), nested=(sub,))


def _not_empty(items: list[Any]) -> list[Any]:
    if not items:
        raise reject("mapping.required", None)
    return items


def field_name(name: Any, where: str) -> str:
    """A target field name as text. Raises ConfigError for one that cannot be stored."""
    try:
        shown = text.clean(text.shown(name))
    except RecordRejected as error:
        raise ConfigError("mapping.field_name", where=where, name=ascii(name)) from error
    if not shown.strip() or len(shown) > 200:
        raise ConfigError("mapping.field_name", where=where, name=shown[:80])
    return shown


def value_lines(nodes: dict[str, Node], when: Node | None, skipped: str) -> list[str]:
    """Straight-line source: one local per field, then one check over all free text."""
    lines = ["get = row.get"]
    if when is not None:
        lines.append(f"if not {when.piece.source}: return {skipped}")
    lines += [f"v{i} = {node.piece.source}" for i, node in enumerate(nodes.values())]
    free = [i for i, node in enumerate(nodes.values()) if node.piece.kind in ("text", "any")]
    if free:
        joined = "".join(f"'' if v{i} is None else v{i}, " for i in free)
        again = "; ".join(f"v{i} = COPIED(v{i})" for i in free)
        lines += [
            "try:",
            f"    text = JOIN(({joined}))",
            f"    sound = LEN(text) <= {text.MAX_TEXT} and NUL not in text and ("
            "text.isascii() or (text.encode() and NORMAL('NFC', text) == text))",
            "except NOT_TEXT:",
            "    sound = False",
            f"if not sound: {again}",
        ]
    return lines


def record_literal(nodes: dict[str, Node]) -> str:
    """Source of the output dict."""
    return "{" + ", ".join(f"{name!r}: v{i}" for i, name in enumerate(nodes)) + "}"


def record_source(nodes: dict[str, Node], when: Node | None) -> list[str]:
    """Body of a function that answers the record, or None when `when` says no."""
    return [*value_lines(nodes, when, "None"), f"return {record_literal(nodes)}"]
