"""A connection: one configured account of a connector, checked and with its secrets resolved."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import Field

from hub.sdk.egress import BROKERS, HTTP, Egress, egress_for, split_url
from hub.sdk.errors import ConfigError
from hub.sdk.loading import Strict, suggestion, validate
from hub.sdk.manifest import ConfigField, Manifest, OAuth2Auth
from hub.sdk.registry import Connector
from hub.sdk.templates import fill

Secrets = Callable[[str, str], str | None]
"""The secret kept in the hub's store for (connection, setting), None when there is none."""

_OPEN_PARTS = (
    "auth",
    "envelope",
    "streams",
    "sinks",
    "hook",
    "common",
    "charset",
    "media_types",
)


class Config(Mapping[str, Any]):
    """The settings of a connection. Secrets are usable but never printed."""

    def __init__(self, values: Mapping[str, Any], secrets: frozenset[str]) -> None:
        self._values = dict(values)
        self.secrets = secrets

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shown = {name: "***" if name in self.secrets else self[name] for name in self}
        return f"Config({shown})"


@dataclass(frozen=True, slots=True)
class Connection:
    """One account, ready to use. `manifest` has the overrides of the connection applied."""

    name: str
    connector: Connector
    config: Config
    manifest: Manifest
    egress: Egress
    ca: Path | None = None

    @property
    def account(self) -> str:
        """What shares rate, concurrency and token: connector and the account settings."""
        values = "\0".join(str(self.config.get(name)) for name in self.manifest.account)
        digest = hashlib.sha256(values.encode()).hexdigest()[:12]
        return f"{self.connector.name}:{digest}"

    @property
    def base_url(self) -> str:
        """The address every path is appended to, without a slash at the end."""
        return str(fill(self.manifest.base_url, self.config, self.name)).rstrip("/")

    @property
    def urls(self) -> list[str]:
        """The addresses the connection itself names."""
        return _urls(self.manifest, self.config, self.name)

    def mask(self, text: str, *more: str | None) -> str:
        """`text` with every secret of this connection (and `more`) blotted out."""
        secrets = [str(self.config[name]) for name in self.config.secrets if self.config[name]]
        return blot(text, [*secrets, *(value for value in more if value)])


def blot(text: str, secrets: list[str]) -> str:
    """`text` without the secrets, quoted and base64 forms included; longest first."""
    forms = {form for secret in secrets for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def _forms(secret: str) -> list[str]:
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return [form for form in (secret, quote(secret, safe=""), encoded) if form]


class _Spec(Strict):
    """An entry of `connections.yaml`."""

    connector: str
    config: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    egress: list[str] = []
    ca: str | None = None
    auth: dict[str, Any] | None = None
    envelope: dict[str, Any] | None = None
    streams: dict[str, Any] | None = None
    sinks: dict[str, Any] | None = None
    hook: dict[str, Any] | None = None
    common: dict[str, Any] | None = None
    charset: str | None = None
    media_types: list[str] | None = None
    title: str | None = Field(default=None, description="shown in listings")


def connector_of(name: str, spec: Mapping[str, Any]) -> str:
    """The connector that the entry `name` of `connections.yaml` asks for. Raises ConfigError."""
    return validate(_Spec, dict(spec), f"connections.yaml: {name}").connector


def manifest_of(name: str, spec: Mapping[str, Any], connector: Connector) -> Manifest:
    """What the connection `name` can do; its settings and secrets are not looked at."""
    where = f"connections.yaml: {name}"
    return _effective(validate(_Spec, dict(spec), where), connector.manifest, where)


def resolve_connection(
    name: str, spec: Mapping[str, Any], connector: Connector, secrets: Secrets
) -> Connection:
    """The connection `name` of `connections.yaml`. Raises ConfigError, one line."""
    where = f"connections.yaml: {name}"
    entry = validate(_Spec, dict(spec), where)
    manifest = _effective(entry, connector.manifest, where)
    schemes = HTTP if manifest.telemetry is None else BROKERS
    config = _settings(name, where, entry.config, manifest.config, secrets, schemes)
    egress = egress_for(_urls(manifest, config, where), entry.egress, where, schemes)
    ca = Path(entry.ca) if entry.ca else None
    if ca is not None and not ca.is_file():
        raise ConfigError("connection.no_ca", where=where, file=ca)
    return Connection(name, connector, config, manifest, egress, ca)


def _urls(manifest: Manifest, config: Config, where: str) -> list[str]:
    urls = [str(fill(manifest.base_url, config, where))]
    if isinstance(manifest.auth, OAuth2Auth):
        urls.append(str(fill(manifest.auth.token_url, config, where)))
    return urls


def _effective(entry: _Spec, manifest: Manifest, where: str) -> Manifest:
    """The manifest with the parts a connection may set: limits always, the rest when it is open."""
    given = {part: getattr(entry, part) for part in _OPEN_PARTS if getattr(entry, part) is not None}
    if given and not manifest.open:
        part = next(iter(given))
        raise ConfigError("connection.closed", where=where, part=part, connector=manifest.connector)
    data = manifest.model_dump(by_alias=True, exclude_unset=True)
    for part in ("streams", "sinks"):
        if part in given:
            given[part] = {**data.get(part, {}), **given[part]}
    data.update(given)
    data["limits"] = {**data.get("limits", {}), **entry.limits}
    effective = validate(Manifest, data, where)
    speaks_http = bool(effective.streams or effective.sinks)
    else_useful = effective.hook is not None or effective.telemetry is not None
    if effective.envelope is None and (speaks_http or not else_useful):
        raise ConfigError("connection.no_envelope", where=where)
    return effective


def _settings(
    name: str,
    where: str,
    given: Mapping[str, Any],
    fields: Mapping[str, ConfigField],
    secrets: Secrets,
    schemes: Collection[str],
) -> Config:
    for key in given:
        if key not in fields:
            raise ConfigError(
                "connection.unknown_setting", where=where, key=key, hint=suggestion(key, fields)
            )
    values = {}
    for key, field in fields.items():
        value = given.get(key, field.default)
        if field.type == "secret":
            values[key] = _secret(name, where, key, value, field, secrets)
        elif value is not None and value != "":
            values[key] = _typed(where, key, value, field, schemes)
        elif field.optional:
            values[key] = None
        else:
            raise ConfigError(
                "connection.missing_setting", where=where, key=key, help=field.help or ""
            )
    return Config(values, frozenset(k for k, field in fields.items() if field.type == "secret"))


def _typed(where: str, key: str, value: Any, field: ConfigField, schemes: Collection[str]) -> Any:
    if field.type == "url":
        split_url(str(value), f"{where}: {key}", schemes)
        return str(value)
    if field.type == "int":
        if isinstance(value, bool) or not str(value).strip().lstrip("-").isdecimal():
            raise ConfigError("connection.not_a_number", where=where, key=key, value=value)
        return int(value)
    if field.type == "bool":
        if not isinstance(value, bool):
            raise ConfigError("connection.not_a_switch", where=where, key=key, value=value)
        return value
    return str(value)


def _secret(
    name: str, where: str, key: str, value: Any, field: ConfigField, secrets: Secrets
) -> str | None:
    """The secret behind `env:NAME`, `file:PATH` or `store`; the reference itself may be shown."""
    kind, _, target = str(value if value is not None else "").partition(":")
    found: str | None
    if kind == "env" and target:
        found = os.environ.get(target)
        if not found:
            raise ConfigError("connection.secret_env", where=where, key=key, variable=target)
    elif kind == "file" and target:
        found = _secret_file(where, key, Path(target))
    elif kind in ("store", "") and not target:
        found = secrets(name, key)
        if not found and (kind == "store" or not field.optional):
            raise ConfigError("connection.secret_store", where=where, key=key, connection=name)
    else:
        raise ConfigError("connection.secret_plain", where=where, key=key, connection=name)
    return found or None


def _secret_file(where: str, key: str, path: Path) -> str:
    try:
        text = path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = type(error).__name__
        raise ConfigError(
            "connection.secret_file", where=where, key=key, file=path, reason=reason
        ) from None
    if not text:
        raise ConfigError(
            "connection.secret_file", where=where, key=key, file=path, reason="it is empty"
        )
    return text
