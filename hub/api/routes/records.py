"""The hub's own records: what a CRM pulls."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from hub.api.routes.answers import Limit, json_answer
from hub.engine.operations import Operations
from hub.engine.operations.base import LARGEST_NUMBER

LONGEST_WAIT = 60.0

_LOOK_AGAIN = 0.5

Since = Annotated[
    int, Query(ge=0, le=LARGEST_NUMBER, description="`next` of the answer before; 0 to begin.")
]
Wait = Annotated[
    float,
    Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for a change if none is there."),
]


def record_routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["records"])

    @router.get("/records/{entity}")
    async def records(
        request: Request, entity: str, since: Since = 0, limit: Limit = 100, wait: Wait = 0.0
    ) -> Response:
        """Records in the order of their changes; ask again with `since` = `next`."""
        # A caller who waits costs a look now and then, not a worker thread.
        until = time.monotonic() + wait
        while True:
            page = await run_in_threadpool(operations.records, entity, since, limit)
            left = until - time.monotonic()
            if page["records"] or left <= 0 or await request.is_disconnected():
                return json_answer(page)
            await asyncio.sleep(min(_LOOK_AGAIN, left))

    @router.get("/records/{entity}/count")
    def count(entity: str) -> Response:
        """How many live records the entity has."""
        return json_answer(operations.count_records(entity))

    @router.get("/records/{entity}/keys/{key:path}")
    def one_record(entity: str, key: str) -> Response:
        """One record as it is now, also a deleted one."""
        return json_answer(operations.record(entity, key))

    return router
