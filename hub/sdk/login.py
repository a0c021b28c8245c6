"""Fetching tokens: a declared login call, a hook, or OAuth 2 client credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from hub.sdk.auth import Fetch, basic
from hub.sdk.body import MISSING, dig
from hub.sdk.connection import Connection
from hub.sdk.envelope import shape
from hub.sdk.errors import AuthError, ContractBroken, HubError
from hub.sdk.manifest import Envelope, Login, OAuth2Auth, Request, TokenAuth
from hub.sdk.reply import Reply
from hub.sdk.templates import fill, text_of


class LoginCall(Protocol):
    """A call without credentials and common parameters; refusals are AuthError."""

    def __call__(
        self,
        request: Request,
        context: Mapping[str, Any] | None = None,
        *,
        envelope: Envelope | None = None,
    ) -> Reply: ...


def fetcher(connection: Connection, call: LoginCall) -> Fetch:
    """The function that fetches a token for this connection."""
    auth = connection.manifest.auth
    if isinstance(auth, OAuth2Auth):
        return lambda: _oauth2(auth, connection, call)
    if isinstance(auth, TokenAuth) and isinstance(auth.login, Login):
        login = auth.login
        return lambda: _declared(login, auth.ttl, connection, call)
    if isinstance(auth, TokenAuth) and isinstance(auth.login, str):
        hook = auth.login
        return lambda: _hooked(hook, auth.ttl, connection, call)
    return lambda: ("", 0.0)


def _declared(
    login: Login, default: float, connection: Connection, call: LoginCall
) -> tuple[str, float]:
    vendor = connection.manifest.envelope
    envelope = Envelope(
        ok=shape(login.token, "present"),
        code=(vendor.code or vendor.ok.path) if vendor else None,
        message=vendor.message if vendor else None,
        errors=vendor.errors if vendor else [],
    )
    body = call(login.request, envelope=envelope).body
    return _text(dig(body, login.token), connection), _life(body, login.ttl, default)


def _hooked(
    hook: str, default: float, connection: Connection, call: LoginCall
) -> tuple[str, float]:
    function = connection.connector.hook(hook)
    try:
        found = function(call, connection.config)
    except HubError:
        raise
    except Exception as error:
        raise ContractBroken(
            "auth.hook", connection=connection.name, hook=hook, problem=type(error).__name__
        ) from error
    token, life = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    return _text(token, connection), default if life is None else float(life)


def _oauth2(auth: OAuth2Auth, connection: Connection, call: LoginCall) -> tuple[str, float]:
    def setting(template: str) -> str:
        value = fill(template, connection.config, connection.name)
        if value is None or value == "":
            raise AuthError("auth.empty", connection=connection.name, setting=template.strip("{}"))
        return text_of(value)

    client_id, secret = setting(auth.client_id), setting(auth.client_secret)
    form = {"grant_type": "client_credentials"}
    if auth.scope:
        form["scope"] = auth.scope
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if auth.credentials_in == "header":
        headers["Authorization"] = basic(client_id, secret)
    else:
        form |= {"client_id": client_id, "client_secret": secret}
    request = Request(post="{token_url}", headers=headers, body="{form}")
    envelope = Envelope(ok=shape("access_token", "text"), code="error", message="error_description")
    names = {"token_url": setting(auth.token_url), "form": form}
    body = call(request, names, envelope=envelope).body
    return _text(body["access_token"], connection), _life(body, "expires_in", 3600.0)


def _text(token: Any, connection: Connection) -> str:
    if isinstance(token, int) and not isinstance(token, bool):
        return str(token)
    if isinstance(token, str) and token.strip():
        return token
    raise AuthError("auth.no_token", connection=connection.name)


def _life(body: Any, path: str | None, default: float) -> float:
    """Seconds the token lives; what is not a positive number leaves the declared life."""
    value = MISSING if path is None else dig(body, path)
    try:
        life = float(str(value))
    except ValueError:
        return default
    return life if 0 < life < 10**9 else default
