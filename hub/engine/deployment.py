"""A deployment: the folder with `hub.toml`, `connections.yaml`, `mappings/` and `connectors/`."""

from __future__ import annotations

import os
import secrets
import tomllib
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

import hub
from hub.sdk.errors import ConfigError
from hub.sdk.loading import Strict, load_yaml, validate
from hub.sdk.manifest_values import Seconds

SETTINGS_FILE = "hub.toml"
CONNECTIONS_FILE = "connections.yaml"

_SETTINGS = """\
# Settings of this deployment. Everything has a default; delete what you do not change.
language = "zh"              # zh or en: messages to operators
zone = "Asia/Shanghai"

[store]
url = "sqlite:///hub.db"     # or postgresql+psycopg://user:password@host/database

[api]
host = "127.0.0.1"
port = 8700

[engine]
grace = "6s"                 # without a heartbeat for so long, a process is taken for dead
jobs = 16                    # jobs of one queue that one process takes at a time

[telemetry]
# url = "sqlite:///telemetry.db"  # default: a file beside the SQLite store, or the same PostgreSQL
keep_days = 400              # readings; what is older goes to the archive, if there is one
quarantine_days = 30         # what was refused
# archive = "s3://bucket/prefix"  # or a folder: whole days as Parquet files
# bus = "nats://127.0.0.1:4222"   # for fleets: NATS JetStream before the projectors

[mqtt]
# port = 1883                # devices and gateways connect here; without a port nobody listens
# tls_port = 8883            # with certificate and key
# certificate = "server.pem"
# key = "server.key"

[hooks]
keep_bodies_days = 30        # received events, once every flow has read them
keep_ids_days = 90           # by their ids they are recognised when they are sent again
"""

_CONNECTIONS = """\
# Accounts of outside systems: NAME: {connector: ..., config: {...}}.
# A secret is `env:NAME`, `file:PATH`, or `store` after `hub connection set-secret NAME FIELD`.
# Example:
# u8:
#   connector: u8
#   config: {base_url: https://api.yonyouup.com, from_account: ..., to_account: ...,
#            app_key: ..., app_secret: env:U8_APP_SECRET, ds_sequence: 1}
{}
"""


class StoreSettings(Strict):
    url: str = "sqlite:///hub.db"


class ApiSettings(Strict):
    host: str = "127.0.0.1"
    port: int = 8700


class EngineSettings(Strict):
    """`grace` is the same in every process: it also ends transactions that stand still."""

    grace: Annotated[Seconds, Field(ge=3, le=300)] = 6.0
    jobs: int = Field(default=16, ge=1, le=256)


class WebhookSettings(Strict):
    """Where subscriptions may point besides public https addresses, and how they are served."""

    allow_http: tuple[str, ...] = ()
    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    ca: Path | None = None
    concurrent: int = Field(default=4, ge=1, le=32)
    timeout_seconds: float = Field(default=30.0, ge=0.1, le=30.0)
    keep_days: int = Field(default=30, ge=1, le=3650)


class HookSettings(Strict):
    """How long received events are kept once every flow has read them.

    Without its body an event still recognises itself when it is sent again: ids stay longer than
    any sender repeats.
    """

    keep_bodies_days: int = Field(default=30, ge=1, le=3650)
    keep_ids_days: int = Field(default=90, ge=7, le=3650)

    @model_validator(mode="after")
    def _ids_stay_longer(self) -> Self:
        if self.keep_ids_days < self.keep_bodies_days:
            raise ValueError("keep_ids_days must not be less than keep_bodies_days")
        return self


class TelemetrySettings(Strict):
    """Where readings live and how long. `parts` is fixed once messages have been kept.

    `bus_name` begins the names of its stream and subjects: one for each deployment on a server.
    """

    url: str | None = None
    inbox_url: str | None = None
    keep_days: int = Field(default=400, ge=1, le=36500)
    quarantine_days: int = Field(default=30, ge=1, le=36500)
    inbox_hours: float = Field(default=1.0, ge=0, le=720)
    projectors: int = Field(default=1, ge=0, le=16)
    parts: int = Field(default=16, ge=1, le=256)
    archive: str | None = None
    archive_endpoint: str | None = None
    bus: str | None = None
    bus_name: str = Field(default="hub", pattern=r"^[A-Za-z0-9_-]{1,40}$")


class MqttSettings(Strict):
    """The MQTT listener. Paths are relative to the deployment."""

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65535)
    tls_port: int | None = Field(default=None, ge=0, le=65535)
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    receive_maximum: int = Field(default=200, ge=1, le=65535)
    max_packet: int = Field(default=1_048_576, ge=1024, le=268_435_455)
    most_connections: int = Field(default=10_000, ge=1)

    @model_validator(mode="after")
    def _tls_is_complete(self) -> Self:
        if self.tls_port is not None and (self.certificate is None or self.key is None):
            raise ValueError("tls_port needs certificate and key")
        return self


class Settings(Strict):
    """What `hub.toml` may say."""

    language: Literal["zh", "en"] = "zh"
    zone: str = "Asia/Shanghai"
    store: StoreSettings = StoreSettings()
    api: ApiSettings = ApiSettings()
    engine: EngineSettings = EngineSettings()
    hooks: HookSettings = HookSettings()
    webhooks: WebhookSettings = WebhookSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    mqtt: MqttSettings = MqttSettings()


@dataclass(frozen=True, slots=True)
class Deployment:
    """An opened deployment folder; nothing in it has been changed."""

    folder: Path
    settings: Settings
    connections: dict[str, dict[str, Any]]

    @property
    def store_url(self) -> str:
        """The store's URL with a relative SQLite file placed in the folder."""
        url = os.environ.get("HUB_STORE_URL") or self.settings.store.url
        prefix = "sqlite:///"
        if url.startswith(prefix) and not url.startswith(prefix + "/"):
            return f"{prefix}{self.folder.resolve()}/{url.removeprefix(prefix)}"
        return url

    @property
    def telemetry_url(self) -> str:
        """Where readings live: a SQLite file beside the hub's own, or the same PostgreSQL."""
        return self._beside(self.settings.telemetry.url, "telemetry.db")

    @property
    def telemetry_inbox_url(self) -> str:
        """Where raw messages wait for the projector: a third file, or the same PostgreSQL."""
        chosen = self.settings.telemetry
        return self._beside(chosen.inbox_url or chosen.url, "telemetry-inbox.db")

    @property
    def telemetry_bus(self) -> tuple[str, str] | None:
        """URL and name of the bus, if there is one. `HUB_TELEMETRY_BUS` goes before the file, like
        `HUB_STORE_URL`: it may hold a password."""
        chosen = self.settings.telemetry
        url = os.environ.get("HUB_TELEMETRY_BUS") or chosen.bus
        return None if url is None else (url, chosen.bus_name)

    def _beside(self, url: str | None, name: str) -> str:
        prefix = "sqlite:///"
        if url is None and not self.store_url.startswith(prefix):
            return self.store_url
        return f"{prefix}{self.folder.resolve()}/{name}" if url is None else url

    @property
    def private_folder(self) -> Path:
        """Keys and tokens of this deployment, readable by its owner only."""
        return self.folder / ".hub"

    @property
    def mapping_folders(self) -> list[Path]:
        """Where mappings are looked for: the deployment, the checkout, the package's bundle."""
        package = Path(hub.__file__).parent
        places = [self.folder, package.parent, package / "bundle"]
        return [place / "mappings" for place in places if (place / "mappings").is_dir()]


def open_deployment(folder: Path, *, required: bool = True) -> Deployment:
    """Read the deployment in `folder`. Raises ConfigError naming what is wrong.

    Unless `required`, a folder without settings counts as a deployment with defaults: mappings
    and connectors can be checked anywhere.
    """
    path = folder / SETTINGS_FILE
    if required and not path.is_file():
        raise ConfigError("deployment.missing", folder=folder)
    settings = _read_settings(path) if path.is_file() else Settings()
    connections_path = folder / CONNECTIONS_FILE
    connections = load_yaml(connections_path) if connections_path.is_file() else {}
    for name, entry in connections.items():
        if not isinstance(entry, dict):
            problem = "expected {connector: NAME, config: {...}}"
            raise ConfigError(
                "yaml.value", file=connections_path, path=name, problem=problem, value=entry
            )
    return Deployment(folder, settings, connections)


def _read_settings(path: Path) -> Settings:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("deployment.toml", file=path, reason=error) from error
    return validate(Settings, raw, path)


def create_deployment(folder: Path) -> list[Path]:
    """Write a new deployment and return its files. Raises ConfigError when one is there already."""
    if (folder / SETTINGS_FILE).exists():
        raise ConfigError("deployment.exists", folder=folder)
    try:
        for place in ("mappings/flows", "mappings/lookups", "connectors", ".hub"):
            (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / ".hub").chmod(0o700)
        files = {SETTINGS_FILE: _SETTINGS, CONNECTIONS_FILE: _CONNECTIONS}
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        for name in ("master.key", "api.token"):
            write_private(folder / ".hub" / name, secrets.token_hex(32))
    except OSError as error:
        raise ConfigError("store.unwritable", file=folder, reason=error.strerror) from error
    return [folder / name for name in files]


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
