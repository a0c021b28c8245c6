"""Expressions: a small part of Python, checked node by node and turned into guarded source.

Nothing of the user's text enters the generated source: names and texts become quoted constants,
operators become calls of our own helpers.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from hub.mapping import functions as lib
from hub.mapping.code import Code, Piece, path_source
from hub.mapping.patterns import matcher
from hub.mapping.pipes import Kind
from hub.mapping.syntax import Path
from hub.mapping.text import INT64, sound
from hub.sdk.errors import ConfigError
from hub.sdk.loading import suggestion

MAX_LENGTH = 2_000
MAX_NODES = 400
MAX_DEPTH = 40
MAX_DIGITS = 50

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": lib.CONTEXT.add,
    "Sub": lib.CONTEXT.subtract,
    "Mult": lib.CONTEXT.multiply,
    "Div": lib.divide,
    "FloorDiv": lib.floor_divide,
    "Mod": lib.modulo,
}
_SIGNS = {"Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">=", "Eq": "==", "NotEq": "!="}
_NAMES = {
    "Attribute": "attribute access", "Lambda": "lambda", "NamedExpr": "assignment with :=",
    "JoinedStr": "f-string", "FormattedValue": "f-string", "ListComp": "comprehension",
    "SetComp": "comprehension", "DictComp": "comprehension", "GeneratorExp": "comprehension",
    "Await": "await", "Yield": "yield", "YieldFrom": "yield", "Starred": "* argument",
    "Pow": "power **", "Dict": "dict", "Set": "set", "Slice": "slice (use slice(x, start, length))",
    "Tuple": "tuple outside of `in`", "List": "list outside of `in`",
    "MatMult": "@", "LShift": "<<", "RShift": ">>", "BitAnd": "& (use and)", "BitOr": "| (use or)",
    "BitXor": "^", "Invert": "~",
}  # fmt: skip
_ALLOWED = "names, constants, + - * / // %, comparisons, and/or/not, in, x if c else y, functions"


class _Side(NamedTuple):
    """One side of a comparison: what the user wrote and the source for it."""

    node: ast.expr
    piece: Piece


class Expression:
    """One checked expression; `emit` writes its source for a function with `row` and `up`."""

    def __init__(self, source: str, where: str, levels: int) -> None:
        if not isinstance(source, str):
            raise ConfigError("mapping.not_an_expression", where=where, value=source)
        if len(source) > MAX_LENGTH:
            raise ConfigError("mapping.spec_too_long", where=where, limit=MAX_LENGTH)
        self.source = source
        self.where = where
        self._levels = levels
        self.paths: list[Path] = []
        self._functions = lib.functions()
        self._tree = self._parse()

    def emit(self, code: Code) -> Piece:
        """Python source of the expression. Raises ConfigError for what is not allowed."""
        self.paths = []
        piece = self._emit(self._tree, code)
        safe = piece.kind in ("number", "bool") or _storable(self._tree)
        return piece._replace(kind="plain") if safe else piece

    def _parse(self) -> ast.expr:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # \d in a pattern is what its author means
                tree = ast.parse(self.source.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            problem = error.msg if isinstance(error, SyntaxError) else "too deep or not text"
            raise ConfigError(
                "mapping.expression_syntax",
                where=self.where,
                expression=self.source,
                problem=problem,
            ) from None
        nodes, depth = _measure(tree)
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ConfigError(
                "mapping.expression_size", where=self.where, nodes=MAX_NODES, depth=MAX_DEPTH
            )
        return tree

    def _refuse(self, node: ast.AST, what: str | None = None) -> ConfigError:
        kind = type(node).__name__
        return ConfigError(
            "mapping.not_allowed",
            where=self.where,
            expression=self.source,
            what=what or _NAMES.get(kind, kind),
            allowed=_ALLOWED,
        )

    def _emit(self, node: ast.expr, code: Code) -> Piece:
        write: Callable[[Any, Code], Piece] | None = getattr(self, f"_{type(node).__name__}", None)
        if write is None:
            raise self._refuse(node)
        return write(node, code)

    # --- leaves ---

    def _Constant(self, node: ast.Constant, code: Code) -> Piece:
        value = node.value
        if isinstance(value, str):
            return Piece(repr(value), "text")
        if value is None or isinstance(value, bool):
            return Piece(repr(value), "plain")
        if not isinstance(value, int | float):
            raise self._refuse(node, f"constant {value!r}")
        written = (ast.get_source_segment(self.source.strip(), node) or "").replace("_", "")
        return Piece(self._number(value, written, node, code), "number")

    def _number(self, value: float, written: str, node: ast.AST, code: Code) -> str:
        if isinstance(value, int):
            if value > INT64:
                return self._big(str(value) if value.bit_length() < 400 else "9" * 200, node, code)
            return repr(value)
        return self._big(
            written if re.fullmatch(r"[0-9.eE+-]+", written) else repr(value), node, code
        )

    def _big(self, written: str, node: ast.AST, code: Code) -> str:
        number = Decimal(written)
        if len(number.as_tuple().digits) > MAX_DIGITS or abs(number.adjusted()) > MAX_DIGITS:
            raise self._refuse(node, f"a number of more than {MAX_DIGITS} digits")
        return code.constant(number)

    def _Name(self, node: ast.Name, code: Code) -> Piece:
        if node.id.startswith("__"):
            raise self._refuse(node, f"name {node.id!r}")
        if node.id == "row" or (node.id == "parent" and self._levels):
            raise self._refuse(node, f"bare {node.id} (write {node.id}['field'])")
        return self._path(Path((node.id,)), code)

    def _Subscript(self, node: ast.Subscript, code: Code) -> Piece:
        parts: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Subscript):
            parts.append(self._key(base.slice))
            base = base.value
        if not isinstance(base, ast.Name) or base.id.startswith("__"):
            raise self._refuse(node, "subscript on something other than a name")
        parts.reverse()
        if base.id == "row":
            return self._path(Path(tuple(parts)), code)
        if base.id == "parent" and self._levels:
            up = 1
            while up < self._levels and len(parts) > 1 and parts[0] == "parent":
                up, parts = up + 1, parts[1:]
            return self._path(Path(tuple(parts), up), code)
        return self._path(Path((base.id, *parts)), code)

    def _key(self, node: ast.expr) -> str:
        sign = ""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            sign, node = "-", node.operand
        key = node.value if isinstance(node, ast.Constant) else None
        if isinstance(key, str) and not sign and len(key) <= 500:
            return key
        if type(key) is int and key < 10**9:
            return f"{sign}{key}"
        raise self._refuse(node, "subscript that is not a text or a number")

    def _path(self, path: Path, code: Code) -> Piece:
        self.paths.append(path)
        return Piece(path_source(path, code), "any")

    # --- operators ---

    def _numeric(self, node: ast.expr, code: Code) -> str:
        return self._as_number(self._emit(node, code), node, code)

    def _as_number(self, piece: Piece, node: ast.expr, code: Code) -> str:
        if piece.kind == "number":
            return piece.source
        if isinstance(node, ast.Constant):
            raise self._refuse(node, f"{ast.unparse(node)[:40]} as a number")
        return f"{code.helper(lib.as_number)}({piece.source}, {_label(node)})"

    def _BinOp(self, node: ast.BinOp, code: Code) -> Piece:
        name = type(node.op).__name__
        if name == "Add" and (self._is_text(node.left, code) or self._is_text(node.right, code)):
            left, right = self._emit(node.left, code), self._emit(node.right, code)
            call = code.helper(lib.concat)
            labels = f"{_label(node.left)}, {_label(node.right)}"
            return Piece(f"{call}({left.source}, {right.source}, {labels})", "text")
        if name not in _ARITHMETIC:
            raise self._refuse(node.op)
        call = code.shared(f"operator {name}", lambda: _ARITHMETIC[name])
        if self._is_text(node.left, code) or self._is_text(node.right, code):
            raise self._refuse(node, f"arithmetic on text ({ast.unparse(node)[:60]})")
        return Piece(
            f"{call}({self._numeric(node.left, code)}, {self._numeric(node.right, code)})", "number"
        )

    def _is_text(self, node: ast.expr, code: Code) -> bool:
        """Whether the piece is surely text, told without writing any source."""
        if isinstance(node, ast.Constant):
            return isinstance(node.value, str)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            known = self._functions.get(node.func.id)
            return known is not None and known.kind == "text"
        if isinstance(node, ast.IfExp):
            return self._is_text(node.body, code) and self._is_text(node.orelse, code)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._is_text(node.left, code) or self._is_text(node.right, code)
        return False

    def _UnaryOp(self, node: ast.UnaryOp, code: Code) -> Piece:
        if isinstance(node.op, ast.Not):
            return Piece(f"(not {self._emit(node.operand, code).source})", "bool")
        if isinstance(node.op, ast.Invert):
            raise self._refuse(node.op)
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            value = node.operand.value
            if type(value) is int and value <= INT64:
                return Piece(f"(-{value})", "number")
        call = lib.CONTEXT.minus if isinstance(node.op, ast.USub) else lib.CONTEXT.plus
        return Piece(f"{code.helper(call)}({self._numeric(node.operand, code)})", "number")

    def _BoolOp(self, node: ast.BoolOp, code: Code) -> Piece:
        pieces = [self._emit(value, code) for value in node.values]
        word = " and " if isinstance(node.op, ast.And) else " or "
        return Piece("(" + word.join(piece.source for piece in pieces) + ")", _common(pieces))

    def _IfExp(self, node: ast.IfExp, code: Code) -> Piece:
        test, body, other = (self._emit(part, code) for part in (node.test, node.body, node.orelse))
        source = f"({body.source} if {test.source} else {other.source})"
        return Piece(source, _common([body, other]))

    def _Compare(self, node: ast.Compare, code: Code) -> Piece:
        if len(node.ops) > 10:
            raise self._refuse(node, "a chain of more than ten comparisons")
        left, steps = _Side(node.left, self._emit(node.left, code)), []
        for position, (op, right_node) in enumerate(zip(node.ops, node.comparators, strict=True)):
            if isinstance(right_node, ast.Tuple | ast.List):
                right = _Side(right_node, self._choices(right_node, op, code))
            else:
                right = _Side(right_node, self._emit(right_node, code))
            shared = code.temp() if position + 1 < len(node.ops) else None
            once = right.piece._replace(source=f"({shared} := {right.piece.source})")
            steps.append(
                self._compare(left, op, _Side(right_node, once) if shared else right, code)
            )
            left = _Side(right_node, right.piece._replace(source=shared)) if shared else right
        return Piece("(" + " and ".join(steps) + ")", "bool")

    def _compare(self, left: _Side, op: ast.cmpop, right: _Side, code: Code) -> str:
        name = type(op).__name__
        negate = "not " if name.startswith("Not") else ""
        if name in ("Is", "IsNot"):
            if not (isinstance(right.node, ast.Constant) and right.node.value is None):
                raise self._refuse(op, "`is` with anything but None")
            return f"({left.piece.source} {'is' if name == 'Is' else 'is not'} None)"
        if name in ("In", "NotIn"):
            listed = isinstance(right.node, ast.Tuple | ast.List)
            call = code.helper(lib.member if listed else lib.found_in)
            return f"({negate}{call}({left.piece.source}, {right.piece.source}))"
        if name in ("Eq", "NotEq"):
            return f"({negate}{self._equal(left, right, code)})"
        return self._order(name, left, right, code)

    def _order(self, name: str, left: _Side, right: _Side, code: Code) -> str:
        kinds = (left.piece.kind, right.piece.kind)
        if "number" in kinds:
            sides = [self._as_number(side.piece, side.node, code) for side in (left, right)]
            return f"({sides[0]} {_SIGNS[name]} {sides[1]})"
        labels = [_label(side.node) for side in (left, right)]
        if "text" in kinds:
            call = code.helper(lib.as_text)
            texts = [
                f"{call}({side.piece.source}, {label})"
                for side, label in zip((left, right), labels, strict=True)
            ]
            return f"({texts[0]} {_SIGNS[name]} {texts[1]})"
        call = code.shared(f"order {name}", lambda: lib.ordering(lib.ORDER[name]))
        return f"{call}({left.piece.source}, {right.piece.source}, {labels[0]}, {labels[1]})"

    def _equal(self, left: _Side, right: _Side, code: Code) -> str:
        plain_word = any(
            isinstance(side.node, ast.Constant)
            and isinstance(side.node.value, str)
            and not re.search(r"\d", side.node.value)
            for side in (left, right)
        )
        if plain_word or (left.piece.kind == right.piece.kind == "number"):
            return f"({left.piece.source} == {right.piece.source})"
        return f"{code.helper(lib.same)}({left.piece.source}, {right.piece.source})"

    def _choices(self, node: ast.Tuple | ast.List, op: ast.cmpop, code: Code) -> Piece:
        if not isinstance(op, ast.In | ast.NotIn):
            raise self._refuse(node)
        sources = [self._choice(element, code) for element in node.elts]
        return Piece("(" + "".join(f"{source}, " for source in sources) + ")", "any")

    def _choice(self, node: ast.expr, code: Code) -> str:
        negative = isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)
        if not (isinstance(node, ast.Constant) or negative):
            raise self._refuse(node, f"{ast.unparse(node)[:40]} among literal choices")
        return self._emit(node, code).source

    # --- calls ---

    def _Call(self, node: ast.Call, code: Code) -> Piece:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name is None or node.keywords or (name not in self._functions and name != "matches"):
            known = [*self._functions, "matches"]
            hint = suggestion(name, known) if name else f"known: {', '.join(sorted(known))}"
            raise ConfigError(
                "mapping.unknown_function",
                where=self.where,
                expression=self.source,
                call=ast.unparse(node)[:80],
                hint="no keyword arguments" if name and node.keywords else hint,
            )
        if name == "matches":
            return self._matches(node, code)
        known_function = self._functions[name]
        if not known_function.low <= len(node.args) <= known_function.high:
            wanted = f"{known_function.low} to {known_function.high} arguments"
            raise ConfigError(
                "mapping.pipe_arguments",
                where=self.where,
                call=ast.unparse(node)[:80],
                wanted=wanted,
            )
        one = self._numeric if known_function.numeric else lambda arg, c: self._emit(arg, c).source
        args = ", ".join(one(arg, code) for arg in node.args)
        call = code.shared(f"function {name}", lambda: known_function.call)
        return Piece(f"{call}({args})", known_function.kind)

    def _matches(self, node: ast.Call, code: Code) -> Piece:
        if len(node.args) != 2 or not _is_string(node.args[1]):
            wanted = "matches(value, 'pattern') with a literal pattern"
            raise ConfigError(
                "mapping.pipe_arguments",
                where=self.where,
                call=ast.unparse(node)[:80],
                wanted=wanted,
            )
        pattern = ast.literal_eval(node.args[1])
        test = matcher(pattern, self.where)
        value = self._emit(node.args[0], code).source
        temp = code.temp()
        shown = code.shared("function str", lambda: lib.functions()["str"].call)
        source = f"(({temp} := {value}) is not None and {code.constant(test)}({shown}({temp})))"
        return Piece(source, "bool")


def _is_string(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _label(node: ast.expr) -> str:
    return repr(ast.unparse(node)[:60])


def _common(pieces: list[Piece]) -> Kind:
    kinds = {piece.kind for piece in pieces}
    return kinds.pop() if len(kinds) == 1 else "any"


def _storable(node: ast.expr) -> bool:
    """Whether only constants that need no check can come out (`'a' if x else 'b'`)."""
    if isinstance(node, ast.IfExp):
        return _storable(node.body) and _storable(node.orelse)
    if not isinstance(node, ast.Constant):
        return False
    try:
        return not isinstance(node.value, str) or sound(node.value)
    except UnicodeEncodeError:
        return False


def _measure(tree: ast.expr) -> tuple[int, int]:
    """Nodes and depth of a tree, without recursion."""
    count, deepest = 0, 0
    waiting: list[tuple[ast.AST, int]] = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        count, deepest = count + 1, max(deepest, depth)
        waiting.extend((child, depth + 1) for child in ast.iter_child_nodes(node))
    return count, deepest
