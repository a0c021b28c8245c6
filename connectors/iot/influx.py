"""InfluxDB's HTTP API, as far as its senders use it: Telegraf and every Influx client.

What Telegraf does with an answer decides which one it gets: its v1 output deletes data on every
4xx, so on `/write` unknown credentials and overload are both 503, and 400 is said only of lines
that can never be accepted. On `/api/v2/write` each status has its normal meaning.

Several databases, organisations and buckets are one here: what counts is who sends.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from unicodedata import normalize
from urllib.parse import parse_qs

import orjson

from connectors.iot.influx_credentials import Credentials, credentials_of
from connectors.iot.line_protocol import FORMAT, LineReader, setup_of
from hub.sdk.errors import AuthError, HubError, TransientError
from hub.sdk.telemetry import HttpAnswer, HttpRequest, Message, Port, Refused, Sender
from hub.sdk.telemetry_source import LineProtocol

VERSION = "1.8.10"
"""Which InfluxDB clients take us for."""
LARGEST = 25_000_000
PART_READINGS = 250_000
"""A body with more readings is kept as several messages, cut between lines."""

_V1, _V2 = "/write", "/api/v2/write"
_METHODS = {
    _V1: ("POST",),
    _V2: ("POST",),
    "/query": ("GET", "POST"),
    "/ping": ("GET", "HEAD"),
    "/health": ("GET", "HEAD"),
}
_PRECISIONS = {
    _V1: ("", "ns", "n", "us", "u", "ms", "s", "m", "h"),
    _V2: ("", "ns", "us", "ms", "s"),
}
_HEADERS = {"X-Influxdb-Version": VERSION, "X-Influxdb-Build": "OSS"}
_RETRY_SECONDS = 5.0
_FULL = 0.02
"""How much of the hub's queue must be free before a body is read at all."""
_LARGE = 65_536
"""Bodies from this size on are looked at on a worker thread."""

_QUERY = re.compile(
    r'\s*(?:CREATE\s+DATABASE\s+(?:"(?:[^"\\]|\\.)+"|\w+)(?:\s+WITH\s[^;]*)?|SHOW\s+DATABASES)\s*;?\s*',
    re.IGNORECASE,
)
_DONE = b'{"results":[{"statement_id":0}]}\n'

_STATUS = {
    "telemetry.unknown_sender": (503, 401),
    "telemetry.other_device": (503, 403),
    "telemetry.too_large": (413, 413),
    "telemetry.gzip": (400, 400),
    "telemetry.encoding": (415, 415),
    "telemetry.headers": (431, 431),
    "telemetry.malformed": (400, 400),
    # A 408 would make Telegraf delete what it could not send in time.
    "telemetry.slow": (503, 503),
}
"""Code → status on `/write` and on `/api/v2/write`; what may pass by itself is 503 on both."""
_V2_CODES = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    405: "method not allowed",
    413: "request too large",
    415: "unsupported media type",
    429: "too many requests",
    431: "request too large",
    503: "unavailable",
}


@dataclass(slots=True)
class _Told:
    """What was found in a body so far. `first` tells of the first part that was refused."""

    good: int = 0
    bad: int = 0
    first: Refused | None = None


class InfluxFace:
    """`/write`, `/api/v2/write`, `/query`, `/ping` and `/health`."""

    name = "influx"
    largest = LARGEST

    def __init__(self, port: Port) -> None:
        self._port = port

    def takes(self, method: str, path: str) -> bool:
        """See `hub.sdk.telemetry.HttpFace`."""
        return path in _METHODS

    async def admit(self, request: HttpRequest) -> Sender | None:
        """Who sends. Asking for a version or a database needs nobody, but nobody false."""
        if request.path in ("/ping", "/health") or request.method not in _METHODS[request.path]:
            return None
        credentials = credentials_of(request)
        if request.path == "/query" and credentials is None:
            return None
        if request.path != "/query" and self._port.room() < _FULL:
            raise TransientError("telemetry.overload", retry_after=_RETRY_SECONDS)
        sender = await self._known(credentials) if credentials is not None else None
        if sender is None:
            self._port.count(self.name, "unknown_sender")
            raise AuthError("telemetry.unknown_sender")
        return sender

    async def _known(self, credentials: Credentials) -> Sender | None:
        for token in credentials.tokens:
            if (sender := await self._port.admit_token(token)) is not None:
                return sender
        if credentials.password is None:
            return None
        return await self._port.admit_password(*credentials.password)

    async def answer(self, request: HttpRequest, sender: Sender | None) -> HttpAnswer:
        """See `hub.sdk.telemetry.HttpFace`."""
        allowed = _METHODS[request.path]
        if request.method not in allowed:
            refusal = _failure(request.path, 405, f"use {' or '.join(allowed)}")
            return replace(refusal, headers={**refusal.headers, "Allow": ", ".join(allowed)})
        if request.path == "/ping":
            return _pong(request)
        if request.path == "/health":
            return _health()
        if request.path == "/query":
            return _queried(request)
        if sender is None:
            raise AuthError("telemetry.unknown_sender")
        return await self._write(request, sender)

    def refuse(self, request: HttpRequest, error: Exception) -> HttpAnswer:
        """See `hub.sdk.telemetry.HttpFace`."""
        status = _status_of(request.path, error)
        text = error.message("en") if isinstance(error, HubError) else "internal error"
        refusal = _failure(request.path, status, text)
        if status not in (429, 503):
            return refusal
        given = error.retry_after if isinstance(error, TransientError) else None
        seconds = max(1, math.ceil(given if given is not None else _RETRY_SECONDS))
        return replace(refusal, headers={**refusal.headers, "Retry-After": str(seconds)})

    # --- writing ------------------------------------------------------------------------------

    async def _write(self, request: HttpRequest, sender: Sender) -> HttpAnswer:
        told = _Told()
        message = self._message(request, sender)
        precision = request.query.get("precision", "")
        if precision not in _PRECISIONS[request.path]:
            units = ", ".join(_PRECISIONS[request.path][1:])
            told.first = Refused(-1, "malformed", f"unknown precision; use one of {units}")
            await self._port.refuse(message, [told.first])
        elif request.body:
            await self._keep_all(message, told)
        if told.first is None:
            return HttpAnswer(204, headers=_HEADERS)
        self._port.count(self.name, "bad_lines", told.bad)
        return _failure(request.path, 400, _shortfall(told, told.first))

    def _message(self, request: HttpRequest, sender: Sender) -> Message:
        policy: LineProtocol = self._port.source(sender.source).line_protocol
        details = {
            "precision": request.query.get("precision", "") or "ns",
            "device_tags": orjson.dumps(policy.device_tags).decode(),
        }
        if policy.metric_tags:
            details["metric_tags"] = orjson.dumps(policy.metric_tags).decode()
        if policy.measurement:
            details["measurement"] = policy.measurement
        if sender.gateway:
            details["gateway"] = "1"
        return Message(sender, FORMAT, request.body, self._port.now_ms(), details)

    async def _keep_all(self, message: Message, told: _Told) -> None:
        """Keep a body, in one message or in several; quarantine what has nothing good in it."""
        body, setup = message.body, setup_of(message.details)
        if isinstance(setup, Refused):
            raise HubError("telemetry.malformed", detail=setup.detail)
        reader = LineReader(body, setup, message.received_at)
        while (start := reader.at) < len(body):
            if len(body) < _LARGE:
                reader.read(PART_READINGS)
            else:
                await asyncio.to_thread(reader.read, PART_READINGS)
            _speaks_for_itself(message.sender, reader.devices)
            if reader.gave_up:
                reader.refuse_rest()
            good, bad = reader.readings, reader.bad
            refused = reader.result().refused
            part = replace(message, body=body[start : reader.at])
            if good:
                await self._port.keep(part)
            elif bad:
                await self._port.refuse(part, refused)
            told.good, told.bad = told.good + good, told.bad + bad
        told.first = reader.first_bad


def _speaks_for_itself(sender: Sender, devices: set[str]) -> None:
    """A device's token is for its own readings. Lines of others are a wrong set-up: their sender
    is to keep them until it is mended. Raises AuthError."""
    if not sender.gateway and not devices <= {normalize("NFC", sender.device)}:
        raise AuthError("telemetry.other_device", device=sender.device)


# --- answers ----------------------------------------------------------------------------------


def _shortfall(told: _Told, first: Refused) -> str:
    """What is told of a body with bad lines. None of the body's own words are in it: Telegraf
    sends again, without end, what it believes to be about a missing database."""
    place = f"line {first.place + 1}: " if first.place >= 0 else ""
    reason = f"{place}{first.code}: {first.detail}"
    if told.good:
        return f"partial write: {reason} dropped={told.bad}"
    return f"unable to parse: {reason} dropped={max(1, told.bad)}"


def _status_of(path: str, error: Exception) -> int:
    v2 = path != _V1
    code = error.code if isinstance(error, HubError) else ""
    if code.endswith(".rate"):
        return 429 if v2 else 503
    if code in _STATUS:
        return _STATUS[code][v2]
    return 503 if isinstance(error, TransientError) else 500


def _failure(path: str, status: int, text: str) -> HttpAnswer:
    """An error in the words of its API: v1 `error`, v2 `code` and `message`."""
    shown = text.encode("ascii", "backslashreplace").decode()
    if path == _V2:
        code = _V2_CODES.get(status, "internal error")
        body: Mapping[str, str] = {"code": code, "message": shown}
        headers = {**_HEADERS, "X-Platform-Error-Code": code}
    else:
        body, headers = {"error": shown}, dict(_HEADERS)
    headers["X-Influxdb-Error"] = shown
    return HttpAnswer(status, orjson.dumps(body) + b"\n", headers=headers)


def _pong(request: HttpRequest) -> HttpAnswer:
    if request.query.get("verbose", "") in ("", "0", "false"):
        return HttpAnswer(204, headers=_HEADERS)
    return HttpAnswer(200, orjson.dumps({"version": VERSION}) + b"\n", headers=_HEADERS)


def _health() -> HttpAnswer:
    said = {"name": "influxdb", "message": "ready", "status": "pass", "version": VERSION}
    return HttpAnswer(200, orjson.dumps({**said, "checks": []}) + b"\n", headers=_HEADERS)


def _queried(request: HttpRequest) -> HttpAnswer:
    """Clients make their database before they write; there is nothing to make."""
    asked = request.query.get("q", "")
    if not asked and len(request.body) < _LARGE:
        form = parse_qs(request.body.decode("utf-8", "replace"))
        asked = form.get("q", [""])[0]
    if _QUERY.fullmatch(asked):
        return HttpAnswer(200, _DONE, headers=_HEADERS)
    return _failure("/query", 400, "only CREATE DATABASE and SHOW DATABASES are answered here")
