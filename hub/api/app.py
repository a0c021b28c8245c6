"""The machine API: health, metrics, and the operations of the hub under /v1."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, FastAPI, Query
from pydantic import BaseModel, ConfigDict, SecretStr
from starlette.responses import PlainTextResponse, Response

from hub.api import problems
from hub.api.gatekeeper import Gatekeeper
from hub.engine.hub import Hub
from hub.engine.operations import LocalOperations, Operations
from hub.engine.statistics import engine_ready, prometheus_text
from hub.sdk.errors import ConfigError

TITLE = "Integration hub"

Limit = Annotated[int, Query(ge=1, description="How many at most; more than 1000 gives 1000.")]


class StartRun(BaseModel):
    """How to start a run."""

    model_config = ConfigDict(extra="forbid")

    full: bool = False


class SecretValue(BaseModel):
    """A secret to keep."""

    model_config = ConfigDict(extra="forbid")

    value: SecretStr


def create_app(hub: Hub) -> FastAPI:
    """The ASGI app over an opened hub. Routes are plain functions: they run on worker threads."""
    language = hub.deployment.settings.language
    app = FastAPI(title=TITLE, version="1", docs_url=None, redoc_url=None)
    problems.install(app, language)
    app.add_middleware(Gatekeeper, token=_token(hub), language=language)
    operations = LocalOperations(hub)
    app.include_router(_health(hub))
    for router in (_connections(operations), _flows(operations), _data(operations)):
        app.include_router(router, prefix="/v1")
    return app


def _token(hub: Hub) -> str:
    path = hub.deployment.private_folder / "api.token"
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("server.no_token", file=path) from error
    if not token:
        raise ConfigError("server.no_token", file=path)
    return token


def _json(data: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(data), status, media_type="application/json")


def _items(rows: list[dict[str, Any]]) -> Response:
    return _json({"items": rows})


def _health(hub: Hub) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/livez", response_class=PlainTextResponse)
    async def livez() -> str:
        """The process answers; touches nothing else."""
        return "ok"

    @router.get("/readyz")
    def readyz() -> Response:
        """Whether the database answers and jobs are worked on; 503 otherwise."""
        ready = engine_ready(hub)
        return _json(ready, 200 if all(ready.values()) else 503)

    @router.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(prometheus_text(hub), media_type="text/plain; version=0.0.4")

    return router


def _connections(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["connections"])

    @router.get("/connectors")
    def connectors() -> Response:
        """Every connector found."""
        return _items(operations.connectors())

    @router.get("/connections")
    def connections() -> Response:
        """The configured accounts."""
        return _items(operations.connections())

    @router.post("/connections/{name}/check")
    def check(name: str) -> Response:
        """Try a connection; reads only."""
        return _json(operations.check_connection(name))

    @router.put("/connections/{name}/secrets/{field}")
    def set_secret(name: str, field: str, body: SecretValue) -> Response:
        """Keep a secret, encrypted."""
        return _json(operations.set_secret(name, field, body.value.get_secret_value()))

    @router.get("/doctor")
    def doctor() -> Response:
        """What an operator should know."""
        return _json(operations.doctor())

    return router


def _flows(operations: LocalOperations) -> APIRouter:
    router = APIRouter(tags=["flows"])

    @router.get("/flows")
    def flows() -> Response:
        """Every flow found."""
        return _items(operations.flows())

    @router.get("/flows/{flow}")
    def one_flow(flow: str) -> Response:
        """One flow with its run that is on its way."""
        return _json({**operations.flow(flow), "unfinished": operations.unfinished(flow)})

    @router.post("/flows/{flow}/runs", status_code=202)
    def start_run(flow: str, body: StartRun | None = None) -> Response:
        """Start a run, or go on with the one that is on its way."""
        return _json(operations.start_run(flow, full=body is not None and body.full), 202)

    @router.get("/runs")
    def runs(flow: str | None = None, limit: Limit = 20) -> Response:
        """The newest runs."""
        return _items(operations.runs(flow, limit))

    @router.get("/runs/{run_id}")
    def one_run(run_id: int) -> Response:
        """One run."""
        return _json(operations.run(run_id))

    return router


def _data(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["data"])

    @router.get("/records/{entity}")
    def records(
        entity: str, since: Annotated[int, Query(ge=0)] = 0, limit: Limit = 100
    ) -> Response:
        """Records in the order of their changes; ask again with `since` = `next`."""
        return _json(operations.records(entity, since, limit))

    @router.get("/records/{entity}/count")
    def count(entity: str) -> Response:
        """How many live records the entity has."""
        return _json(operations.count_records(entity))

    @router.get("/dead-letters")
    def dead_letters(flow: str | None = None, state: str = "open", limit: Limit = 20) -> Response:
        """Records and deliveries a person must look at; `state` open, resolved or all."""
        return _items(operations.dead_letters(flow, None if state == "all" else state, limit))

    @router.get("/dead-letters/{letter_id}")
    def one_letter(letter_id: str) -> Response:
        """One dead letter with its payload."""
        return _json(operations.dead_letter(letter_id))

    return router
