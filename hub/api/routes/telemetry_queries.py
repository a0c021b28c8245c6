"""Readings of devices."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from hub.api.routes.answers import json_answer
from hub.engine.operations import Operations
from hub.telemetry.query import MOST_POINTS

Names = Annotated[list[str] | None, Query(description="May be given several times; none: all.")]
Time = Annotated[
    str | None,
    Query(description="ISO 8601 (without offset: the deployment's zone), ms since 1970, or `24h`."),
]
From = Annotated[Time, Query(alias="from", description="Default: 24 h before `to`.")]
Points = Annotated[int | None, Query(ge=1, le=MOST_POINTS)]


def telemetry_query_routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["telemetry"], prefix="/telemetry")

    @router.get("/series")
    def series(
        device: Names = None,
        metric: Names = None,
        gateway: str | None = None,
        tenant: str | None = None,
        since: From = None,
        to: Time = None,
        every: Annotated[str | None, Query(description="5m, 1h, 1d, 1w, 1mo…")] = None,
        agg: Annotated[
            list[str] | None,
            Query(description="min, max, mean, count, sum, last, std, p50, p95, p99…"),
        ] = None,
        max_points: Points = None,
        zone: Annotated[str | None, Query(description="Default: the device's zone.")] = None,
    ) -> Response:
        """Buckets by columns: `ts` is the start in ms; wide without `every` as `max_points` says.

        Exact at any moment; percentiles of buckets of an hour and more are within 1 %.
        """
        names = [part for one in agg or () for part in one.split(",")]
        wanted = {"device": device, "metric": metric, "gateway": gateway, "tenant": tenant}
        times = {"from": since, "to": to, "every": every, "zone": zone}
        return json_answer(
            operations.telemetry_series({**wanted, **times, "agg": names, "max_points": max_points})
        )

    @router.get("/readings")
    def readings(
        device: Names = None,
        metric: Names = None,
        gateway: str | None = None,
        tenant: str | None = None,
        since: From = None,
        to: Time = None,
        limit: Points = None,
        max_points: Points = None,
    ) -> Response:
        """Readings as they are, oldest first; ask again with `from` = a series' `next`.

        With `max_points` a chart's points: fewer, but every peak and dip is among them.
        """
        wanted = {"device": device, "metric": metric, "gateway": gateway, "tenant": tenant}
        times = {"from": since, "to": to, "limit": limit, "max_points": max_points}
        return json_answer(operations.telemetry_readings({**wanted, **times}))

    @router.get("/latest")
    def latest(
        device: Names = None,
        metric: Names = None,
        gateway: str | None = None,
        tenant: str | None = None,
    ) -> Response:
        """The newest value of each series; `ts` is null while its time is unknown."""
        wanted = {"device": device, "metric": metric, "gateway": gateway, "tenant": tenant}
        return json_answer(operations.telemetry_latest(wanted))

    return router
