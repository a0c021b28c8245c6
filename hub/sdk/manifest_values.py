"""Values a manifest is written with: durations, rates, sizes, names and requests."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from hub.sdk.loading import Strict

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"B": 1, "KB": 1_000, "MB": 1_000_000}


def _seconds(value: object) -> object:
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", value)):
        unit = _UNITS.get(found[2])
        if unit is None:
            raise ValueError(f"unit {found[2]!r} is not one of {', '.join(_UNITS)}")
        return float(found[1]) * unit
    return value


def seconds_of(text: str) -> float | None:
    """The seconds in a duration such as `90s` or `30d`; None when `text` is not one."""
    value = _seconds(text)
    return value if isinstance(value, float) else None


def _per_second(value: object) -> object:
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)/([a-z]+)", value)):
        unit = _UNITS.get(found[2])
        if unit is None:
            raise ValueError(f"unit {found[2]!r} is not one of {', '.join(_UNITS)}")
        return float(found[1]) / unit
    return value


def _bytes(value: object) -> object:
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+)\s*(B|KB|MB)", value)):
        return int(found[1]) * _SIZES[found[2]]
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]
"""`90s`, `5m`, `2h`, `1d` or a number of seconds."""
PerSecond = Annotated[float, BeforeValidator(_per_second), Field(gt=0)]
"""`2/s`, `100/min`, `1000/h` or a number per second."""
Bytes = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]
"""`512KB`, `50MB` or a number of bytes."""
Path_ = str
"""A dotted path into a JSON body (`data.items`, `$` for the body itself)."""
HookName = Annotated[str, Field(pattern=r"^hooks\.[a-z_][a-z0-9_]*$")]
"""A function in the connector's `hooks.py`."""


class Request(Strict):
    """One call: one method key with its path; `{name}` is filled from config and context."""

    get: str | None = None
    post: str | None = None
    put: str | None = None
    patch: str | None = None
    delete: str | None = None
    params: dict[str, Any] = {}
    headers: dict[str, str] = {}
    body: Any = None

    @model_validator(mode="after")
    def _one_method(self) -> Self:
        if len(self._methods()) != 1:
            raise ValueError("give exactly one of get, post, put, patch, delete with a path")
        return self

    def _methods(self) -> list[tuple[str, str]]:
        pairs = [(name, getattr(self, name)) for name in ("get", "post", "put", "patch", "delete")]
        return [(name.upper(), path) for name, path in pairs if path is not None]

    @property
    def method(self) -> str:
        return self._methods()[0][0]

    @property
    def path(self) -> str:
        return self._methods()[0][1]


class Condition(Strict):
    """A test on the decoded body: the value at `path` is one of `in`, or has a shape `is`."""

    path: Path_
    in_: list[Any] | None = Field(default=None, alias="in")
    is_: Literal["list", "object", "text", "number", "true", "present", "absent"] | None = Field(
        default=None, alias="is"
    )

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        if (self.in_ is None) == (self.is_ is None):
            raise ValueError("give either `in` (values) or `is` (a shape)")
        return self
