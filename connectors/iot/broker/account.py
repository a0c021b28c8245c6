"""Where a broker is and how to be let in."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hub.sdk.errors import ConfigError

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Account:
    """A broker as its connection names it; `tls` is None on a plain line."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)


class Accounts:
    """The accounts of the deployment, by connection."""

    def __init__(self, connections: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
        self._connections = connections
        self._folder = folder

    def of(self, connection: str, source: str) -> Account:
        """Raises ConfigError."""
        if connection not in self._connections:
            raise ConfigError("telemetry.broker_connection", source=source, connection=connection)
        return account_of(connection, self._connections[connection], self._folder)


def account_of(name: str, config: Mapping[str, Any], folder: Path) -> Account:
    """The account of a connection. Raises ConfigError; relative files are in `folder`."""
    url = str(config.get("url") or "")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in _PORTS:
        raise ConfigError("telemetry.broker_url", connection=name, url=url.rpartition("@")[2])
    tls = _tls(name, config, folder) if parts.scheme == "mqtts" else None
    return Account(
        host, port or _PORTS[parts.scheme], tls, config.get("username"), config.get("password")
    )


def _tls(name: str, config: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    """The system's authorities, and the one of the connection; a client certificate if given."""
    context = ssl.create_default_context()
    ca, certificate, key = (config.get(part) for part in ("ca", "certificate", "key"))
    try:
        if ca:
            context.load_verify_locations(folder / ca)
        if certificate:
            context.load_cert_chain(folder / certificate, folder / key if key else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError("telemetry.broker_tls", connection=name, reason=error) from error
    return context
