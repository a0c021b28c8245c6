"""Every error as RFC 9457 problem details with a stable `code`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from hub.engine.inspection import json_ready
from hub.sdk.errors import AuthError, ConfigError, ContractBroken, HubError, TransientError
from hub.sdk.messages import render

PROBLEM = "application/problem+json"
MAX_BODY = 1_000_000
"""Bytes of the largest body the API takes."""

_UNPROCESSABLE = {
    "api.invalid",
    "connection.no_secret_field",
    "connection.secret_empty",
    "dead_letter.after",
    "dead_letter.choice",
    "dead_letter.edit_form",
    "dead_letter.edit_key",
    "dead_letter.edit_masked",
    "dead_letter.needs_filter",
    "dead_letter.needs_flow",
    "dead_letter.no_reason",
    "dead_letter.per_second",
    "dead_letter.set_path",
    "dead_letter.time",
    "message.no_state",
    "records.ahead",
    "subscription.address",
    "subscription.entity",
    "subscription.keep",
    "subscription.long_url",
    "subscription.no_entities",
    "subscription.plain_http",
    "subscription.port",
    "subscription.state",
    "subscription.title",
    "subscription.unresolved",
    "subscription.url",
    "telemetry.aggregate",
    "telemetry.every",
    "telemetry.range",
    "telemetry.too_many_points",
    "telemetry.too_many_series",
    "telemetry.too_much",
    "telemetry.zone",
    "yaml.unknown_key",
}


def problem(
    status: int,
    code: str,
    params: dict[str, Any],
    *,
    path: str,
    language: str,
    headers: dict[str, str] | None = None,
) -> Response:
    """One error answer; `params` fill the message in any language."""
    body = problem_body(status, code, params, path=path, language=language)
    return Response(body, status, headers, PROBLEM)


def problem_body(
    status: int, code: str, params: dict[str, Any], *, path: str, language: str
) -> bytes:
    """The document of an error answer."""
    body = {
        "type": f"urn:hub:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": render(code, json_ready(params), language),
        "instance": path,
        "code": code,
        "params": json_ready(params),
    }
    return msgspec.json.encode(body)


def status_of(error: HubError) -> int:
    """The HTTP status that says who should act: the caller, an operator or the other system."""
    if error.code.endswith(".unknown") and isinstance(error, ConfigError):
        return HTTPStatus.NOT_FOUND
    if error.code in _UNPROCESSABLE:
        return 422
    if isinstance(error, ConfigError):
        return HTTPStatus.CONFLICT
    if isinstance(error, TransientError):
        return HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, AuthError | ContractBroken):
        return HTTPStatus.BAD_GATEWAY
    return HTTPStatus.INTERNAL_SERVER_ERROR


def language_of(accepted: str, default: str) -> str:
    """The language of an answer: the first one we speak in Accept-Language, else the default."""
    for word in accepted.split(","):
        name = word.strip()[:2].lower()
        if name in ("zh", "en"):
            return name
    return default
