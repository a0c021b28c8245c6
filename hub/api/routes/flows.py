"""Flows and runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from hub.api.routes.answers import Limit, items_answer, json_answer
from hub.engine.operations import LocalOperations


class StartRun(BaseModel):
    """How to start a run."""

    model_config = ConfigDict(extra="forbid")

    full: bool = False
    allow_deletes: Annotated[
        float | None,
        Field(ge=0, le=100, description="Read everything; this per cent of records may be gone."),
    ] = None


def flow_routes(operations: LocalOperations) -> APIRouter:
    router = APIRouter(tags=["flows"])

    @router.get("/flows")
    def flows() -> Response:
        """Every flow found."""
        return items_answer(operations.flows())

    @router.get("/flows/{flow}")
    def one_flow(flow: str) -> Response:
        """One flow with its run that is on its way."""
        known = operations.flow(flow)
        more = {"unfinished": operations.unfinished(flow), "paused": operations.paused(flow)}
        return json_answer({**known, **more})

    @router.post("/flows/{flow}/pause")
    def pause(flow: str) -> Response:
        """Let the schedule leave the flow alone."""
        return json_answer(operations.pause_flow(flow, paused=True))

    @router.post("/flows/{flow}/resume")
    def resume(flow: str) -> Response:
        """Let the schedule start the flow again; what the pause missed is not made up for."""
        return json_answer(operations.pause_flow(flow, paused=False))

    @router.post("/flows/{flow}/runs", status_code=202)
    def start_run(flow: str, body: StartRun | None = None) -> Response:
        """Start a run, or go on with the one that is on its way."""
        wanted = body or StartRun()
        run = operations.start_run(flow, full=wanted.full, allow_deletes=wanted.allow_deletes)
        return json_answer(run, 202)

    @router.get("/runs")
    def runs(flow: str | None = None, limit: Limit = 20) -> Response:
        """The newest runs."""
        return items_answer(operations.runs(flow, limit))

    @router.get("/runs/{run_id}")
    def one_run(run_id: int) -> Response:
        """One run."""
        return json_answer(operations.run(run_id))

    return router
