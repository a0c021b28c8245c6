"""The ways of authentication a manifest may declare."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hub.sdk.loading import Strict
from hub.sdk.manifest_values import HookName, Path_, Request, Seconds


class NoAuth(Strict):
    kind: Literal["none"] = "none"


class ApiKeyAuth(Strict):
    kind: Literal["api_key"]
    header: str | None = None
    query: str | None = None
    value: str = "{api_key}"

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.header is None) == (self.query is None):
            raise ValueError("give either header or query")
        return self


class BearerAuth(Strict):
    kind: Literal["bearer"]
    token: str = "{token}"  # noqa: S105 (a placeholder)


class BasicAuth(Strict):
    kind: Literal["basic"]
    username: str = "{username}"
    password: str = "{password}"  # noqa: S105 (a placeholder)


class SendToken(Strict):
    """Where a fetched token travels."""

    query: str | None = None
    header: str | None = None
    prefix: str = ""


class Login(Strict):
    """A declarative login call: where the token and its life (seconds) stand in the answer."""

    request: Request
    token: Path_
    ttl: Path_ | None = None


class TokenAuth(Strict):
    """A token fetched by a login call and shared by all users of the account."""

    kind: Literal["token"]
    login: Login | HookName
    send: SendToken
    ttl: Seconds = 3600.0


class HmacAuth(Strict):
    """Each request is signed. `sign` may use {method} {path} {query} {timestamp} {nonce} {body}
    {body_sha256} and config names; `headers`/`params` may also use {signature}."""

    kind: Literal["hmac"]
    secret: str = "{secret}"  # noqa: S105 (a placeholder)
    algorithm: Literal["sha1", "sha256", "sha512", "md5"] = "sha256"
    encoding: Literal["hex", "HEX", "base64"] = "hex"
    timestamp: Literal["s", "ms", "iso"] = "s"
    sign: str
    headers: dict[str, str] = {}
    params: dict[str, str] = {}


class OAuth2Auth(Strict):
    """OAuth 2 client credentials (RFC 6749 §4.4)."""

    kind: Literal["oauth2"]
    token_url: str = "{token_url}"  # noqa: S105 (a placeholder)
    client_id: str = "{client_id}"
    client_secret: str = "{client_secret}"  # noqa: S105 (a placeholder)
    scope: str | None = None
    credentials_in: Literal["header", "body"] = "header"


Auth = Annotated[
    NoAuth | ApiKeyAuth | BearerAuth | BasicAuth | TokenAuth | HmacAuth | OAuth2Auth,
    Field(discriminator="kind"),
]
