"""What a manifest may say of the webhook a connector receives at `/hooks/{connection}`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hub.sdk.loading import Strict
from hub.sdk.manifest_values import Bytes, Condition, HookName, Path_, PerSecond, Seconds

SIGNED_NAMES = ("body", "timestamp", "id")
"""What the signed text may be made of."""


class Keyed(Strict):
    """A way of verification with a secret: the names of settings of type secret.

    While both are set, what either of them signed is accepted: secrets can be changed without
    losing an event.
    """

    secret: str = "hook_secret"  # noqa: S105 (the name of a setting)
    old_secret: str | None = None

    @property
    def secret_fields(self) -> list[str]:
        return [self.secret, *([self.old_secret] if self.old_secret else [])]


class HmacVerify(Keyed):
    """An HMAC over the text `sign`, which is made of {body}, {timestamp} and {id}.

    `timestamp` and `id` name headers. A timestamp must be part of the signed text and within
    `window` of our clock, earlier or later.
    """

    kind: Literal["hmac"]
    header: str
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    sign: str = "{body}"
    timestamp: str | None = None
    unit: Literal["s", "ms"] = "s"
    window: Seconds = 300.0
    id: str | None = None

    @field_validator("sign")
    @classmethod
    def _known_names(cls, sign: str) -> str:
        names = re.findall(r"\{([^{}]*)\}", sign)
        unknown = [name for name in names if name not in SIGNED_NAMES]
        if unknown:
            raise ValueError(f"{{{unknown[0]}}} is not one of {', '.join(SIGNED_NAMES)}")
        if "body" not in names:
            raise ValueError("the signed text must hold {body}")
        return sign

    @model_validator(mode="after")
    def _signed_parts(self) -> Self:
        for name, header in (("timestamp", self.timestamp), ("id", self.id)):
            if (header is not None) != (f"{{{name}}}" in self.sign):
                raise ValueError(f"`{name}` must name a header exactly when `sign` has {{{name}}}")
        return self


class StandardVerify(Keyed):
    """Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`."""

    kind: Literal["standard_webhooks"]
    window: Seconds = 300.0


class TokenVerify(Keyed):
    """The secret itself, in a header or in the query. Only for senders that cannot sign."""

    kind: Literal["token"]
    header: str | None = None
    query: str | None = None
    prefix: str = ""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.header is None) == (self.query is None):
            raise ValueError("give either header or query")
        return self


Verify = (
    Annotated[HmacVerify | StandardVerify | TokenVerify, Field(discriminator="kind")] | HookName
)


class EventId(Strict):
    """Where the sender's own id of an event stands. Without one, the content names the event."""

    header: str | None = None
    path: Path_ | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.header is None) == (self.path is None):
            raise ValueError("give either header or path")
        return self


class Challenge(Strict):
    """How the sender proves that the address is ours: a value it wants to have back.

    In a GET as parameter `query`, beside our secret as parameter `token`; or at `path` of a
    verified body that passes `match`. `reply` is the field of the JSON answer, else it is text.
    """

    query: str | None = None
    token: str | None = None
    path: Path_ | None = None
    match: Condition | None = None
    reply: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        asked = self.query is not None and self.token is not None
        posted = self.path is not None and self.match is not None
        if asked == posted or (self.query is None) != (self.token is None):
            raise ValueError("give either {query, token} or {path, match}")
        return self


class Answer(Strict):
    """What the sender wants to hear when its event is safe."""

    status: int = Field(default=200, ge=200, le=299)
    body: Any = None


class Event(Strict):
    """A kind of event: the bodies that pass `match` (all without it), and the records in them.

    `data` is the path of one object or of a list; `deleted` tells records that are gone.
    """

    match: Condition | None = None
    data: Path_ = "$"
    key: list[str] = Field(min_length=1)
    deleted: Condition | None = None


class Hook(Strict):
    """The webhook of a connector. `rate` is per connection and process; more is answered 429."""

    verify: Verify
    event_id: EventId | None = None
    max_bytes: Bytes = 1_000_000
    rate: PerSecond = 1000.0
    challenge: Challenge | None = None
    answer: Answer = Answer()
    events: dict[str, Event] = Field(min_length=1)

    @property
    def secret_fields(self) -> list[str]:
        """The settings that hold its secrets."""
        return [] if isinstance(self.verify, str) else self.verify.secret_fields

    @model_validator(mode="after")
    def _asked_with_a_secret(self) -> Self:
        asked = self.challenge is not None and self.challenge.query is not None
        if asked and isinstance(self.verify, str):
            raise ValueError("a challenge in the query needs a `verify` with a secret")
        return self
