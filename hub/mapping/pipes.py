"""The pipes and types a field may use: name, arguments, what they do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from hub.mapping import numbers, phones, text, times
from hub.mapping.results import reject
from hub.mapping.syntax import Call
from hub.sdk.errors import ConfigError
from hub.sdk.loading import suggestion

Convert = Callable[[Any], Any]
Kind = Literal["text", "number", "bool", "any", "plain"]
"""What a value is known to be: `plain` needs no further check before it is stored."""

_BOOLS: dict[Any, bool] = {
    word: flag
    for words, flag in (
        (("1", "是", "true", "yes", "y", "t", "on", "对", "有", "√", "真"), True),
        (("0", "否", "false", "no", "n", "f", "off", "错", "无", "×", "假"), False),
    )
    for word in words
}
_TAG = re.compile(r"<[^<>]{0,2000}>")


@dataclass(frozen=True, slots=True)
class Options:
    """What the long form gives a type besides its arguments."""

    zone: str | None = None
    format: str | None = None
    where: str = "zone"


@dataclass(frozen=True, slots=True)
class Step:
    """A ready step: `inline` is Python source using `{t}` for text it may shorten."""

    convert: Convert
    kind: Kind
    handles_null: bool = False
    inline: str | None = None


@dataclass(frozen=True, slots=True)
class Pipe:
    """How a pipe is built from its literal arguments, and what it gives."""

    build: Callable[..., Convert]
    args: tuple[str, ...] = ()
    optional: int = 0
    kind: Kind = "plain"
    is_type: bool = False
    handles_null: bool = False
    inline: str | None = None


def fixed(convert: Convert) -> Callable[[Options], Convert]:
    """A pipe without arguments."""
    return lambda options: convert


def on_text(change: Callable[[str], str]) -> Callable[[Options], Convert]:
    """A pipe that changes text; numbers become text first, null stays null."""
    return fixed(lambda value: change(value if value.__class__ is str else text.shown(value)))


def boolean(value: Any) -> bool | None:
    """是/否, 1/0, true/false, yes/no in any case; blank text is null."""
    if value.__class__ is bool:
        return bool(value)
    if value.__class__ is str:
        found = _BOOLS.get(value)
        if found is not None:
            return found
        word = text.halfwidth(value).strip().lower()
        if not word:
            return None
        found = _BOOLS.get(word)
    else:
        found = {"0": False, "1": True}.get(str(value))
    if found is None:
        raise reject("mapping.not_a_bool", value)
    return found


def digits(value: str) -> str:
    """The ASCII digits of a text."""
    return "".join(sign for sign in text.halfwidth(value) if "0" <= sign <= "9")


def _nfkc(value: str) -> str:
    import unicodedata

    if len(value) > text.MAX_TEXT:
        return text.clean(value)
    return unicodedata.normalize("NFKC", value)


def _default(options: Options, fallback: Any) -> Convert:
    return lambda value: value if text.filled(value) else fallback


def _truncate(options: Options, length: int) -> Convert:
    return lambda value: text.shown(value)[:length]


def replaced(value: str, old: str, new: str) -> str:
    """`value` with `old` replaced; refuses a result longer than a text may be."""
    if len(value) + value.count(old) * len(new) > 2 * text.MAX_TEXT:
        raise reject("mapping.text_too_long", value[:60], length=len(value), limit=text.MAX_TEXT)
    return value.replace(old, new)


def _replace(options: Options, old: str, new: str) -> Convert:
    if not str(old):
        raise ValueError("the text to replace must not be empty")
    return lambda value: replaced(text.shown(value), str(old), str(new))


def _split(options: Options, separator: str) -> Convert:
    if not str(separator):
        raise ValueError("the separator must not be empty")
    return lambda value: [
        part.strip() for part in text.shown(value).split(str(separator)) if part.strip()
    ]


def _join(options: Options, separator: str) -> Convert:
    def convert(value: Any) -> str:
        parts = value if isinstance(value, list | tuple) else [value]
        return str(separator).join(text.shown(part) for part in parts if text.filled(part))

    return convert


def _item(position: int) -> Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise reject("mapping.not_a_list", value)
        return value[position] if value else None

    return convert


def _null_if(options: Options, unwanted: Any) -> Convert:
    known = text.shown(unwanted)
    return lambda value: (
        None if not isinstance(value, list | dict) and text.shown(value) == known else value
    )


def _decimal(options: Options, precision: int, scale: int) -> Convert:
    if not 1 <= precision <= 38 or not 0 <= scale <= precision:
        raise ValueError("precision is 1 to 38, scale 0 to precision")
    return numbers.decimal_type(precision, scale)


def _round(options: Options, places: int = 0) -> Convert:
    if not 0 <= places <= 20:
        raise ValueError("0 to 20 places")
    return lambda value: numbers.rounded(value, places)


def _absolute(value: Any) -> Any:
    found = numbers.number(value)
    return None if found is None else abs(found)


def _moments(options: Options) -> times.Moments:
    zone = times.zone_named(options.zone, options.where) if options.zone else None
    return times.Moments(zone, options.format)


def _datetime(options: Options) -> Convert:
    return _moments(options).converter()


def _date(options: Options) -> Convert:
    zone = times.zone_named(options.zone, options.where) if options.zone else None
    return times.day_converter(_moments(options), zone)


def _as_text(value: Any) -> str:
    return text.shown(value)


def pipes() -> dict[str, Pipe]:
    """Every pipe by name; those with `is_type` may also stand behind `type:`."""
    known = {
        "trim": Pipe(on_text(str.strip), kind="text", inline="{t}.strip()"),
        "upper": Pipe(on_text(str.upper), kind="text", inline="{t}.upper()"),
        "lower": Pipe(on_text(str.lower), kind="text", inline="{t}.lower()"),
        "halfwidth": Pipe(on_text(text.halfwidth), kind="text"),
        "nfkc": Pipe(on_text(_nfkc), kind="text"),
        "strip_html": Pipe(
            on_text(lambda value: " ".join(_TAG.sub(" ", value).split())), kind="text"
        ),
        "required": Pipe(fixed(text.required), kind="any", handles_null=True),
        "default": Pipe(_default, ("value",), kind="any", handles_null=True),
        "null_if": Pipe(_null_if, ("value",), kind="any"),
        "truncate": Pipe(_truncate, ("length",), kind="text"),
        "replace": Pipe(_replace, ("old", "new"), kind="text"),
        "split": Pipe(_split, ("separator",), kind="any"),
        "join": Pipe(_join, ("separator",), kind="text"),
        "first": Pipe(fixed(_item(0)), kind="any"),
        "last": Pipe(fixed(_item(-1)), kind="any"),
        "round": Pipe(_round, ("places",), optional=1),
        "abs": Pipe(fixed(_absolute), kind="any"),
    }
    types = {
        "text": Pipe(fixed(_as_text), kind="text", inline="{t}"),
        "int": Pipe(fixed(numbers.integer)),
        "decimal": Pipe(_decimal, ("precision", "scale")),
        "bool": Pipe(fixed(boolean)),
        "date": Pipe(_date),
        "datetime": Pipe(_datetime),
        "cny": Pipe(fixed(numbers.capital_amount)),
        "phone": Pipe(fixed(phones.phone)),
        "digits": Pipe(on_text(digits)),
    }
    return known | {name: _typed(pipe) for name, pipe in types.items()}


def _typed(pipe: Pipe) -> Pipe:
    from dataclasses import replace

    return replace(pipe, is_type=True)


def step(call: Call, where: str, options: Options = Options(), *, as_type: bool = False) -> Step:
    """The step for one pipe. Raises ConfigError for an unknown name or wrong arguments."""
    known = {name: pipe for name, pipe in pipes().items() if pipe.is_type or not as_type}
    pipe = known.get(call.name)
    if pipe is None:
        raise ConfigError(
            "mapping.unknown_type" if as_type else "mapping.unknown_pipe",
            where=where,
            name=call.name,
            hint=suggestion(call.name, known),
        )
    if not len(pipe.args) - pipe.optional <= len(call.args) <= len(pipe.args):
        wanted = f"{call.name}({', '.join(pipe.args)})" if pipe.args else call.name
        raise ConfigError("mapping.pipe_arguments", where=where, call=call, wanted=wanted)
    try:
        convert = pipe.build(options, *call.args)
    except (TypeError, ValueError) as error:
        raise ConfigError("mapping.pipe_value", where=where, call=call, problem=error) from error
    return Step(convert, pipe.kind, pipe.handles_null, pipe.inline)
