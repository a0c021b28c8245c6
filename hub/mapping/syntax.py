"""The short spelling of a field: `path | pipe | pipe(arg)`, and text with `{…}` in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hub.sdk.errors import ConfigError

MAX_SPEC = 4_000

_PATH = re.compile(r"(?:\\.|[^|\\])*", re.DOTALL)
_PIPE = re.compile(r"\|\s*([A-Za-z_]\w*)?\s*")
_ARGUMENT = re.compile(
    r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,()'"]*?))\s*(?=[,)])""", re.DOTALL
)
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?")
_WORDS: dict[str, Any] = {"null": None, "true": True, "false": False}
_ESCAPES = {"n": "\n", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Call:
    """One pipe or type with its literal arguments."""

    name: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        inner = ", ".join(repr(arg) if isinstance(arg, str) else str(arg) for arg in self.args)
        return f"{self.name}({inner})" if self.args else self.name


@dataclass(frozen=True, slots=True)
class Path:
    """A place in the source record; `up` counts how many records outwards it starts."""

    parts: tuple[str, ...]
    up: int = 0

    def __str__(self) -> str:
        return "parent." * self.up + ".".join(self.parts)


def read_pipeline(text: str, where: str, levels: int) -> tuple[Path, tuple[Call, ...]]:
    """The path and the pipes of a short field spec. Raises ConfigError."""
    if len(text) > MAX_SPEC:
        raise ConfigError("mapping.spec_too_long", where=where, limit=MAX_SPEC)
    head = _PATH.match(text)
    end = head.end() if head else 0
    return read_path(text[:end], where, levels), _read_calls(text, end, where)


def read_path(text: str, where: str, levels: int) -> Path:
    """A dotted path; `\\.` is a literal dot, `parent.` leads to the record around this one."""
    raw = _between_dots(text.strip())
    up = 0
    while up < levels and len(raw) > 1 and raw[0] == "parent":
        up, raw = up + 1, raw[1:]
    parts = tuple(re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL).strip() for part in raw)
    if not parts or not all(parts):
        raise ConfigError("mapping.bad_path", where=where, path=text)
    return Path(parts, up)


def _between_dots(text: str) -> list[str]:
    """`text` cut at its dots, escaped ones left alone."""
    parts = [""]
    for piece in re.findall(r"\\.|.", text, re.DOTALL):
        if piece == ".":
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def read_call(text: str, where: str) -> Call:
    """One `name` or `name(arg, …)`, as in `type: decimal(18,4)`."""
    calls = _read_calls("|" + text, 0, where)
    if len(calls) != 1:
        raise ConfigError("mapping.bad_pipe", where=where, text=text)
    return calls[0]


def _read_calls(text: str, position: int, where: str) -> tuple[Call, ...]:
    calls = []
    while position < len(text):
        found = _PIPE.match(text, position)
        if not found or not found[1]:
            raise ConfigError("mapping.bad_pipe", where=where, text=text[position:])
        args, position = _read_arguments(text, found.end(), where)
        calls.append(Call(found[1], args))
        position += len(text[position:]) - len(text[position:].lstrip())
    return tuple(calls)


def _read_arguments(text: str, position: int, where: str) -> tuple[tuple[Any, ...], int]:
    if not text.startswith("(", position):
        return (), position
    start = position
    args: list[Any] = []
    while not text.startswith(")", position):
        found = _ARGUMENT.match(text, position + 1)
        if not found:
            raise ConfigError("mapping.bad_pipe", where=where, text=text[start:])
        position = found.end()
        if found[3] == "" and text[position] == ")" and not args:
            break
        args.append(_literal(found))
    return tuple(args), position + 1


def _literal(found: re.Match[str]) -> Any:
    quoted = found[1] if found[1] is not None else found[2]
    if quoted is not None:
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), quoted, flags=re.DOTALL)
    word = found[3]
    if word in _WORDS:
        return _WORDS[word]
    if _NUMBER.fullmatch(word):
        return Decimal(word) if "." in word else int(word)
    return word


# --- templates --------------------------------------------------------------------------------

_HOLE = re.compile(r"\{\{|\}\}|\{((?:[^{}'\"]|'[^']*'|\"[^\"]*\")*)\}")
_FORMAT = re.compile(r"([<>^]?)(0?)([0-9]{0,3})(?:\.([0-9]{1,2})f?)?")
_COLON = re.compile(r"""(?<!\\):([^:'")]*)$""")
MAX_WIDTH = 200


@dataclass(frozen=True, slots=True)
class Layout:
    """How one value is set in a template: `{qty:>8}`, `{qty:.2f}`."""

    align: str = ""
    fill: str = " "
    width: int = 0
    places: int | None = None


Hole = tuple[str, Layout | None]


def is_template(text: str) -> bool:
    """Whether a short spec is text with `{name}` holes: an open brace before the first pipe."""
    path = _PATH.match(text)
    return bool(path) and "{" in re.sub(r"\\.", "", path[0] if path else "", flags=re.DOTALL)


def read_template(text: str, where: str) -> list[str | Hole]:
    """Literal parts and holes in order; `{{` and `}}` are braces. Raises ConfigError."""
    if len(text) > MAX_SPEC:
        raise ConfigError("mapping.spec_too_long", where=where, limit=MAX_SPEC)
    parts: list[str | Hole] = []
    position = 0
    for found in _HOLE.finditer(text):
        parts.append(_literal_part(text[position : found.start()], text, where))
        parts.append(found[0][0] if found[1] is None else _hole(found[1], text, where))
        position = found.end()
    parts.append(_literal_part(text[position:], text, where))
    return [part for part in parts if part != ""]


def _literal_part(part: str, text: str, where: str) -> str:
    if "{" in part or "}" in part:
        raise ConfigError("mapping.bad_template", where=where, text=text)
    return part


def _hole(inner: str, text: str, where: str) -> Hole:
    found = _COLON.search(inner)
    source = inner[: found.start()] if found else inner
    if not source.strip():
        raise ConfigError("mapping.bad_template", where=where, text=text)
    return (source, _layout(found[1].strip(), where) if found else None)


def _layout(form: str, where: str) -> Layout:
    found = _FORMAT.fullmatch(form)
    if not found or not form or int(found[3] or 0) > MAX_WIDTH:
        raise ConfigError("mapping.bad_format", where=where, format=form, limit=MAX_WIDTH)
    places = int(found[4]) if found[4] else None
    return Layout(
        found[1] or (">" if found[2] else ""), found[2] or " ", int(found[3] or 0), places
    )
