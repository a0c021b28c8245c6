"""How routes answer."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import Query
from starlette.responses import Response

Limit = Annotated[int, Query(ge=1, description="How many at most; more than 1000 gives 1000.")]


def json_answer(data: Any, status: int = 200) -> Response:
    """Any plain data as JSON."""
    return Response(msgspec.json.encode(data), status, media_type="application/json")


def items_answer(rows: list[dict[str, Any]]) -> Response:
    """A list, in an object that can grow."""
    return json_answer({"items": rows})
