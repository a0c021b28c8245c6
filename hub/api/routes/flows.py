"""Flows and runs."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from hub.api.routes.answers import Limit, items_answer, json_answer
from hub.engine.operations import LocalOperations


class StartRun(BaseModel):
    """How to start a run."""

    model_config = ConfigDict(extra="forbid")

    full: bool = False


def flow_routes(operations: LocalOperations) -> APIRouter:
    router = APIRouter(tags=["flows"])

    @router.get("/flows")
    def flows() -> Response:
        """Every flow found."""
        return items_answer(operations.flows())

    @router.get("/flows/{flow}")
    def one_flow(flow: str) -> Response:
        """One flow with its run that is on its way."""
        return json_answer({**operations.flow(flow), "unfinished": operations.unfinished(flow)})

    @router.post("/flows/{flow}/runs", status_code=202)
    def start_run(flow: str, body: StartRun | None = None) -> Response:
        """Start a run, or go on with the one that is on its way."""
        return json_answer(operations.start_run(flow, full=body is not None and body.full), 202)

    @router.get("/runs")
    def runs(flow: str | None = None, limit: Limit = 20) -> Response:
        """The newest runs."""
        return items_answer(operations.runs(flow, limit))

    @router.get("/runs/{run_id}")
    def one_run(run_id: int) -> Response:
        """One run."""
        return json_answer(operations.run(run_id))

    return router
