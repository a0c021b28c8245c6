"""Certificates: the public ones, plus the authority a customer runs inside the house."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from hub.sdk.errors import ConfigError


def context(urls: list[str], ca: Path | None, where: str) -> ssl.SSLContext | None:
    """The TLS settings for `urls`; None (nothing loaded) when none of them is https."""
    if not any(url.lower().startswith("https:") for url in urls):
        return None
    found = httpx.create_ssl_context(trust_env=False)
    if ca is not None:
        try:
            found.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            reason = type(error).__name__
            raise ConfigError("connection.bad_ca", where=where, file=ca, reason=reason) from error
    return found
