"""Filling `{name}` in paths, parameters, headers and bodies of a manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from hub.sdk.body import MISSING, dig
from hub.sdk.errors import ConfigError
from hub.sdk.loading import suggestion

_NAME = re.compile(r"\{(\w[\w.]*)\}")


def fill(value: Any, names: Mapping[str, Any], where: str) -> Any:
    """`value` with every `{name}` replaced; a text that is exactly `{name}` keeps the type.

    `@record` and `@records` stand for the names `record` and `records` as they are.
    """
    if isinstance(value, str):
        return _fill_text(value, names, where)
    if isinstance(value, dict):
        return {key: fill(item, names, where) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, names, where) for item in value]
    return value


def fill_path(path: str, names: Mapping[str, Any], where: str) -> str:
    """A path with its names filled and quoted; a path that is one name whole stays as it is."""
    if _NAME.fullmatch(path):
        return text_of(_fill_text(path, names, where))

    def replace(found: re.Match[str]) -> str:
        value = _look_up(found[1], names, where)
        if value is None or value == "":
            raise ConfigError("http.empty_name", where=where, name=found[1])
        if value in (".", ".."):
            # Such a segment is resolved away: DELETE /orders/.. would mean DELETE /.
            raise ConfigError("http.dots", where=where, name=found[1], value=value)
        return quote(text_of(value), safe="")

    return _NAME.sub(replace, path)


def text_of(value: Any) -> str:
    """A value as it travels in a query, header or path."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    return str(value)


def _fill_text(text: str, names: Mapping[str, Any], where: str) -> Any:
    if text in ("@record", "@records"):
        return _look_up(text[1:], names, where)
    whole = _NAME.fullmatch(text)
    if whole:
        return _look_up(whole[1], names, where)

    def replace(found: re.Match[str]) -> str:
        value = _look_up(found[1], names, where)
        return "" if value is None else text_of(value)

    return _NAME.sub(replace, text)


def _look_up(name: str, names: Mapping[str, Any], where: str) -> Any:
    if name in names:
        return names[name]
    first, _, rest = name.partition(".")
    if rest and first in names and (value := dig(names[first], rest)) is not MISSING:
        return value
    raise ConfigError("http.unknown_name", where=where, name=name, hint=suggestion(name, names))
