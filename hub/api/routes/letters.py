"""Dead letters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from hub.api.routes.answers import Actor, ExactBody, Limit, Plain, items_answer, json_answer
from hub.engine.operations import Operations


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LetterFilters(_Body):
    """Which letters; `text` is looked for in their keys, times are ISO 8601 or spans (`24h`)."""

    flow: Plain | None = None
    connection: Plain | None = None
    sink: Plain | None = None
    kind: Plain | None = None
    state: Plain | None = None
    field: Plain | None = None
    code: Plain | None = None
    vendor_code: Plain | None = None
    text: Plain | None = None
    since: Plain | None = None
    until: Plain | None = None


class ReplayOne(_Body):
    """How to take a letter up again: as it is, edited, or as a person decided a doubtful write."""

    edit: Annotated[Any, Field(json_schema_extra={"type": "object"})] = None
    set: dict[str, Any] | None = None
    decision: Literal["landed", "send_again"] | None = None
    target_id: Plain | None = None


class ReplayAll(_Body):
    """Which letters to take up again, and how many a second at most."""

    filter: LetterFilters
    per_second: float | None = None
    dry_run: bool = False


class Discard(_Body):
    """Why a letter is left out."""

    reason: Plain


class DiscardAll(_Body):
    """Which letters are left out, and why."""

    filter: LetterFilters
    reason: Plain


Asked = Annotated[LetterFilters, Depends()]


def letter_routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["dead letters"])

    @router.get("/dead-letters")
    def dead_letters(asked: Asked, limit: Limit = 20, after: str | None = None) -> Response:
        """Letters that match, newest first; ask again with `after` = `next`. `state`: open,
        replaying, resolved, discarded or all."""
        return json_answer(operations.dead_letters(asked.model_dump(), limit, after))

    @router.get("/dead-letters/summary")
    def summary(asked: Asked) -> Response:
        """How many letters for which reason."""
        return json_answer(operations.count_dead_letters(asked.model_dump()))

    @router.get("/dead-letters/replays")
    def replays(limit: Limit = 20) -> Response:
        """The newest replays."""
        return items_answer(operations.replays(limit))

    @router.post("/dead-letters/replays", status_code=202, responses=_DRY_RUN)
    def replay_all(body: ReplayAll, actor: Actor) -> Response:
        """Take up every open letter that matches."""
        found = operations.replay_letters(
            body.filter.model_dump(), body.per_second, dry_run=body.dry_run, actor=actor
        )
        return json_answer(found, 200 if body.dry_run else 202)

    @router.get("/dead-letters/replays/{replay_id}")
    def one_replay(replay_id: str) -> Response:
        """One replay and where its letters stand."""
        return json_answer(operations.replay(replay_id))

    @router.post("/dead-letters/replays/{replay_id}/cancel")
    def cancel(replay_id: str, actor: Actor) -> Response:
        """Stop a replay."""
        return json_answer(operations.cancel_replay(replay_id, actor=actor))

    @router.post("/dead-letters/discards")
    def discard_all(body: DiscardAll, actor: Actor) -> Response:
        """Leave out every open letter that matches."""
        filters = body.filter.model_dump()
        return json_answer(operations.discard_letters(filters, body.reason, actor=actor))

    @router.get("/dead-letters/{letter_id}")
    def one_letter(letter_id: str) -> Response:
        """One dead letter with its payload."""
        return json_answer(operations.dead_letter(letter_id))

    @router.post("/dead-letters/{letter_id}/replay", status_code=202, openapi_extra=_REPLAY_BODY)
    def replay(letter_id: str, body: ExactBody, actor: Actor) -> Response:
        """Take one letter up again."""
        wanted = _checked(body).model_dump(exclude_none=True)
        return json_answer(operations.replay_letter(letter_id, wanted, actor=actor), 202)

    @router.post("/dead-letters/{letter_id}/discard")
    def discard(letter_id: str, body: Discard, actor: Actor) -> Response:
        """Leave one letter out."""
        return json_answer(operations.discard_letter(letter_id, body.reason, actor=actor))

    return router


_DRY_RUN: dict[int | str, dict[str, Any]] = {200: {"description": "What a dry run found."}}

_REPLAY_BODY = {
    "requestBody": {"content": {"application/json": {"schema": ReplayOne.model_json_schema()}}}
}


def _checked(body: Any) -> ReplayOne:
    """The body checked by hand: FastAPI would read its decimals as floats."""
    try:
        return ReplayOne.model_validate(body)
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(found) from error
