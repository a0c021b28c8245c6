"""The machine API: health, metrics, and the operations of the hub under /v1."""

from __future__ import annotations

from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from hub.api import handlers
from hub.api.documented import PROBLEMS, describe_hooks
from hub.api.front import Front
from hub.api.gatekeeper import Gatekeeper
from hub.api.hooks import HookEdge
from hub.api.routes.answers import plain_query
from hub.api.routes.audit import audit_routes
from hub.api.routes.connections import connection_routes
from hub.api.routes.devices import device_routes
from hub.api.routes.flows import flow_routes
from hub.api.routes.health import health_routes
from hub.api.routes.inbox import inbox_routes
from hub.api.routes.letters import letter_routes
from hub.api.routes.records import record_routes
from hub.api.routes.subscriptions import subscription_routes
from hub.api.routes.telemetry_queries import telemetry_query_routes
from hub.api.routes.verifications import verify_routes
from hub.api.routes.workers import worker_routes
from hub.engine.hub import Hub
from hub.engine.operations import LocalOperations
from hub.sdk.errors import ConfigError

TITLE = "Integration hub"


def create_app(hub: Hub, front: Front | None = None) -> ASGIApp:
    """All that an opened hub answers: webhooks, telemetry (with a `front`), and the API."""
    api: ASGIApp = create_api(hub)
    inner = api if front is None else front.edge(api)
    return HookEdge(inner, hub, hub.deployment.settings.language)


def create_api(hub: Hub) -> FastAPI:
    """The API alone. Routes are plain functions: they run on worker threads."""
    language = hub.deployment.settings.language
    app = FastAPI(
        title=TITLE,
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would answer with an address made of the Host header
        responses=PROBLEMS,
        dependencies=[Depends(plain_query)],
    )
    describe_hooks(app)
    handlers.install(app, language)
    app.add_middleware(Gatekeeper, token=_token(hub), language=language)
    operations = LocalOperations(hub)
    app.include_router(health_routes(hub))
    app.include_router(subscription_routes(operations), prefix="/v1")
    for routes in (
        connection_routes,
        flow_routes,
        verify_routes,
        record_routes,
        letter_routes,
        inbox_routes,
        audit_routes,
        device_routes,
        telemetry_query_routes,
    ):
        app.include_router(routes(operations), prefix="/v1")
    app.include_router(worker_routes(operations), prefix="/v1")
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
