"""Reading YAML and checking it: one clear `ConfigError` line for the first thing that is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from hub.sdk.errors import ConfigError

MAX_YAML_BYTES = 2_000_000

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Base of every model read from a file: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("yaml.missing", file=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("yaml.unreadable", file=path, reason=error) from error
    return parse_yaml(text, path)


def parse_yaml(text: str, where: Path | str) -> dict[str, Any]:
    """The mapping in YAML `text`; `where` names it in errors."""
    if len(text) > MAX_YAML_BYTES:
        raise ConfigError("yaml.too_large", file=where, limit=MAX_YAML_BYTES)
    try:
        loaded = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader subclass)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError("yaml.syntax", file=where, line=line, problem=error.problem) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError("yaml.syntax", file=where, line="?", problem=error) from error
    if not isinstance(loaded, dict):
        raise ConfigError("yaml.not_a_mapping", file=where, found=type(loaded).__name__)
    return loaded


def validate(model: type[Model], data: object, where: Path | str) -> Model:
    """`data` as `model`. Raises ConfigError for the first problem, with a suggestion for a typo."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors()
        # A misspelt key is reported as missing too; the misspelling is what helps.
        first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            unknown = str(first["loc"][-1])
            raise unknown_key(where, path, unknown, _fields_at(model, first["loc"])) from error
        problem = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            "yaml.value", file=where, path=path or "file", problem=problem, value=first["input"]
        ) from error


def unknown_key(where: Path | str, path: str, key: str, known: Iterable[str]) -> ConfigError:
    """The error for a key nobody reads, with the nearest known one."""
    return ConfigError(
        "yaml.unknown_key", file=where, path=path, key=key, hint=suggestion(key, known)
    )


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean …?` for a near miss, otherwise the list of what is known."""
    names = sorted({str(name) for name in known})
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names[:20])}" if names else "nothing is known here"


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars (`no` is a word, a date stays text) and no duplicate keys."""

    yaml_implicit_resolvers = {
        first: [
            (tag, regex)
            for tag, regex in resolvers
            if tag not in {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"}
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | bool | float):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be text or a number", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # An alias can blow a small file up to gigabytes; no file of ours needs one.
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # missing in the stubs
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Names allowed beside the last part of `path`; union tags and list positions are skipped."""
    current: list[type[BaseModel]] = [model]
    for part in path[:-1]:
        deeper = [
            inner
            for candidate in current
            if (info := candidate.model_fields.get(str(part))) is not None
            for inner in _models_in(info.annotation)
        ]
        tagged = [c for c in current if part in (c.__name__, _tag(c))]
        current = deeper or tagged or current
    return [
        info.alias or name for candidate in current for name, info in candidate.model_fields.items()
    ]


def _tag(model: type[BaseModel]) -> object:
    kind = model.model_fields.get("kind")
    return kind.default if kind else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for arg in getattr(annotation, "__args__", ()) for model in _models_in(arg)]
