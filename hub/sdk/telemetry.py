"""What a telemetry face sees: messages in, readings out, and the hub as a `Port`.

    face (HTTP, MQTT)  → Port.admit… → Message → Port.keep → committed → thanked
    projector          → Decode of the message's format → Decoded → readings

A face is a plug-in of a connector, named in its manifest under `telemetry`. It speaks a protocol
and knows nothing of storage; what it keeps are raw messages, which its decoder reads a second time,
in another process. A decoder is a pure function: the same message always gives the same readings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

Details = Mapping[str, str]
"""What a decoder needs besides the body: precision, captures of a topic, a content type…"""

RETAINED = "retained"
"""The detail that is "1" for a message which a broker had kept: nobody knows how old it is, and it
is no sign of life of its device."""


class Sample(NamedTuple):
    """One number. `device` is "" for the sender itself; `ts` is UTC milliseconds."""

    device: str
    metric: str
    ts: int
    value: float


class Text(NamedTuple):
    """One text, or a boolean as `true`/`false` (beside its number); kept apart, never added up."""

    device: str
    metric: str
    ts: int
    text: str


class State(NamedTuple):
    """A device came or went: `online`, `offline` (said so) or `stale` (its node died)."""

    device: str
    state: str
    ts: int


class Refused(NamedTuple):
    """A part of a message that can never become a reading.

    `place` is its position in the message (line, entry; -1: all of it), `code` one of `CODES`.
    """

    place: int
    code: str
    detail: str = ""
    device: str = ""
    metric: str = ""


CODES = (
    "malformed",  # the message, or this part, is not of its format
    "invalid",  # NaN, infinity, a number outside of float64
    "no_device",  # nothing says which device this is
    "no_zone",  # a time without offset, and no zone declared
    "bad_time",  # a time that cannot be read
    "too_many",  # more readings than one message may hold
    "name",  # an empty, too long or unprintable name of a device or metric
    "clock_unset",  # earlier than 2000-01-01 (found by the hub)
    "future",  # later than the source allows (found by the hub)
    "unknown_device",  # the source takes no unknown devices (found by the hub)
    "unsupported",  # a kind of value that is kept raw only
    "no_birth",  # nothing explains the aliases of a Sparkplug message
)


@dataclass(slots=True)
class Decoded:
    """What a message holds. Readings may be plain tuples in the order of their NamedTuple.

    `attributes` holds per device what is known of it; `kinds` the device class that its gateway
    names; `last_known` readings whose time is unknown (retained messages), which are not stored as
    readings.
    """

    samples: list[Sample] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)
    last_known: list[Sample] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


Decode = Callable[[bytes, Details, int], Decoded]
"""`decode(body, details, received_at)`. Never raises for bad input: it refuses, place -1.

Readings without a time of their own get `received_at`.
"""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who a credential belongs to: a device, or a gateway that speaks for others.

    `source` names the telemetry source (its policies); `device` the device or the gateway itself.
    """

    source: str
    device: str
    gateway: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One raw message. `key` recognises it when it is sent again ("" for none)."""

    sender: Sender
    format: str
    body: bytes
    received_at: int
    details: Details = field(default_factory=dict)
    key: str = ""
    counted: bool = False
    """Ask the projector for this message's counts (`Port.counts`)."""


class Receipt(NamedTuple):
    """A message is safe. `duplicate`: it was kept before under the same key."""

    seq: int
    duplicate: bool
    part: int = 0


class Counts(NamedTuple):
    """What became of a message's readings. `accepted` counts the new and the restated."""

    accepted: int
    duplicates: int
    restated: int
    refused: int


class Port(Protocol):
    """The hub, as a face sees it. Every coroutine may be awaited from the face's event loop."""

    def now_ms(self) -> int:
        """UTC milliseconds."""

    async def admit_token(self, token: str) -> Sender | None:
        """Who holds the token; None when nobody does. Raises TransientError: the store is away."""

    async def admit_password(self, user: str, password: str) -> Sender | None: ...

    async def admit_certificate(self, fingerprint: str) -> Sender | None:
        """By the SHA-256 of the client certificate, lower-case hex."""

    async def revoked(self) -> Sequence[Sender]:
        """Whose credentials were revoked since this was asked last: a listener ends their
        connections, and whoever has another credential comes again. Raises TransientError."""

    def room(self) -> float:
        """How much of the queue is free, 1.0 … 0.0: what back-pressure goes by."""

    def keep(self, message: Message) -> Awaitable[Receipt]:
        """Durable once awaited.

        Raises TransientError (`telemetry.overload`, `.disk_full`, `.store`) when it is not kept.
        The queue is joined before this returns: messages are kept in the order of the calls.
        """

    async def counts(self, receipt: Receipt, seconds: float) -> Counts | None:
        """What the projector made of a `counted` message; None when it is not done in time."""

    async def attributes(
        self, sender: Sender, device: str, keys: Sequence[str] | None
    ) -> dict[str, Any]:
        """What the device told of itself (client attributes); `device` "" is the sender."""

    async def shared_attributes(
        self, sender: Sender, device: str, keys: Sequence[str] | None
    ) -> dict[str, Any]:
        """What operators set for the device."""

    async def refuse(self, message: Message, refused: Sequence[Refused]) -> None:
        """Quarantine a message that can never be read (acknowledged all the same); durable."""

    def count(self, face: str, outcome: str, number: int = 1) -> None:
        """For `/metrics` and the operating view: e.g. ("mqtt", "seq_gap")."""

    def source(self, name: str) -> Any:
        """The declared source (`hub.sdk.telemetry_source.TelemetrySource`)."""


# --- HTTP -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request. Header names are lower-case; `body` is unzipped (b"" before it was read).

    `path` is as it was sent, percent-encoded and without the query.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    body: bytes = b""
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpFace(Protocol):
    """A protocol over HTTP. The hub reads, limits and unzips bodies; the face gives them sense."""

    name: str
    largest: int
    """Bytes that a body may have, unzipped."""

    def takes(self, method: str, path: str) -> bool:
        """Whether the request is this face's. Asked for every request, so it must be quick."""

    async def admit(self, request: HttpRequest) -> Sender | None:
        """Check the credentials, before the body is read. Raises HubError to refuse."""

    async def answer(self, request: HttpRequest, sender: Sender | None) -> HttpAnswer:
        """Raises HubError (or lets it through) to refuse."""

    def refuse(self, request: HttpRequest, error: Exception) -> HttpAnswer:
        """The refusal in the protocol's own words, for what `admit` and `answer` raised, and for
        `telemetry.too_large`, `.gzip`, `.encoding`, `.headers`, `.slow`, `.overload`, `.disk_full`,
        `.store` and `.failed` (something unexpected)."""


# --- listeners --------------------------------------------------------------------------------


class Listener(Protocol):
    """Something that stays: a server of its own, or a client of a broker."""

    name: str

    async def start(self) -> None:
        """Raises ConfigError (port in use, unreadable certificate)."""

    async def stop(self) -> None: ...

    def status(self) -> dict[str, Any]:
        """For the operating view: connected sessions, topics, trouble."""


@dataclass(frozen=True, slots=True)
class Faces:
    """What a connector adds. `decoders`: format → decoder; names are `connector.format`."""

    http: Sequence[HttpFace] = ()
    listeners: Sequence[Listener] = ()


MakeFaces = Callable[[Port, Mapping[str, Any]], Faces]
"""`telemetry.faces` of a manifest: `make(port, settings)`; settings = `{"mqtt": {...}, "sources":
{name: TelemetrySource}, "connections": {name: resolved config}, "folder": deployment folder}`."""

Decoders = Mapping[str, Decode]
"""`telemetry.decoders` of a manifest names a module-level mapping of this type."""
