"""From the spec of one field to the source that computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from hub.mapping import text
from hub.mapping.code import Code, Piece, path_source
from hub.mapping.expressions import Expression
from hub.mapping.lookups import Lookups, LookupTable, read_lookup
from hub.mapping.parts import (
    constant,
    flag,
    laid_out,
    linker,
    plain_constant,
    rejoined,
    repaired,
    table_reader,
    template_lines,
)
from hub.mapping.pipes import Options, Step, step
from hub.mapping.results import Links
from hub.mapping.syntax import (
    Call,
    Layout,
    Path,
    is_template,
    read_call,
    read_pipeline,
    read_template,
)
from hub.sdk.errors import ConfigError
from hub.sdk.loading import unknown_key

if TYPE_CHECKING:
    from hub.mapping.nested import Nested

MAX_FIELDS = 1_000
MASKED = "masked"
"""The mark, in any long form, of a field whose content people see as `***`."""

_FORMS: dict[str, tuple[str, ...]] = {
    "from": ("type", "zone", "format", "required", "default", "lookup", "enum", "keywords"),
    "expr": ("type", "zone", "format", "required", "default", "lookup", "enum", "keywords"),
    "template": ("required", "default"),
    "value": (),
    "first": ("type", "zone", "format", "required", "default", "lookup", "enum", "keywords"),
    "each": ("mapping", "fields", "when", "required"),
    "link": ("by", "missing", "required"),
    "object": ("when",),
}


@dataclass(frozen=True, slots=True)
class LinkUse:
    """One link of a mapping: which entity, and the function that reads the value to look up."""

    entity: str
    value: Callable[[dict[str, Any], Links, Any], Any]

    def word(self, row: dict[str, Any], up: Any) -> str | None:
        """The value to look up for one record; None when there is none or it is unreadable."""
        try:
            value = self.value(row, {}, up)
            return text.clean(text.shown(value)) if text.filled(value) else None
        except Exception:  # noqa: BLE001 (the mapping itself will report it)
            return None


@dataclass(frozen=True, slots=True)
class Node:
    """One field ready to be written into a function, and what is known about its origin."""

    piece: Piece
    paths: tuple[Path, ...] = ()
    steps: tuple[str, ...] = ()
    lookups: tuple[str, ...] = ()
    links: tuple[LinkUse, ...] = ()
    nested: tuple[Nested, ...] = ()
    trimmed: bool = False
    masked: bool = False
    parts: dict[str, Node] = field(default_factory=dict)


class Fields:
    """Builds nodes for one mapping. `levels` is how many records stand around this one."""

    def __init__(self, code: Code, lookups: Lookups, nest: Nest, levels: int = 0) -> None:
        self.code = code
        self.lookups = lookups
        self.nest = nest
        self.levels = levels

    def build(self, spec: Any, where: str) -> Node:
        """The node of one field spec. Raises ConfigError."""
        if isinstance(spec, str):
            return self._template(spec, where) if is_template(spec) else self._copy(spec, where)
        if not isinstance(spec, dict):
            raise ConfigError(
                "mapping.field_form", where=where, value=spec, known=", ".join(_FORMS)
            )
        spec = repaired(spec)
        form = self._form(spec, where)
        builder: Callable[[dict[str, Any], str], Node] = getattr(self, f"_{form}_form")
        masked = flag(spec, MASKED, where)
        node = builder({key: value for key, value in spec.items() if key != MASKED}, where)
        return replace(node, masked=True) if masked else node

    def _form(self, spec: dict[str, Any], where: str) -> str:
        forms = [form for form in _FORMS if form in spec]
        if not forms:
            for key in spec:
                if key not in _FORMS["from"]:
                    raise unknown_key(where, str(key), str(key), _FORMS)
            raise ConfigError(
                "mapping.field_form", where=where, value=spec, known=", ".join(_FORMS)
            )
        allowed = (forms[0], *_FORMS[forms[0]], MASKED)
        for key in spec:
            if key not in allowed:
                raise unknown_key(where, f"{where}.{key}", str(key), allowed)
        return forms[0]

    # --- short forms ---

    def _copy(self, spec: str, where: str) -> Node:
        path, calls = read_pipeline(spec, where, self.levels)
        node = Node(Piece(path_source(path, self.code), "any"), (path,), ("copy",))
        for call in calls:
            node = self._apply(node, call, step(call, where))
        return node

    def _apply(self, node: Node, call: Call, done: Step) -> Node:
        source = self._stepped(node, call, done)
        kind = done.kind
        if call.name == "required":
            kind = node.piece.kind
        elif call.name in ("default", "null_if", "first", "last") and node.piece.kind == "plain":
            kind = "plain" if call.name != "default" or plain_constant(call.args[0]) else "any"
        trimmed = call.name == "trim" or (
            node.trimmed and call.name in ("required", "upper", "lower")
        )
        return replace(
            node, piece=Piece(source, kind), steps=(*node.steps, str(call)), trimmed=trimmed
        )

    def _stepped(self, node: Node, call: Call, done: Step) -> str:
        source, temp, name = node.piece.source, self.code.temp(), self.code.helper(done.convert)
        if call.name == "required" and node.trimmed:
            return f"({temp} if ({temp} := {source}) else {name}({temp}))"
        if done.handles_null:
            return f"{name}({source})"
        if done.inline is not None:
            quick = done.inline.format(t=temp)
            other = f"(None if {temp} is None else {name}({temp}))"
            return f"({quick} if ({temp} := {source}).__class__ is STR else {other})"
        return f"(None if ({temp} := {source}) is None else {name}({temp}))"

    # --- text with holes ---

    def _template(self, spec: str, where: str) -> Node:
        lines = [self._line(line, where) for line in spec.strip("\n").split("\n")]
        nodes = [node for line in lines for node in line[1]]
        source = lines[0][0]
        if len(lines) > 1:
            pairs = "".join(f"({line[0]}, {bool(line[1])}), " for line in lines)
            source = f"{self.code.helper(template_lines)}(({pairs}))"
        return _merged(Piece(source, "text"), nodes, f"template {spec!r}")

    def _line(self, line: str, where: str) -> tuple[str, list[Node]]:
        parts = read_template(line, where)
        literals = [part for part in parts if isinstance(part, str)]
        if len(literals) == len(parts):
            return repr(" ".join("".join(literals).split())), []
        nodes, sources = [], []
        for part in parts:
            if isinstance(part, str):
                sources.append(repr(part))
                continue
            node = self._copy(part[0], where)
            nodes.append(node)
            sources.append(self._shown(node.piece, part[1]))
        joined = f"JOIN(({''.join(f'{source}, ' for source in sources)}))"
        return f"SPACED({joined}.split())", nodes

    def _shown(self, piece: Piece, layout: Layout | None) -> str:
        temp, shown = self.code.temp(), self.code.helper(text.shown)
        if layout is None:
            return f"({temp} if ({temp} := {piece.source}).__class__ is STR else {shown}({temp}))"
        return f"{self.code.constant(laid_out(layout))}({piece.source})"

    # --- long forms ---

    def _from_form(self, spec: dict[str, Any], where: str) -> Node:
        if not isinstance(spec["from"], str):
            raise ConfigError("mapping.bad_path", where=where, path=spec["from"])
        return self._finish(self._copy(spec["from"], where), spec, where)

    def _expr_form(self, spec: dict[str, Any], where: str) -> Node:
        return self._finish(self.expression(spec["expr"], where), spec, where)

    def expression(self, source: Any, where: str) -> Node:
        """The node of an expression. Raises ConfigError for what is not allowed."""
        made = Expression(source, where, self.levels)
        piece = made.emit(self.code)
        return Node(piece, tuple(dict.fromkeys(made.paths)), (f"expr {source}",))

    def _template_form(self, spec: dict[str, Any], where: str) -> Node:
        if not isinstance(spec["template"], str):
            raise ConfigError("mapping.bad_template", where=where, text=spec["template"])
        return self._finish(self._template(spec["template"], where), spec, where)

    def _value_form(self, spec: dict[str, Any], where: str) -> Node:
        value = constant(spec["value"], where)
        if value is None or isinstance(value, str | bool | int):
            return Node(Piece(repr(value), "plain"), steps=(f"value {value!r}",))
        name = self.code.constant(value)
        kind = "any" if isinstance(value, list | dict) else "plain"
        return Node(Piece(name, kind), steps=(f"value {value}",))  # type: ignore[arg-type]

    def _first_form(self, spec: dict[str, Any], where: str) -> Node:
        choices = spec["first"]
        if not isinstance(choices, list) or not choices:
            raise ConfigError("mapping.needs_list", where=f"{where}.first", value=choices)
        nodes = [
            self.build(choice, f"{where}.first[{i}]") for i, choice in enumerate(rejoined(choices))
        ]
        source = nodes[-1].piece.source
        for node in reversed(nodes[:-1]):
            temp = self.code.temp()
            first = f"({temp} := {node.piece.source}).__class__ is STR"
            quick = f"({first} and {temp} and not {temp}.isspace())"
            source = f"({temp} if {quick} or FILLED({temp}) else {source})"
        kinds = {node.piece.kind for node in nodes}
        kind = kinds.pop() if len(kinds) == 1 else "any"
        return self._finish(_merged(Piece(source, kind), nodes, "first filled"), spec, where)

    def _finish(self, node: Node, spec: dict[str, Any], where: str) -> Node:
        """The keys every long form shares, in this order: type, table, default, required."""
        if "type" in spec:
            call = read_call(str(spec["type"]), where)
            options = self._options(spec, call, where)
            node = self._apply(node, call, step(call, where, options, as_type=True))
        elif "zone" in spec or "format" in spec:
            raise ConfigError("mapping.zone_without_type", where=where)
        tables = [key for key in ("lookup", "enum", "keywords") if key in spec]
        if len(tables) > 1:
            raise ConfigError("mapping.one_table", where=where, keys=" and ".join(tables))
        if tables:
            node = self._table(node, tables[0], spec, where)
        elif spec.get("default") is not None:
            node = self._defaulted(node, spec, where)
        if flag(spec, "required", where):
            node = self._apply(node, Call("required"), step(Call("required"), where))
        return node

    def _options(self, spec: dict[str, Any], call: Call, where: str) -> Options:
        zone, form = spec.get("zone"), spec.get("format")
        if (zone is not None or form is not None) and call.name not in ("date", "datetime"):
            raise ConfigError("mapping.zone_without_type", where=where)
        zone_name = None if zone is None else str(zone)
        return Options(zone_name, None if form is None else str(form), where)

    def _defaulted(self, node: Node, spec: dict[str, Any], where: str) -> Node:
        call = Call("default", (constant(spec["default"], where),))
        return self._apply(node, call, step(call, where))

    def _table(self, node: Node, key: str, spec: dict[str, Any], where: str) -> Node:
        if key == "keywords":
            if "default" in spec:
                raise unknown_key(where, f"{where}.default", "default", ("from", "keywords"))
            find = self.code.helper(self.lookups.keywords(spec[key], where).find)
            piece = Piece(f"{find}({node.piece.source})", "plain")
        elif key == "enum":
            table = read_lookup("enum", {"entries": spec[key]}, f"{where}.enum")
            piece = self._read_table(node.piece, table, spec, where)
        else:
            table = self.lookups.get(spec[key], where)
            piece = self._read_table(node.piece, table, spec, where)
        used = () if key == "enum" else (str(spec[key]),)
        note = "enum" if key == "enum" else f"{key} {spec[key]}"
        return replace(node, piece=piece, steps=(*node.steps, note), lookups=(*node.lookups, *used))

    def _read_table(
        self, piece: Piece, table: LookupTable, spec: dict[str, Any], where: str
    ) -> Piece:
        """A word spelled as the table spells it is found at once, others are normalized first."""
        temp, read = self.code.temp(), self.code.constant(table_reader(table, spec, where))
        entries = self.code.constant(table.entries)
        known = f"({temp} := {piece.source}).__class__ is STR and {temp} in {entries}"
        return Piece(f"({entries}[{temp}] if {known} else {read}({temp}))", "plain")

    def _link_form(self, spec: dict[str, Any], where: str) -> Node:
        missing = spec.get("missing", "hold")
        if missing not in ("hold", "null", "reject", None):
            raise ConfigError("mapping.link_missing_mode", where=where, value=missing)
        if not isinstance(spec["link"], str) or "by" not in spec:
            raise ConfigError("mapping.link_form", where=where)
        by = self.build(spec["by"], f"{where}.by")
        use = LinkUse(spec["link"], self.nest.function(by.piece))
        call = self.code.constant(linker(spec["link"], missing))
        note = f"link {spec['link']} (missing: {missing or 'null'})"
        node = _merged(Piece(f"{call}({by.piece.source}, links)", "plain"), [by], note)
        return self._finish(
            replace(node, links=(use, *node.links)),
            {k: spec[k] for k in ("required",) if k in spec},
            where,
        )

    def _each_form(self, spec: dict[str, Any], where: str) -> Node:
        return self.nest.each(self, spec, where)

    def _object_form(self, spec: dict[str, Any], where: str) -> Node:
        return self.nest.object(self, spec, where)


class Nest(Protocol):
    """What `Fields` needs from the builder of nested records (see nested.py)."""

    def function(self, piece: Piece) -> Callable[..., Any]:
        """A function (row, links, up) that computes one piece."""

    def each(self, fields: Fields, spec: dict[str, Any], where: str) -> Node:
        """The node of an `each` form."""

    def object(self, fields: Fields, spec: dict[str, Any], where: str) -> Node:
        """The node of an `object` form."""


def _merged(piece: Piece, nodes: list[Node], note: str) -> Node:
    """One node that draws on several."""
    return Node(
        piece,
        paths=tuple(dict.fromkeys(path for node in nodes for path in node.paths)),
        steps=(note, *(s for node in nodes for s in node.steps if s != "copy")),
        lookups=tuple(dict.fromkeys(name for node in nodes for name in node.lookups)),
        links=tuple(link for node in nodes for link in node.links),
        nested=tuple(plan for node in nodes for plan in node.nested),
        masked=any(node.masked for node in nodes),
    )
