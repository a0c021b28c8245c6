"""Where webhooks may go: public addresses over https, and what `hub.toml` approves besides."""

from __future__ import annotations

import re
import ssl
import threading
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import httpx

from hub.engine.deployment import WebhookSettings
from hub.sdk import tls
from hub.sdk.egress import Egress, Resolver, egress_for, system_resolver
from hub.sdk.errors import ConfigError, HubError

LONGEST_URL = 2000

_WHERE = "hub.toml: webhooks"
_STANDARD = {"https": 443, "http": 80}
_LOWEST_OPEN_PORT = 1024
# What browsers, proxies and libraries read differently, blanks and control characters included.
_ODD = re.compile(r"[\s\x00-\x20\x7f\\<>\"^`{|}]")


class Endpoints:
    """The rules for the addresses of subscriptions, and the certificates to reach them."""

    def __init__(self, settings: WebhookSettings, folder: Path) -> None:
        self.settings = settings
        self.resolve: Resolver = system_resolver
        self._plain = egress_for([], settings.allow_http, f"{_WHERE}.allow_http")
        networks = (*self._plain.networks, *settings.allow_networks)
        self.egress = Egress(self._plain.hosts, networks, public=True)
        self._ca = None if settings.ca is None else folder / settings.ca
        self._tls: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    def check(self, url: str) -> None:
        """Raises ConfigError unless a webhook may go there, every address of the host included."""
        parts = self.check_form(url)
        host, port = parts.hostname or "", _port(parts)
        try:
            found = self.egress.addresses(host, port, self.resolve)
        except OSError as error:
            reason = str(getattr(error, "strerror", None) or error)
            raise ConfigError("subscription.unresolved", host=host, reason=reason) from error
        except ConfigError as error:
            raise refused(error) from error
        if not found:
            raise ConfigError("subscription.unresolved", host=host, reason="no address")

    def check_form(self, url: str) -> SplitResult:
        """The parts of the URL. Raises ConfigError for what is refused without asking the DNS."""
        parts = _split(url)
        host, port = parts.hostname or "", _port(parts)
        listed = self._plain.allows(host, port)
        if parts.scheme == "http" and not listed:
            raise ConfigError("subscription.plain_http", url=shown(url), host=host)
        usual = port in (_STANDARD[parts.scheme], 443) or port >= _LOWEST_OPEN_PORT
        if not usual and not listed:
            raise ConfigError("subscription.port", url=shown(url), host=host, port=port)
        return parts

    def certificates(self) -> ssl.SSLContext | None:
        """What https endpoints are checked against, read once."""
        with self._lock:
            if self._tls is None:
                self._tls = tls.context(["https://"], self._ca, _WHERE)
            return self._tls


def refused(error: ConfigError) -> HubError:
    """The guard's refusal in the words of a subscription."""
    host, address = error.params.get("host"), error.params.get("address", "a disguised address")
    return ConfigError("subscription.address", host=host, address=address)


def shown(url: str) -> str:
    """The URL without its query: many hold a token there."""
    head, mark, _ = url.partition("?")
    return head + ("?…" if mark else "")


def _split(url: str) -> SplitResult:
    """The parts of a plain http(s) URL that every reader understands alike."""
    try:
        parts = urlsplit(url)
        ours = (parts.scheme, _ascii(parts.hostname or ""), _port(parts))
        other = httpx.URL(url)
        theirs = (other.scheme, other.raw_host.decode().strip("[]"), other.port)
    except (ValueError, KeyError, UnicodeError, httpx.InvalidURL):
        raise _malformed(url) from None
    same = ours == (*theirs[:2], theirs[2] or _STANDARD.get(ours[0]))
    extra = parts.username is not None or "@" in parts.netloc or "#" in url
    if not same or extra or not ours[1] or ours[2] == 0 or _ODD.search(url):
        raise _malformed(url)
    if len(url) > LONGEST_URL:
        raise ConfigError("subscription.long_url", limit=LONGEST_URL)
    return parts


def _malformed(url: str) -> ConfigError:
    return ConfigError("subscription.url", url=shown(url).rpartition("@")[2])


def _port(parts: SplitResult) -> int:
    return parts.port if parts.port is not None else _STANDARD[parts.scheme]


def _ascii(host: str) -> str:
    return host if host.isascii() else host.encode("idna").decode()
