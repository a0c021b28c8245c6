"""Every error as RFC 9457 problem details with a stable `code`."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hub.engine.inspection import json_ready
from hub.sdk.errors import AuthError, ConfigError, ContractBroken, HubError, TransientError
from hub.sdk.messages import render

PROBLEM = "application/problem+json"
MAX_BODY = 1_000_000
"""Bytes of the largest body the API takes."""

_UNPROCESSABLE = {"connection.no_secret_field", "connection.secret_empty", "api.invalid"}

log = logging.getLogger("hub.api")


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
    body = {
        "type": f"urn:hub:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": render(code, params, language),
        "instance": path,
        "code": code,
        "params": json_ready(params),
    }
    return Response(msgspec.json.encode(body), status, headers, PROBLEM)


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


def install(app: FastAPI, default_language: str) -> None:
    """Make every error of the app a problem document."""

    def answer(request: Request, status: int, code: str, params: dict[str, Any]) -> Response:
        language = language_of(request.headers.get("accept-language", ""), default_language)
        return problem(status, code, params, path=request.url.path, language=language)

    @app.exception_handler(HubError)
    def of_hub(request: Request, error: HubError) -> Response:
        return answer(request, status_of(error), error.code, dict(error.params))

    @app.exception_handler(RequestValidationError)
    def of_request(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return answer(request, 422, "api.invalid", {"where": where, "problem": first["msg"]})

    @app.exception_handler(HTTPException)
    def of_routing(request: Request, error: HTTPException) -> Response:
        path, method = request.url.path, request.method
        codes = {404: "api.not_found", 405: "api.method", 413: "api.too_large"}
        code = codes.get(error.status_code, "api.refused")
        params = {"path": path, "method": method, "problem": error.detail, "limit": MAX_BODY}
        found = answer(request, error.status_code, code, params)
        found.headers.update(error.headers or {})
        return found

    @app.exception_handler(Exception)
    def of_surprise(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(request, 500, "api.internal", {"kind": type(error).__name__})
