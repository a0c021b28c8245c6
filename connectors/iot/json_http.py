"""JSON readings over HTTP: `/telemetry/v1/readings` and `/telemetry/v1/mapped/NAME`.

The answer says what became of the readings:

    {"accepted": 3, "duplicates": 0, "restated": 1, "rejected": [{"index": 4, "code": "bad_time"}]}

The first three count values, as the projector found them (`restated` ones are among the accepted);
`index` is the position of an entry. Where the projector does not get to them in time, the answer
has `"pending": true`, and `accepted` counts what was kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from connectors.iot import mapped, readings
from connectors.iot.entries import Read, ReadEntries, as_decoded, sender_details
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
from connectors.iot.mapped import mapping_details
from connectors.iot.readings import NDJSON
from hub.sdk.errors import AuthError, ConfigError, ContractBroken
from hub.sdk.telemetry import Decoded, HttpAnswer, HttpRequest, Message, Port, Refused, Sender
from hub.sdk.telemetry_clock import clock_trouble
from hub.sdk.telemetry_source import ClockPolicy, TelemetrySource

READINGS = "/telemetry/v1/readings"
MAPPED = "/telemetry/v1/mapped/"
WAIT_SECONDS = 0.15
"""How long an answer waits for the projector's counts."""

_NDJSON_TYPES = frozenset(
    ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
)
_NONE = {"accepted": 0, "duplicates": 0, "restated": 0}


@dataclass(frozen=True, slots=True)
class Judged:
    """A message as its sender is told of it; `readings` counts what there is to keep."""

    whole: Refused | None
    refused: list[Refused]
    readings: int

    @property
    def rejected(self) -> list[dict[str, Any]]:
        pairs = sorted({(one.place, one.code) for one in self.refused if one.place >= 0})
        return [{"index": place, "code": code} for place, code in pairs]


class _JsonFace(ABC):
    """What both faces do once they know how a message is read."""

    largest = LARGEST_BODY
    name: str
    read: ReadEntries
    format: str

    def __init__(self, port: Port) -> None:
        self._port = port

    async def admit(self, request: HttpRequest) -> Sender | None:
        """By header. Raises AuthError, and ContractBroken for another method than POST."""
        require_method(request, "POST")
        return await admit_by_header(self._port, request)

    async def answer(self, request: HttpRequest, sender: Sender | None) -> HttpAnswer:
        """Raises ContractBroken for what cannot be read, TransientError for what is not kept."""
        if sender is None:
            raise AuthError("telemetry.unknown_sender")
        source: TelemetrySource = self._port.source(sender.source)
        details = {**sender_details(sender, source.zone), **self._details(request, source)}
        message = self._message(request, sender, details)
        judged = await off_loop(len(request.body), lambda: self._judge(message, source.clock))
        if judged.whole is not None:
            await self._put_aside(message, judged)
            raise _refused_whole(request.path, judged.whole)
        if judged.refused and request.query.get("strict") in ("1", "true"):
            await self._put_aside(message, judged)
            return json_answer({**_NONE, "rejected": judged.rejected}, 422)
        return await self._keep(message, judged)

    def refuse(self, request: HttpRequest, error: Exception) -> HttpAnswer:
        """See `connectors.iot.http_parts.refusal`."""
        self._port.count(self.name, "refused")
        return refusal(request, error)

    @abstractmethod
    def _details(self, request: HttpRequest, source: TelemetrySource) -> Mapping[str, str]:
        """What the decoder needs to know of this request."""

    def _message(self, request: HttpRequest, sender: Sender, details: Mapping[str, str]) -> Message:
        """A repeated key stands for a repeated body; another body under it is another message."""
        said = request.headers.get("idempotency-key", "")
        key = message_key(self.format, sender.device, said, request.body) if said else ""
        now = self._port.now_ms()
        return Message(sender, self.format, request.body, now, details, key, counted=True)

    def _judge(self, message: Message, clock: ClockPolicy) -> Judged:
        read = type(self).read(message.body, message.details, message.received_at)
        refused = list(read.refused)
        whole = next((one for one in refused if one.place < 0), None)
        kept = Read([], [])
        for entry in read.entries:
            trouble = clock_trouble(entry.ts, message.received_at, clock)
            if trouble:
                refused.append(Refused(entry.place, trouble, "", entry.device))
            else:
                kept.entries.append(entry)
        decoded = as_decoded(kept)
        return Judged(whole, refused + decoded.refused, count_readings(decoded))

    async def _put_aside(self, message: Message, judged: Judged) -> None:
        """Under a key of its own: the same body may be sent again without `strict`."""
        key = message_key(message.key, "refused") if message.key else ""
        await self._port.refuse(replace(message, key=key), judged.refused)

    async def _keep(self, message: Message, judged: Judged) -> HttpAnswer:
        receipt = await self._port.keep(message)
        self._port.count(self.name, "messages")
        told: dict[str, Any] = dict(_NONE)
        if receipt.duplicate:
            told["duplicates"] = judged.readings
        elif (counts := await self._port.counts(receipt, WAIT_SECONDS)) is not None:
            told = {
                "accepted": counts.accepted,
                "duplicates": counts.duplicates,
                "restated": counts.restated,
            }
        else:
            told = {**told, "accepted": judged.readings, "pending": True}
        return json_answer({**told, "rejected": judged.rejected})


class ReadingsFace(_JsonFace):
    """`POST /telemetry/v1/readings`."""

    name = "readings"
    format = "iot.readings"
    read = staticmethod(readings.read)

    def takes(self, method: str, path: str) -> bool:
        return path == READINGS

    def _details(self, request: HttpRequest, source: TelemetrySource) -> Mapping[str, str]:
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        return {"media": NDJSON} if media in _NDJSON_TYPES else {}


class MappedFace(_JsonFace):
    """`POST /telemetry/v1/mapped/NAME`; parameters of the address can be used like captures."""

    name = "mapped"
    format = "iot.mapped"
    read = staticmethod(mapped.read)

    def takes(self, method: str, path: str) -> bool:
        name = path[len(MAPPED) :]
        return path.startswith(MAPPED) and name != "" and "/" not in name

    def _details(self, request: HttpRequest, source: TelemetrySource) -> Mapping[str, str]:
        name = unquote(request.path[len(MAPPED) :])
        mapping = source.http.get(name)
        if mapping is None:
            raise ConfigError("telemetry.no_mapping", name=name, source=source.source)
        # Bytes of an address that are no UTF-8 cannot be kept as text.
        captures = {
            key.encode(errors="replace").decode(): value.encode(errors="replace").decode()
            for key, value in request.query.items()
            if key != "strict"
        }
        return mapping_details(mapping, captures)


def count_readings(decoded: Decoded) -> int:
    """Readings in it; a boolean is one, though it is kept as a number and as a text."""
    spoken = {one[:3] for one in decoded.texts if one[3] in ("true", "false")}
    both = sum(1 for one in decoded.samples if one[:3] in spoken) if spoken else 0
    return len(decoded.samples) + len(decoded.texts) - both


def _refused_whole(path: str, refused: Refused) -> ContractBroken:
    if refused.code == "too_many":
        return ContractBroken("telemetry.too_many", path=path, detail=refused.detail)
    return malformed([refused])
