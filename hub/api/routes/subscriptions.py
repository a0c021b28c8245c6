"""Subscriptions: who is told of record changes by signed webhooks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from hub.api.routes.answers import Limit, Plain, items_answer, json_answer
from hub.engine.operations import Operations

Entities = Annotated[list[str], Field(min_length=1, max_length=100)]
Start = Annotated[Literal["beginning", "now"], Field(alias="from")]


class NewSubscription(BaseModel):
    """An endpoint and what it wants to be told of."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    url: Plain
    entities: Entities
    title: str | None = None
    start: Start = "now"


class ChangedSubscription(BaseModel):
    """What to change; the rest stays. `from` says where entities begin that are new."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    url: Plain | None = None
    entities: Entities | None = None
    title: str | None = None
    state: Literal["active", "paused"] | None = None
    start: Start = "now"

    def changes(self) -> dict[str, Any]:
        """What was said; a title may be taken away by null."""
        said = self.model_dump(exclude_unset=True, exclude={"start"})
        kept = {name: value for name, value in said.items() if value is not None or name == "title"}
        return {**kept, "from_beginning": self.start == "beginning"}


class NewSecret(BaseModel):
    """How long the old secret stays valid beside the new one."""

    model_config = ConfigDict(extra="forbid")

    keep_hours: float = 24.0


def subscription_routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["subscriptions"], prefix="/subscriptions")

    @router.get("")
    def subscriptions() -> Response:
        """All subscriptions."""
        return items_answer(operations.subscriptions())

    @router.post("", status_code=201)
    def add(body: NewSubscription) -> Response:
        """A new subscription with its signing secret, which is shown this once."""
        start = body.start == "beginning"
        made = operations.add_subscription(
            body.url, body.entities, body.title, from_beginning=start
        )
        return json_answer(made, 201)

    @router.get("/{subscription_id}")
    def one(subscription_id: str) -> Response:
        """One subscription with how far it has been told."""
        return json_answer(operations.subscription(subscription_id))

    @router.patch("/{subscription_id}")
    def change(subscription_id: str, body: ChangedSubscription) -> Response:
        """Change its address, title or entities; pause or resume it."""
        return json_answer(operations.change_subscription(subscription_id, body.changes()))

    @router.delete("/{subscription_id}")
    def remove(subscription_id: str) -> Response:
        """Forget it with its messages, its log and its secrets."""
        return json_answer(operations.remove_subscription(subscription_id))

    @router.post("/{subscription_id}/secret")
    def rotate(subscription_id: str, body: NewSecret | None = None) -> Response:
        """A new signing secret, shown this once; the old one stays valid for a time."""
        keep = NewSecret() if body is None else body
        return json_answer(operations.rotate_subscription(subscription_id, keep.keep_hours))

    @router.post("/{subscription_id}/test")
    def test(subscription_id: str) -> Response:
        """Send a `hub.test` message now and say how that went."""
        return json_answer(operations.test_subscription(subscription_id))

    @router.get("/{subscription_id}/attempts")
    def attempts(subscription_id: str, limit: Limit = 20) -> Response:
        """The delivery log: every try, newest first."""
        return items_answer(operations.attempts(subscription_id, limit))

    @router.get("/{subscription_id}/messages")
    def messages(subscription_id: str, state: str | None = None, limit: Limit = 20) -> Response:
        """Messages, newest first."""
        return items_answer(operations.messages(subscription_id, state, limit))

    @router.post("/{subscription_id}/messages/{message_id}/resend", status_code=202)
    def resend(subscription_id: str, message_id: str) -> Response:
        """Send a message again under its id."""
        return json_answer(operations.resend(subscription_id, message_id), 202)

    return router
