"""Devices that send telemetry, and how telemetry fares."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from hub.api.routes.answers import Actor, Limit, Plain, json_answer
from hub.engine.operations import Operations


class NewDevice(BaseModel):
    """A device or gateway that may send; without a credential a token is made."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: Plain
    source: Plain | None = None
    gateway: bool = False
    token: Plain | None = None
    user: Plain | None = None
    password: Plain | None = None
    certificate: Plain | None = Field(None, description="SHA-256 of the client certificate, hex.")


class ChangedDevice(BaseModel):
    """What to change; the rest stays. An attribute or text that is null is taken away."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["active", "waiting", "refused"] | None = None
    kind: Annotated[Plain | None, Field(alias="class", max_length=120)] = None
    zone: Plain | None = None
    title: Annotated[Plain | None, Field(max_length=255)] = None
    customer_id: Annotated[Plain | None, Field(max_length=512)] = None
    serial_no: Annotated[Plain | None, Field(max_length=120)] = None
    attributes: dict[str, Any] | None = None
    units: dict[str, Plain] | None = None

    def changes(self) -> dict[str, Any]:
        said = self.model_dump(exclude_unset=True, by_alias=True)
        never_null = ("state", "attributes", "units")
        return {
            name: one for name, one in said.items() if one is not None or name not in never_null
        }


def device_routes(operations: Operations) -> APIRouter:
    router = APIRouter(tags=["telemetry"])

    @router.get("/devices")
    def devices(
        name: str | None = None,
        source: str | None = None,
        gateway: str | None = None,
        kind: Annotated[str | None, Query(alias="class")] = None,
        state: str | None = None,
        silent: Annotated[
            str | None, Query(description="Span or time: heard nothing since.")
        ] = None,
        after: str | None = None,
        limit: Limit = 100,
    ) -> Response:
        """Devices, oldest first; ask again with `after` = `next`."""
        filters = {"name": name, "source": source, "gateway": gateway, "class": kind}
        return json_answer(
            operations.devices({**filters, "state": state, "silent": silent}, limit, after)
        )

    @router.post("/devices")
    def add_device(new: NewDevice, actor: Actor) -> Response:
        """Let a device or gateway send; a token that was made is in this answer only."""
        wanted = new.model_dump(exclude_none=True, exclude={"name"})
        return json_answer(operations.add_device(new.name, wanted, actor=actor), 201)

    @router.get("/devices/{device:path}")
    def device(device: str) -> Response:
        """A device by name or id: state, metrics, attributes, credentials."""
        return json_answer(operations.device(device))

    @router.patch("/devices/{device:path}")
    def change_device(device: str, changed: ChangedDevice, actor: Actor) -> Response:
        """Approve, refuse or describe a device."""
        return json_answer(operations.change_device(device, changed.changes(), actor=actor))

    @router.delete("/devices/{device:path}/credentials/{credential}")
    def revoke(device: str, credential: str, actor: Actor) -> Response:
        """Admit nobody by this credential any more."""
        return json_answer(operations.revoke_credential(device, credential, actor=actor))

    @router.get("/telemetry/status")
    def status() -> Response:
        """What waits, and what came per source and gateway."""
        return json_answer(operations.telemetry_status())

    @router.get("/telemetry/quarantine")
    def quarantine(
        source: str | None = None,
        sender: str | None = None,
        device: str | None = None,
        metric: str | None = None,
        code: str | None = None,
        after: str | None = None,
        limit: Limit = 20,
    ) -> Response:
        """What can never become a reading, newest first; ask again with `after` = `next`."""
        filters = {"source": source, "sender": sender, "device": device, "metric": metric}
        return json_answer(operations.quarantine({**filters, "code": code}, limit, after))

    return router
