"""Health and metrics: open to everybody who reaches the port."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from hub.api.routes.answers import json_answer
from hub.engine.hub import Hub
from hub.engine.statistics import engine_ready, prometheus_text


def health_routes(hub: Hub) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/livez", response_class=PlainTextResponse)
    async def livez() -> str:
        """The process answers; touches nothing else."""
        return "ok"

    @router.get("/readyz")
    def readyz() -> Response:
        """Whether the database answers and jobs are worked on; 503 otherwise."""
        ready = engine_ready(hub)
        return json_answer(ready, 200 if all(ready.values()) else 503)

    @router.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(prometheus_text(hub), media_type="text/plain; version=0.0.4")

    return router
