"""Who changed what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from hub.api.routes.answers import Limit, json_answer
from hub.engine.operations import Operations


def audit_routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["audit"])

    @router.get("/audit")
    def audit(
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        after: Annotated[int | None, Query(ge=1, le=2**62)] = None,
        limit: Limit = 20,
    ) -> Response:
        """The newest entries, newest first; ask again with `after` = `next` for older ones."""
        filters = {"actor": actor, "action": action, "subject": subject}
        return json_answer(operations.audit(filters, limit, after))

    @router.get("/audit/verify")
    def verify() -> Response:
        """Whether the chain of hashes holds; `broken` is the first entry that does not fit."""
        return json_answer(operations.verify_audit())

    return router
