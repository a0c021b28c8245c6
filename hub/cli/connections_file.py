"""Adding an entry to `connections.yaml` without touching what stands there."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hub.engine.deployment import CONNECTIONS_FILE, SETTINGS_FILE
from hub.sdk.errors import ConfigError
from hub.sdk.loading import parse_yaml, suggestion
from hub.sdk.manifest import ConfigField

if TYPE_CHECKING:
    from hub.engine.inspection import Inspection

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def add_connection(
    inspection: Inspection, folder: Path, name: str, connector: str, settings: Sequence[str]
) -> dict[str, Any]:
    """Write the entry. Raises ConfigError, and leaves the file alone, when it would not work."""
    path = folder / CONNECTIONS_FILE
    if not (folder / SETTINGS_FILE).is_file():
        raise ConfigError("deployment.missing", folder=folder)
    if not _NAME.fullmatch(name):
        raise ConfigError("connection.name_form", name=name)
    if name in inspection.deployment.connections:
        raise ConfigError("connection.exists", name=name, file=path)
    manifest = inspection.discovery.get(connector).manifest
    config = _config(name, _pairs(settings), manifest.config)
    entry: dict[str, Any] = {"connector": connector}
    if config:
        entry["config"] = config
    _append(path, name, entry)
    stored = [
        field
        for field, declared in manifest.config.items()
        if declared.type == "secret" and config.get(field) == "store"
    ]
    return {
        "name": name,
        "connector": connector,
        "file": str(path),
        "config": config,
        "stored_secrets": stored,
        "open": manifest.open and manifest.envelope is None,
    }


def _pairs(settings: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key:
            # The value may be a secret that was pasted in the wrong place: show the name only.
            raise ConfigError("connection.set_form", value=key[:20])
        pairs[key] = value
    return pairs


def _config(name: str, given: dict[str, str], fields: dict[str, ConfigField]) -> dict[str, Any]:
    where = f"{CONNECTIONS_FILE}: {name}"
    for key in given:
        if key not in fields:
            hint = suggestion(key, fields)
            raise ConfigError("connection.unknown_setting", where=where, key=key, hint=hint)
    config: dict[str, Any] = {}
    for key, field in fields.items():
        if key in given:
            config[key] = _typed(name, where, key, given[key], field)
        elif field.type == "secret" and not field.optional:
            config[key] = "store"
        elif field.default is None and not field.optional:
            help_text = field.help or f"(--set {key}=VALUE)"
            raise ConfigError("connection.missing_setting", where=where, key=key, help=help_text)
    return config


def _typed(name: str, where: str, key: str, value: str, field: ConfigField) -> Any:
    if field.type == "secret":
        reference = value == "store" or re.fullmatch(r"(env|file):.+", value)
        if not reference:
            raise ConfigError("connection.secret_plain", where=where, key=key, connection=name)
    if field.type == "int":
        if not re.fullmatch(r"-?\d+", value.strip()):
            raise ConfigError("connection.not_a_number", where=where, key=key, value=value)
        return int(value)
    if field.type == "bool":
        if value not in ("true", "false"):
            raise ConfigError("connection.not_a_switch", where=where, key=key, value=value)
        return value == "true"
    if field.type == "url" and not re.match(r"https?://[^/]", value):
        raise ConfigError("connection.bad_url", where=f"{where}: {key}", url=value)
    return value


def _append(path: Path, name: str, entry: dict[str, Any]) -> None:
    """Put the entry behind the present text; comments and order stay."""
    text = path.read_text(encoding="utf-8") if path.is_file() else "{}\n"
    before = parse_yaml(text, path)
    kept = re.sub(r"(?m)^\{\}[ \t]*$\n?", "", text) if not before else text
    block = yaml.safe_dump({name: entry}, allow_unicode=True, sort_keys=False)
    after = f"{kept.rstrip()}\n\n{block}" if kept.strip() else block
    try:
        same = parse_yaml(after, path) == {**before, name: entry}
    except ConfigError:
        same = False
    if not same:
        raise ConfigError("connection.not_appendable", file=path)
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(after, encoding="utf-8")
        os.replace(fresh, path)  # noqa: PTH105 (atomic on every system)
    except OSError as error:
        raise ConfigError("store.unwritable", file=path, reason=error.strerror) from error
