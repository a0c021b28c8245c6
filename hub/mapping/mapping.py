"""One mapping, compiled once: source record in, target record or problems out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from hub.mapping import examples
from hub.mapping.code import Code
from hub.mapping.contract import Contract, ContractCheck, ContractFinding
from hub.mapping.group import Group, read_group
from hub.mapping.keys import key_lines, record_key
from hub.mapping.library import Library
from hub.mapping.lineage import FieldLineage, Masked, describe, masked_fields, top_fields
from hub.mapping.nested import Builder, Plan, Up, record_literal, value_lines
from hub.mapping.parts import rejoined
from hub.mapping.results import Findings, Links, Mapped, Reference, Row, reject, unique
from hub.sdk.errors import ConfigError, RecordRejected
from hub.sdk.loading import suggestion, unknown_key, validate

LANGUAGE = "1"
"""Part of every version: a change of meaning of the language makes all versions new."""

_KEYS = ("key", "group", "fields", "when", "contract", "tests")
_SKIPPED = Mapped("skipped", None, None, (), ())


class Apply(Protocol):
    """Maps one record; never raises for what is in the record."""

    def __call__(self, row: Row, links: Links = ...) -> Mapped: ...


class Mapping:
    """A compiled `mapping:` block. `apply` is the function to call per record."""

    apply: Apply

    def __init__(self, spec: dict[str, Any], where: str, library: Library) -> None:
        for key in spec:
            if key not in _KEYS:
                raise unknown_key(where, str(key), str(key), _KEYS)
        self.name = self.where = where
        code = Code()
        builder = Builder(code, library.lookups, library)
        self._plan = builder.plan(spec.get("fields") or {}, spec.get("when"), where, 0)
        self.fields = tuple(self._plan.nodes)
        self.key = _key_fields(spec.get("key"), self._plan, where)
        self.group: Group | None = None
        if spec.get("group") is not None:
            self.group = read_group(spec["group"], f"{where}: group")
        self.contract = validate(Contract, spec.get("contract", {}), f"{where}: contract")
        self.source_fields = top_fields(self._plan) | (
            self.group.source_fields if self.group else frozenset()
        )
        self._check = ContractCheck(self.contract, self.source_fields)
        self._tests = examples.read(spec.get("tests", []), where)
        self.link_entities = _links_of(self._plan)
        self.has_links = bool(self.link_entities)
        self.version = _version(spec, builder, library)
        self.apply = self._compile(code)

    def _compile(self, code: Code) -> Apply:
        positions = [self.fields.index(name) for name in self.key]
        code.namespace |= {
            "MAPPED": Mapped,
            "NEW": tuple.__new__,
            "NONE": (),
            "SLASH": "\\",
            "LINKS": {},
            "FAILURE": Exception,
            "SKIPPED": _SKIPPED,
            "SLOW": self._slow,
        }
        values = value_lines(self._plan.nodes, self._plan.when_node, "SKIPPED")
        outcome = f"NEW(MAPPED, ('ok', key, {record_literal(self._plan.nodes)}, NONE, NONE))"
        lines = [
            *values,
            *key_lines(positions),
            f"return {outcome}",
        ]
        body = "\n".join(f"        {line}" for line in lines)
        code.run(
            f"def apply(row, links=LINKS):\n    up = None\n    try:\n{body}\n"
            "    except FAILURE:\n        return SLOW(row, links)\n"
        )
        made: Apply = code.namespace["apply"]
        return made

    def _slow(self, row: Row, links: Links) -> Mapped:
        """Field by field, so that every problem of the record is found."""
        findings = Findings()
        if not isinstance(row, dict):
            findings.add("record", reject("mapping.not_a_record", row))
            return _outcome(None, {}, findings)
        try:
            if not self._plan.wanted(row, links, None):
                return _SKIPPED
        except RecordRejected as error:
            findings.add("", error)
        data, found = self._plan.careful(row, links, None)
        findings.problems += found.problems
        findings.references += found.references
        key = None
        bad = {problem.field.split(".")[0].split("[")[0] for problem in findings.problems}
        if all(name in data for name in self.key):
            try:
                key = record_key(self.key, [data[name] for name in self.key])
            except RecordRejected as error:
                at = str(error.params.get("part", self.key[0]))
                if at not in bad:
                    findings.add(at, error)
        return _outcome(key, data, findings)

    def references(self, row: Row) -> Iterable[Reference]:
        """(entity, value) pairs the links of this row need; prefetch them for a whole page."""
        return unique(_references(self._plan, row, None)) if self.has_links else ()

    def contract_findings(
        self, rows: Iterable[Row], baseline: frozenset[str] | None = None
    ) -> list[ContractFinding]:
        """Changes of shape in one page; `baseline` holds the fields earlier pages had.

        A field is missing when no row of the page has it (U8 leaves null fields out of rows).
        New fields are looked for when there is a baseline or `contract.known`.
        """
        return self._check.findings(rows, baseline)

    def lineage(self) -> dict[str, FieldLineage]:
        """Per target field (`lines[].qty` for nested ones): sources, steps and lookups."""
        return dict(describe(self._plan))

    def masked(self) -> Masked:
        """The fields marked `masked: true`, on both sides."""
        return masked_fields(self._plan)

    def run_tests(self) -> list[examples.TestFailure]:
        """What the `tests:` of the mapping say; empty when all pass."""
        return examples.run(self._tests, self)

    def careful(self, row: Row, links: Links) -> tuple[Mapped, dict[str, Any]]:
        """The outcome and the fields that could be computed even when others could not."""
        mapped = self._slow(row, links)
        data = self._plan.careful(row, links, None)[0] if isinstance(row, dict) else {}
        return mapped, data


def load_mapping(spec: dict[str, Any], *, where: str, library: Library) -> Mapping:
    """The compiled mapping of a `mapping:` block. Raises ConfigError naming `where`."""
    if not isinstance(spec, dict):
        raise ConfigError("yaml.not_a_mapping", file=where, found=type(spec).__name__)
    return Mapping(spec, where, library)


def _key_fields(names: Any, plan: Plan, where: str) -> tuple[str, ...]:
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not names:
        raise ConfigError("mapping.key_form", where=where)
    for name in names:
        if name not in plan.nodes:
            hint = suggestion(str(name), plan.nodes)
            raise ConfigError("mapping.key_unknown", where=where, name=name, hint=hint)
    return tuple(names)


def _outcome(key: str | None, data: dict[str, Any], findings: Findings) -> Mapped:
    if findings.problems:
        return Mapped("rejected", key, None, tuple(findings.problems), ())
    if findings.references:
        return Mapped("held", key, None, (), unique(findings.references))
    return Mapped("ok", key, data, (), ())


def _links_of(plan: Plan) -> frozenset[str]:
    found = {link.entity for node in plan.nodes.values() for link in node.links}
    for node in plan.nodes.values():
        for nested in node.nested:
            found |= _links_of(nested.plan)
    return frozenset(found)


def _references(plan: Plan, row: Row, up: Up) -> Iterator[Reference]:
    for node in plan.nodes.values():
        for link in node.links:
            word = link.word(row, up)
            if word is not None:
                yield link.entity, word
        for nested in node.nested:
            for inner, around in nested.rows(row, up):
                yield from _references(nested.plan, inner, around)


def _version(spec: dict[str, Any], builder: Builder, library: Library) -> str:
    """A fingerprint of everything that decides what comes out; tests do not."""
    counted = {key: value for key, value in spec.items() if key not in ("tests", "contract")}
    tables = {name: library.lookups.digest(name) for name in sorted(builder.tables)}
    content = repr((LANGUAGE, _plain(counted), _plain(builder.used), sorted(tables.items())))
    return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()


def _plain(value: Any) -> Any:
    """Dicts as pairs in their order: the order of fields is the order of the output."""
    if isinstance(value, dict):
        return [(str(key), _plain(item)) for key, item in value.items()]
    return [_plain(item) for item in rejoined(value)] if isinstance(value, list) else value
