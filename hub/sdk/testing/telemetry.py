"""A `Port` without a hub: keeps messages in memory, and refuses when it is told to."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any

from hub.sdk.errors import HubError
from hub.sdk.telemetry import Counts, Message, Receipt, Refused, Sender
from hub.sdk.telemetry_source import DEFAULT_SOURCE, TelemetrySource


class MemoryPort:
    """`kept` holds what was kept, in order; `trouble` is raised instead of keeping.

    `tokens`, `passwords` ("user:password") and `certificates` hold who is admitted. With `gate`
    set to an Event that is clear, `keep` waits for it: a commit that takes its time.
    """

    def __init__(self, sources: Sequence[TelemetrySource] = ()) -> None:
        self.tokens: dict[str, Sender] = {}
        self.passwords: dict[str, Sender] = {}
        self.certificates: dict[str, Sender] = {}
        self.newly_revoked: list[Sender] = []
        self.sources = {one.source: one for one in sources}
        self.sources.setdefault(DEFAULT_SOURCE, TelemetrySource())
        self.kept: list[Message] = []
        self.quarantined: list[tuple[Message, Sequence[Refused]]] = []
        self.client: dict[str, dict[str, Any]] = {}
        self.shared: dict[str, dict[str, Any]] = {}
        self.counted: Counter[tuple[str, str]] = Counter()
        self.answer: Counts | None = None
        self.trouble: HubError | None = None
        self.gate: asyncio.Event | None = None
        self.free = 1.0

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    async def admit_token(self, token: str) -> Sender | None:
        return self._admitted(self.tokens, token)

    async def admit_password(self, user: str, password: str) -> Sender | None:
        return self._admitted(self.passwords, f"{user}:{password}")

    async def admit_certificate(self, fingerprint: str) -> Sender | None:
        return self._admitted(self.certificates, fingerprint)

    async def revoked(self) -> Sequence[Sender]:
        told, self.newly_revoked = self.newly_revoked, []
        return told

    def room(self) -> float:
        return self.free

    def keep(self, message: Message) -> Awaitable[Receipt]:
        if self.trouble is not None:
            raise self.trouble
        known = [one for one in self.kept if message.key and one.key == message.key]
        if not known:
            self.kept.append(message)
        return self._committed(Receipt(len(self.kept), bool(known)))

    async def counts(self, receipt: Receipt, seconds: float) -> Counts | None:
        return self.answer

    async def attributes(
        self, sender: Sender, device: str, keys: Sequence[str] | None
    ) -> dict[str, Any]:
        return _chosen(self.client.get(device or sender.device, {}), keys)

    async def shared_attributes(
        self, sender: Sender, device: str, keys: Sequence[str] | None
    ) -> dict[str, Any]:
        return _chosen(self.shared.get(device or sender.device, {}), keys)

    async def refuse(self, message: Message, refused: Sequence[Refused]) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.quarantined.append((message, refused))

    def count(self, face: str, outcome: str, number: int = 1) -> None:
        self.counted[face, outcome] += number

    def source(self, name: str) -> TelemetrySource:
        return self.sources[name]

    def _admitted(self, known: dict[str, Sender], credential: str) -> Sender | None:
        if self.trouble is not None:
            raise self.trouble
        return known.get(credential)

    async def _committed(self, receipt: Receipt) -> Receipt:
        if self.gate is not None:
            await self.gate.wait()
        return receipt


def _chosen(known: dict[str, Any], keys: Sequence[str] | None) -> dict[str, Any]:
    return dict(known) if keys is None else {key: known[key] for key in keys if key in known}
