"""How routes answer."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from fastapi import Depends, Header, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator
from starlette.requests import Request
from starlette.responses import Response

from hub.engine.operations.base import storable

Limit = Annotated[int, Query(ge=1, description="How many at most; more than 1000 gives 1000.")]


_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode

_NAMELESS = "api"
"""How the audit calls whoever has the token and gives no name."""


def _actor(
    given: Annotated[
        str | None,
        Header(alias="X-Hub-Actor", description="Who asks, percent-encoded; for the audit."),
    ] = None,
) -> str:
    """A name for the audit, not a proof: whoever has the token may write any."""
    return " ".join(unquote(given or "").split())[:120] or _NAMELESS


Actor = Annotated[str, Depends(_actor)]


async def _exact_body(request: Request) -> Any:
    """The JSON body with its numbers as they were written."""
    body = await request.body()
    try:
        return _decode(body) if body.strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = {"loc": ("body",), "msg": f"not JSON ({error})", "type": "json_invalid"}
        raise RequestValidationError([problem]) from error


ExactBody = Annotated[Any, Depends(_exact_body)]


def plain_query(request: Request) -> None:
    """Refuse a query that no database can be asked for."""
    for name, value in request.query_params.multi_items():
        if not storable(value):
            problem = {"loc": ("query", name), "msg": NOT_PLAIN, "type": "not_plain"}
            raise RequestValidationError([problem])


def _plain(value: Any) -> Any:
    if isinstance(value, str) and not storable(value):
        raise ValueError(NOT_PLAIN)
    return value


NOT_PLAIN = "text with a NUL or half a surrogate pair cannot be stored"

Plain = Annotated[str, BeforeValidator(_plain)]
"""Text of a body that goes into the store or is asked for there."""


def json_answer(data: Any, status: int = 200) -> Response:
    """Any plain data as JSON."""
    return Response(_encode(data), status, media_type="application/json")


def items_answer(rows: list[dict[str, Any]]) -> Response:
    """A list, in an object that can grow."""
    return json_answer({"items": rows})
