"""ThingsBoard's device API over HTTP: `/api/v1/{token}/…`, where the token names the device."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import orjson

from connectors.iot.http_parts import (
    LARGEST_BODY,
    decode_off_loop,
    json_answer,
    malformed,
    refusal,
)
from connectors.iot.session_limits import rpc_answer
from connectors.iot.thingsboard import decode_attributes, decode_telemetry
from connectors.iot.values import loads
from hub.sdk.errors import AuthError, ContractBroken, HubError
from hub.sdk.telemetry import (
    Decode,
    Decoded,
    HttpAnswer,
    HttpRequest,
    Message,
    Port,
    Refused,
    Sender,
)

PREFIX = "/api/v1/"
LONGEST_POLL = 60.0
"""Seconds; ThingsBoard's own default."""

_LOOK_SECONDS = 2.0
_PLACES = {
    "POST": {"telemetry", "attributes", "rpc", "claim"},
    "GET": {"attributes", "attributes/updates", "rpc"},
}
_OK = HttpAnswer(200)


class ThingsBoardFace:
    """`look_seconds`: how often a long poll looks whether shared attributes have changed."""

    name = "thingsboard"
    largest = LARGEST_BODY

    def __init__(self, port: Port, *, look_seconds: float = _LOOK_SECONDS) -> None:
        self._port = port
        self._look_seconds = look_seconds
        self._answers: dict[
            tuple[str, str], Callable[[HttpRequest, Sender], Awaitable[HttpAnswer]]
        ] = {
            ("POST", "telemetry"): self._telemetry,
            ("POST", "attributes"): self._attributes,
            ("POST", "rpc"): self._call,
            ("POST", "claim"): self._accept,
            ("GET", "attributes"): self._tell_attributes,
            ("GET", "attributes/updates"): self._await_update,
            ("GET", "rpc"): self._await_call,
        }

    def takes(self, method: str, path: str) -> bool:
        """Whether it is an address of the API. Mistaken calls are answered here too: others would
        name the address, and the token in it, in what they answer and write down."""
        return path.startswith(PREFIX)

    async def admit(self, request: HttpRequest) -> Sender | None:
        """By the token in the path. Raises AuthError."""
        token = request.path[len(PREFIX) :].partition("/")[0]
        sender = await self._port.admit_token(unquote(token))
        if sender is None:
            raise AuthError("telemetry.unknown_sender")
        return sender

    async def answer(self, request: HttpRequest, sender: Sender | None) -> HttpAnswer:
        """Raises ContractBroken for what cannot be read, TransientError for what is not kept."""
        if sender is None:
            raise AuthError("telemetry.unknown_sender")
        place = request.path[len(PREFIX) :].partition("/")[2]
        method = request.method
        if not (place in _PLACES.get(method, ()) or (method == "POST" and _is_reply(place))):
            raise ContractBroken("telemetry.no_call", method=method, place=place[:40])
        return await self._answers.get((method, place), self._accept)(request, sender)

    def refuse(self, request: HttpRequest, error: Exception) -> HttpAnswer:
        """See `connectors.iot.http_parts.refusal`. The token is never part of the answer."""
        if isinstance(error, HubError) and "path" in error.params:
            error.params["path"] = f"{PREFIX}…/{request.path[len(PREFIX) :].partition('/')[2][:40]}"
        self._port.count(self.name, "refused")
        return refusal(request, error)

    # --- what the device tells --------------------------------------------------------------------

    async def _telemetry(self, request: HttpRequest, sender: Sender) -> HttpAnswer:
        return await self._keep(request, sender, "iot.thingsboard", decode_telemetry)

    async def _attributes(self, request: HttpRequest, sender: Sender) -> HttpAnswer:
        return await self._keep(request, sender, "iot.thingsboard_attributes", decode_attributes)

    async def _keep(
        self, request: HttpRequest, sender: Sender, format_: str, decode: Decode
    ) -> HttpAnswer:
        """Keep what is good. An entry that is broken makes a 400 all the same: its sender errs."""
        now = self._port.now_ms()
        message = Message(sender, format_, request.body, now)
        decoded = await decode_off_loop(decode, request.body, {}, now)
        if _holds_something(decoded) or not decoded.refused:
            await self._port.keep(message)
            self._port.count(self.name, "messages")
        else:
            await self._port.refuse(message, decoded.refused)
            raise malformed(decoded.refused)
        broken = [one for one in decoded.refused if _is_broken(one)]
        if broken:
            raise malformed(broken)
        return _OK

    async def _call(self, request: HttpRequest, sender: Sender) -> HttpAnswer:
        answer = rpc_answer(request.body)
        if answer is None:
            raise ContractBroken("telemetry.malformed", detail='no {"method": …, "params": …}')
        return HttpAnswer(200, answer)

    async def _accept(self, request: HttpRequest, sender: Sender) -> HttpAnswer:
        """A claim, or the reply to a call: nothing here waits for one."""
        if request.body and isinstance(refused := loads(request.body), Refused):
            raise malformed([refused])
        return _OK

    # --- what the device asks ---------------------------------------------------------------------

    async def _tell_attributes(self, request: HttpRequest, sender: Sender) -> HttpAnswer:
        client, shared = (_keys(request, name) for name in ("clientKeys", "sharedKeys"))
        everything = client is None and shared is None
        told: dict[str, dict[str, Any]] = {"client": {}, "shared": {}}
        if everything or client is not None:
            told["client"] = await self._port.attributes(sender, "", client)
        if everything or shared is not None:
            told["shared"] = await self._port.shared_attributes(sender, "", shared)
        return json_answer(told)

    async def _await_update(self, request: HttpRequest, sender: Sender) -> HttpAnswer:
        """The shared attributes that change while the device waits."""
        left = _timeout(request)
        before = await self._port.shared_attributes(sender, "", None)
        while left > 0:
            await asyncio.sleep(min(left, self._look_seconds))
            left -= self._look_seconds
            after = await self._port.shared_attributes(sender, "", None)
            if after != before:
                return HttpAnswer(200, orjson.dumps(_changes(before, after)))
        return HttpAnswer(408)

    async def _await_call(self, request: HttpRequest, sender: Sender) -> HttpAnswer:
        """The hub calls no device."""
        await asyncio.sleep(_timeout(request))
        return HttpAnswer(408)


def _is_reply(place: str) -> bool:
    name, _, number = place.partition("/")
    return name == "rpc" and number.isascii() and number.isdecimal() and len(number) < 20


def _holds_something(decoded: Decoded) -> bool:
    return bool(decoded.samples or decoded.texts or any(decoded.attributes.values()))


def _is_broken(refused: Refused) -> bool:
    """Whether the structure is wrong, and not one value of it."""
    return refused.code in ("malformed", "bad_time", "too_many")


def _keys(request: HttpRequest, name: str) -> list[str] | None:
    listed = request.query.get(name)
    return [key for key in listed.split(",") if key] if listed else None


def _timeout(request: HttpRequest) -> float:
    """Seconds that the device wants to wait, at most `LONGEST_POLL`."""
    asked = request.query.get("timeout", "")
    known = asked.isascii() and asked.isdecimal() and len(asked) < 12
    return min(int(asked) / 1000, LONGEST_POLL) if known else LONGEST_POLL


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    changed = {
        key: value for key, value in after.items() if key not in before or before[key] != value
    }
    gone = [key for key in before if key not in after]
    return {**changed, "deleted": gone} if gone else changed
