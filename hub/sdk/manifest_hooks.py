"""What a manifest may say of the webhook a connector receives at `/hooks/{connection}`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hub.sdk.loading import Strict
from hub.sdk.manifest_values import Bytes, Condition, HookName, Path_, PerSecond, Seconds

SIGNED_NAMES = ("body", "timestamp", "id")
"""What the signed text may be made of."""


HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
"""The name of an HTTP header, without a colon."""
_WITHOUT_BODY = (204, 205)
MOST_BYTES = 16_000_000
"""The largest event that any database of the hub's store takes."""


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
    header: HeaderName
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    sign: str = "{body}"
    timestamp: HeaderName | None = None
    unit: Literal["s", "ms"] = "s"
    window: Seconds = 300.0
    id: HeaderName | None = None

    @field_validator("sign")
    @classmethod
    def _known_names(cls, sign: str) -> str:
        names = re.findall(r"\{([^{}]*)\}", sign)
        unknown = [name for name in names if name not in SIGNED_NAMES]
        if unknown:
            raise ValueError(f"{{{unknown[0]}}} is not one of {', '.join(SIGNED_NAMES)}")
        if "{" in re.sub(r"\{[^{}]*\}", "", sign):
            raise ValueError("a brace is not closed")
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
    header: HeaderName | None = None
    query: str | None = Field(default=None, min_length=1)
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

    header: HeaderName | None = None
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
        asked = [self.query is not None, self.token is not None]
        posted = [self.path is not None, self.match is not None]
        if not (all(asked) and not any(posted)) and not (all(posted) and not any(asked)):
            raise ValueError("give either {query, token} or {path, match}")
        return self


class Answer(Strict):
    """What the sender wants to hear when its event is safe."""

    status: int = Field(default=200, ge=200, le=299)
    body: Any = None

    @model_validator(mode="after")
    def _body_allowed(self) -> Self:
        if self.status in _WITHOUT_BODY and self.body is not None:
            raise ValueError(f"an answer with status {self.status} has no body")
        return self


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
    max_bytes: Bytes = Field(default=1_000_000, le=MOST_BYTES)
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
