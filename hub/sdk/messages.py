"""Operator-facing text: one template per error code and language, in `locale/*.yaml`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

LANGUAGES = ("en", "zh")

# Many files of our own: the parser in Python needs a quarter of a second of every start.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def render(code: str, params: dict[str, object], language: str) -> str:
    """The message of `code`, one line; a code without a template prints itself and its params."""
    template = templates(language).get(code)
    if template is None:
        return " ".join([code, *(f"{name}={value!r}" for name, value in params.items())])
    values = {name: _one_line(value) for name, value in params.items()}
    return template.format_map(_Gaps(values))


@cache
def templates(language: str) -> dict[str, str]:
    """Every known code with its template in `language`."""
    found: dict[str, str] = {}
    for path in sorted((Path(__file__).parent / "locale").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        loaded = yaml.load(text, Loader=_LOADER)  # noqa: S506 (a safe one)
        for code, texts in (loaded or {}).items():  # a file of comments only is None
            found[code] = texts[language]
    return found


class _Gaps(dict[str, str]):
    """A missing parameter prints as `?` so that an error never hides behind a KeyError."""

    def __missing__(self, key: str) -> str:
        return "?"


def _one_line(value: object, limit: int = 200) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
