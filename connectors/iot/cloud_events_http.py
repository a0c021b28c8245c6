"""CloudEvents 1.0 over HTTP: `POST /telemetry/v1/events`, binary, structured or batch.

Source and id recognise an event that is sent again. Of a batch every event is kept as a message of
its own: a batch that is repeated with one new event adds that one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.iot import cloud_events
from connectors.iot.cloud_events import Event
from connectors.iot.entries import Read, as_decoded, sender_details, too_many
from connectors.iot.http_parts import (
    LARGEST_BODY,
    admit_by_header,
    json_answer,
    malformed,
    message_key,
    off_loop,
    refusal,
    require_method,
)
from connectors.iot.values import loads, shown
from hub.sdk.errors import AuthError, ContractBroken, TransientError
from hub.sdk.telemetry import HttpAnswer, HttpRequest, Message, Port, Receipt, Refused, Sender
from hub.sdk.telemetry_clock import clock_trouble
from hub.sdk.telemetry_source import TelemetrySource

EVENTS = "/telemetry/v1/events"
FORMAT = "iot.cloud_events"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

_AT_ONCE = 250
"""Events of a batch that join the queue together; a whole batch may be more than it holds."""


@dataclass(slots=True)
class _Events:
    """The events of a request: messages to keep, and what is refused by its event's position."""

    messages: list[Message] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    lost: list[Refused] = field(default_factory=list)
    """Those of the refused that are no event at all."""
    error: ContractBroken | None = None
    """What is told of a request that holds no events; else what is lost is."""


class CloudEventsFace:
    """See the module."""

    name = "cloud_events"
    largest = LARGEST_BODY

    def __init__(self, port: Port) -> None:
        self._port = port

    def takes(self, method: str, path: str) -> bool:
        return path == EVENTS

    async def admit(self, request: HttpRequest) -> Sender | None:
        """By header; the handshake is answered to anybody. Raises AuthError, and ContractBroken
        for another method."""
        require_method(request, "OPTIONS", "POST")
        return None if request.method == "OPTIONS" else await admit_by_header(self._port, request)

    async def answer(self, request: HttpRequest, sender: Sender | None) -> HttpAnswer:
        """Raises ContractBroken for what is no event, TransientError for what is not kept."""
        if request.method == "OPTIONS":
            return _handshake(request)
        if sender is None:
            raise AuthError("telemetry.unknown_sender")
        source: TelemetrySource = self._port.source(sender.source)
        reader = _Reader(sender, source, self._port.now_ms())
        found = await off_loop(len(request.body), lambda: reader.sort(request))
        if found.lost:
            whole = Message(sender, FORMAT, request.body, reader.now)
            await self._port.refuse(whole, found.lost)
        if found.lost and not found.messages:
            raise found.error or malformed(found.lost)
        receipts = await self._keep(found.messages)
        self._port.count(self.name, "messages", len(receipts))
        again = sum(1 for one in receipts if one.duplicate)
        rejected = sorted({(one.place, one.code) for one in found.refused})
        told = [{"index": place, "code": code} for place, code in rejected]
        counts = {"accepted": len(receipts) - again, "duplicates": again}
        return json_answer({**counts, "rejected": told})

    def refuse(self, request: HttpRequest, error: Exception) -> HttpAnswer:
        """See `connectors.iot.http_parts.refusal`."""
        self._port.count(self.name, "refused")
        return refusal(request, error)

    async def _keep(self, messages: Sequence[Message]) -> list[Receipt]:
        receipts: list[Receipt] = []
        for start in range(0, len(messages), _AT_ONCE):
            receipts += await self._keep_together(messages[start : start + _AT_ONCE])
        return receipts

    async def _keep_together(self, messages: Sequence[Message]) -> list[Receipt]:
        """Raises the first trouble, after all that joined the queue have left it."""
        waiting, trouble = [], None
        for one in messages:
            try:
                waiting.append(self._port.keep(one))
            except TransientError as error:
                trouble = error
                break
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        failed = next((one for one in ended if isinstance(one, BaseException)), trouble)
        if failed is not None:
            raise failed
        return [one for one in ended if isinstance(one, Receipt)]


class _Reader:
    """Takes the events of a request apart."""

    def __init__(self, sender: Sender, source: TelemetrySource, now: int) -> None:
        self.now = now
        self._sender = sender
        self._source = source
        self._details = sender_details(sender, source.zone)

    def sort(self, request: HttpRequest) -> _Events:
        """The events; a request that holds none is lost as a whole."""
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        found = _Events()
        if media == BATCH:
            self._sort_batch(request, found)
        elif media == STRUCTURED:
            self._add(found, 0, cloud_events.from_json(loads(request.body)), request.body)
        elif media.startswith("application/cloudevents"):
            found.error = ContractBroken("telemetry.event_format", media=shown(media))
            _lose(found, -1, Refused(-1, "unsupported", shown(media)))
        elif "ce-specversion" in request.headers or "ce-id" in request.headers:
            self._sort_binary(request, found)
        else:
            _lose(found, -1, _whole("no CloudEvent: no ce- headers"))
        return found

    def _sort_binary(self, request: HttpRequest, found: _Events) -> None:
        extra = cloud_events.details_of(request.headers)
        if isinstance(extra, Refused):
            self._add(found, 0, extra, request.body)
        else:
            event = cloud_events.from_details(extra, request.body)
            self._add(found, 0, event, request.body, extra)

    def _sort_batch(self, request: HttpRequest, found: _Events) -> None:
        batch = loads(request.body)
        if not isinstance(batch, list):
            wrong = batch if isinstance(batch, Refused) else _whole("a batch is a list of events")
            _lose(found, -1, wrong)
            return
        if (refused := too_many(batch)) is not None:
            detail = refused.detail
            found.error = ContractBroken("telemetry.too_many", path=request.path, detail=detail)
            _lose(found, -1, refused)
            return
        for place, raw in enumerate(batch):
            body = cloud_events.as_body(raw)
            event = cloud_events.from_json(raw) if body else _whole("nested too deeply")
            self._add(found, place, event, body or b"")

    def _add(
        self,
        found: _Events,
        place: int,
        event: Event | Refused,
        body: bytes,
        extra: dict[str, str] | None = None,
    ) -> None:
        if isinstance(event, Refused):
            _lose(found, place, event)
            return
        read = cloud_events.read_event(event, self._details, self.now)
        whole = next((one for one in read.refused if one.place < 0), None)
        if whole is not None:
            _lose(found, place, whole)
            return
        details = {**self._details, **(extra or {})}
        key = message_key(FORMAT, self._sender.device, event.source, event.id)
        found.messages.append(Message(self._sender, FORMAT, body, self.now, details, key))
        found.refused += [one._replace(place=place) for one in self._refused(read)]

    def _refused(self, read: Read) -> list[Refused]:
        late = [
            Refused(entry.place, code, "", entry.device)
            for entry in read.entries
            if (code := clock_trouble(entry.ts, self.now, self._source.clock))
        ]
        return as_decoded(read).refused + late


def _lose(found: _Events, place: int, refused: Refused) -> None:
    lost = refused._replace(place=place)
    found.refused.append(lost)
    found.lost.append(lost)


def _whole(detail: str) -> Refused:
    return Refused(-1, "malformed", detail)


def _handshake(request: HttpRequest) -> HttpAnswer:
    """The validation of a webhook: whoever asks may send, as fast as it likes; credentials are
    asked for with the events themselves."""
    headers: dict[str, Any] = {"Allow": "OPTIONS, POST"}
    origin = request.headers.get("webhook-request-origin", "")
    if origin and origin.isascii() and origin.isprintable():
        headers |= {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"}
    return HttpAnswer(200, headers=headers)
