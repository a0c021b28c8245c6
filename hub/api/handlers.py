"""What an error of a route is answered with."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hub.api.problems import MAX_BODY, language_of, problem, status_of
from hub.sdk.errors import HubError
from hub.store.database import is_disk_full

_STORE_RETRY_SECONDS = 5

log = logging.getLogger("hub.api")


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

    @app.exception_handler(sa.exc.OperationalError)
    def of_store(request: Request, error: sa.exc.OperationalError) -> Response:
        log.warning("%s %s: the store is away", request.method, request.url.path)
        if is_disk_full(error):
            return answer(request, HTTPStatus.INSUFFICIENT_STORAGE, "api.disk_full", {})
        found = answer(request, HTTPStatus.SERVICE_UNAVAILABLE, "api.store_away", {})
        found.headers["Retry-After"] = str(_STORE_RETRY_SECONDS)
        return found

    @app.exception_handler(Exception)
    def of_surprise(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(request, 500, "api.internal", {"kind": type(error).__name__})
