"""Where a connection may connect to: an allow-list checked at resolution, for every address."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpcore
import httpx

from hub.sdk.errors import ConfigError, ContractBroken

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Sequence[str]]

HTTP = ("http", "https")
BROKERS = ("mqtt", "mqtts")
_PORTS = {"http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883}
# The only space from which global IPv6 addresses are given out. Outside lie forms that carry an
# IPv4 address inside (mapped, translated, compatible, NAT64) and old local ones (fec0::), most of
# which the standard library calls global.
_GIVEN_OUT = ipaddress.ip_network("2000::/3")
# 6to4, Teredo, the relays of 6to4, and a space for examples that is newer than Python 3.11.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text) for text in ("2002::/16", "2001::/32", "192.88.99.0/24", "3fff::/20")
)


@dataclass(frozen=True, slots=True)
class Egress:
    """The hosts (with a port, or None for any) and networks an operator approved.

    With `public` every plainly public address is approved as well.
    """

    hosts: frozenset[tuple[str, int | None]]
    networks: tuple[Network, ...] = ()
    public: bool = False

    def allows(self, host: str, port: int) -> bool:
        """Whether the name or literal address itself is approved."""
        name = _bare(host)
        if (name, port) in self.hosts or (name, None) in self.hosts:
            return True
        address = literal(name)
        return address is not None and self._in_networks(address)

    def check_url(self, url: str, where: str) -> None:
        """Refuse an address that arrived as data and leaves the approved hosts."""
        host, port = _host_port(url, where)
        if not self.allows(host, port):
            raise ContractBroken("egress.foreign_address", where=where, host=host, port=port)

    def addresses(self, host: str, port: int, resolve: Resolver) -> list[str]:
        """The checked addresses of `host`; one that is not approved refuses all of them."""
        name = _bare(host)
        if literal(name) is None and _numeric_host(name):
            raise ConfigError("egress.odd_address", host=host)
        found = list(dict.fromkeys(resolve(name, port)))
        named = self.allows(host, port)
        for text in found:
            address = ipaddress.ip_address(text.partition("%")[0])
            approved = self._in_networks(address) or (named and _reachable(address, name))
            if not approved and not (self.public and is_public(text)):
                raise ConfigError("egress.refused", host=host, port=port, address=text)
        return found

    def _in_networks(self, address: Address) -> bool:
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self.networks)


def egress_for(
    urls: Iterable[str], approved: Iterable[str], where: str, schemes: Collection[str] = HTTP
) -> Egress:
    """The allow-list of a connection: the hosts of its own URLs and what the operator added."""
    hosts: set[tuple[str, int | None]] = {_host_port(url, where, schemes) for url in urls}
    networks: list[Network] = []
    for entry in approved:
        network = _network(entry)
        if network is not None:
            networks.append(network)
        else:
            hosts.add(_entry_host(entry, where))
    return Egress(frozenset(hosts), tuple(networks))


def is_public(address: str) -> bool:
    """Whether an address that arrived as data is a plain public one (no embedded IPv4 forms)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if parsed.version == 6 and parsed not in _GIVEN_OUT:
        return False
    if any(parsed in network for network in _NOT_PUBLIC):
        return False
    return parsed.is_global and not parsed.is_multicast


def public_addresses(host: str, port: int, resolve: Resolver | None = None) -> list[str]:
    """The addresses of `host`, all of them public. Raises ContractBroken."""
    name = _bare(host)
    if literal(name) is None and _numeric_host(name):
        raise ContractBroken("egress.not_public", host=host, address=host)
    found = list(dict.fromkeys((resolve or system_resolver)(name, port)))
    for address in found:
        if not is_public(address):
            raise ContractBroken("egress.not_public", host=host, address=address)
    return found


def literal(host: str) -> Address | None:
    """The address when `host` is one in its normal form."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def system_resolver(host: str, port: int) -> list[str]:
    """Every address the machine's resolver knows."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class GuardedTransport(httpx.HTTPTransport):
    """An httpx transport that connects to checked addresses only and obeys a total deadline."""

    def __init__(
        self,
        egress: Egress,
        *,
        tls: ssl.SSLContext | None,
        connections: int,
        resolve: Resolver | None = None,
    ) -> None:
        # The parent would read certificates from the environment and build an unguarded pool.
        self.guard = Guard(egress, resolve or system_resolver)
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=5.0,
            network_backend=self.guard,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer; what follows its end is never taken for another one."""
        response = super().handle_request(request)
        response.stream = _LoneAnswer(response.stream, response.extensions["network_stream"])
        return response


class _LoneAnswer(httpx.SyncByteStream):
    """A body whose connection is not used again when bytes follow its end.

    httpcore would take them for the answer to the next request: a write would be credited with
    another one's outcome and id. It offers no way to look, so this reaches inside (contract test).
    It looks before `close` gives the connection back, for another thread may take it at once; a
    closed socket would not help, because httpcore reads on after a failed write.
    """

    def __init__(self, inner: Any, stream: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._inner
        state = self._inner._httpcore_stream._stream._connection._h11_state
        behind, _ = state.trailing_data
        if behind or self._stream.get_extra_info("is_readable"):
            state.send_failed()  # a broken exchange: `close` now closes the connection

    def close(self) -> None:
        self._inner.close()


class Guard(httpcore.NetworkBackend):
    """Opens connections to checked addresses; bounds all reads and writes of the calling thread.

    The deadline uses the machine's own clock: sockets live in real time.
    """

    def __init__(self, egress: Egress, resolve: Resolver) -> None:
        self._egress = egress
        self._resolve = resolve
        self._inner = httpcore.SyncBackend()
        self._call = threading.local()

    def begin(self, seconds: float) -> None:
        """Start the deadline of the call this thread is about to make."""
        self._call.until = time.monotonic() + seconds
        self._call.sent = False

    @property
    def sent(self) -> bool:
        """Whether a byte of the request left since `begin`."""
        return bool(getattr(self._call, "sent", False))

    def mark_sent(self) -> None:
        """Remember that bytes of the request left."""
        self._call.sent = True

    def left(self, timeout: float | None) -> float | None:
        """The smaller of `timeout` and the time left; never zero, which would mean no waiting."""
        until: float | None = getattr(self._call, "until", None)
        if until is None:
            return timeout
        remaining = until - time.monotonic()
        return remaining if timeout is None else min(timeout, remaining)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first checked address that answers."""
        try:
            addresses = self._egress.addresses(host, port, self._resolve)
        except OSError as error:
            raise httpcore.ConnectError(f"name not resolved: {error}") from error
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in addresses:
            left = self.left(timeout)
            if left is not None and left <= 0:
                raise httpcore.ConnectTimeout("deadline")
            try:
                stream = self._inner.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            return _GuardedStream(stream, self)
        raise failure

    def sleep(self, seconds: float) -> None:
        """Waiting between connection attempts of the pool (unused: it never retries)."""
        self._inner.sleep(seconds)


class _GuardedStream(httpcore.NetworkStream):
    """A stream whose every wait fits into what is left of the calling thread's deadline."""

    def __init__(self, inner: httpcore.NetworkStream, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._guard.left(timeout)
        if left is not None and left <= 0:
            raise httpcore.ReadTimeout("deadline")
        return self._inner.read(max_bytes, left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = self._guard.left(timeout)
        if left is not None and left <= 0:
            raise httpcore.WriteTimeout("deadline")
        if buffer:
            self._guard.mark_sent()
        self._inner.write(buffer, left)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._guard.left(timeout)
        if left is not None and left <= 0:
            raise httpcore.ConnectTimeout("deadline")
        return _GuardedStream(
            self._inner.start_tls(ssl_context, server_hostname, left), self._guard
        )

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


def split_url(url: str, where: str, schemes: Collection[str] = HTTP) -> SplitResult:
    """The parts of a URL with a host, http(s) unless said otherwise. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.username is not None or any(c <= " " or c == "\x7f" for c in url):
        code = "connection.bad_url" if schemes is HTTP else "connection.bad_broker_url"
        raise ConfigError(code, where=where, url=_shown(url))
    return parts


def _host_port(url: str, where: str, schemes: Collection[str] = HTTP) -> tuple[str, int]:
    parts = split_url(url, where, schemes)
    return _bare(parts.hostname or ""), parts.port or _PORTS[parts.scheme]


def _shown(url: str) -> str:
    """A URL for an error line: no query and no credentials."""
    head = url.partition("?")[0]
    return head.rpartition("@")[2] if "@" in head else head


def _bare(host: str) -> str:
    """A host as connections are opened to it: lower case, no brackets, Chinese names encoded."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return name


def _network(entry: str) -> Network | None:
    try:
        return ipaddress.ip_network(entry)
    except ValueError:
        return None


def _entry_host(entry: str, where: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{entry}")
        if parts.hostname and not parts.path and parts.username is None and "/" not in entry:
            return _bare(parts.hostname), parts.port
    except ValueError:
        pass
    raise ConfigError("egress.bad_entry", where=where, entry=entry)


def _numeric_host(host: str) -> bool:
    """`2130706433`, `0177.0.0.1`, `0x7f.1`, `127.1`: addresses in disguise."""
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True


def _reachable(address: Address, host: str) -> bool:
    """An approved name may be private, but not a multicast, unset or link-local trap."""
    if literal(host) is not None:
        return True
    mapped = getattr(address, "ipv4_mapped", None) or address
    return not (mapped.is_multicast or mapped.is_unspecified or mapped.is_link_local)
