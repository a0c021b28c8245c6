"""The hub, as a telemetry face sees it (`hub.sdk.telemetry.Port`)."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from hub.sdk.telemetry import Counts, Message, Receipt, Refused, Sender
from hub.sdk.telemetry_names import plain_name
from hub.sdk.telemetry_source import TelemetrySource
from hub.store.database import Store
from hub.store.rows import encode_json
from hub.store.telemetry.attributes import read_attributes
from hub.telemetry.counting import Counting
from hub.telemetry.ingest import Ingest, Keeper
from hub.telemetry.senders import Looks, Senders
from hub.telemetry.trimming import Trimmer

REFUSED_FORMAT = "refused"
"""Of a message that is quarantined as it is; its details say why, and which format it had."""

_LONGEST_KEY = 300
_MOST_REFUSED = 100
_MOST_LOOKS = 1_000

Stores = Callable[[], Store]


class HubPort:
    """Faces of any event loop may use it. Nothing is opened before it is needed.

    `counted` holds what faces counted, by (face, outcome).
    """

    def __init__(
        self,
        inbox: Stores,
        readings: Stores,
        sources: Mapping[str, TelemetrySource],
        *,
        parts: int,
        keep_hours: float,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
        keeper: Keeper | None = None,
    ) -> None:
        self.now_ms = now_ms
        self.counted: Counter[tuple[str, str]] = Counter()
        self.trimmer = Trimmer(inbox, readings, keep_hours, now_ms)
        self.ingest = Ingest(inbox, parts, make_room=self.trimmer.make_room, keeper=keeper)
        self._sources = sources
        self._readings = readings
        self._senders = Senders(readings)
        self._counting = Counting(readings)
        self._looks = Looks("hub-attributes", 1, _MOST_LOOKS)

    # --- who ------------------------------------------------------------------------------------

    async def admit_token(self, token: str) -> Sender | None:
        return await self._senders.token(token)

    async def admit_password(self, user: str, password: str) -> Sender | None:
        return await self._senders.password(user, password)

    async def admit_certificate(self, fingerprint: str) -> Sender | None:
        return await self._senders.certificate(fingerprint)

    async def revoked(self) -> Sequence[Sender]:
        return await self._senders.revoked(self.now_ms())

    # --- messages -------------------------------------------------------------------------------

    def room(self) -> float:
        return self.ingest.room()

    def keep(self, message: Message) -> Awaitable[Receipt]:
        if message.key:
            message = replace(message, key=_own_key(message))
        return self.ingest.keep(message)

    async def counts(self, receipt: Receipt, seconds: float) -> Counts | None:
        return await self._counting.wait(receipt, seconds)

    async def refuse(self, message: Message, refused: Sequence[Refused]) -> None:
        await self.keep(
            replace(
                message,
                format=REFUSED_FORMAT,
                details=refusal_details(message, refused),
                counted=False,
            )
        )

    # --- what is known --------------------------------------------------------------------------

    async def attributes(
        self, sender: Sender, device: str, keys: Sequence[str] | None
    ) -> dict[str, Any]:
        return await self._attributes(sender, device, keys, "client")

    async def shared_attributes(
        self, sender: Sender, device: str, keys: Sequence[str] | None
    ) -> dict[str, Any]:
        return await self._attributes(sender, device, keys, "shared")

    async def _attributes(
        self,
        sender: Sender,
        device: str,
        keys: Sequence[str] | None,
        whose: Literal["client", "shared"],
    ) -> dict[str, Any]:
        tenant = self.source(sender.source).tenant
        if device in ("", sender.device):
            key = (tenant, "", sender.device)
        elif sender.gateway:
            key = (tenant, sender.device, plain_name(device))
        else:
            return {}

        def look() -> dict[str, Any]:
            with self._readings().reading() as connection:
                return read_attributes(connection, key, whose)

        known = await self._looks(look)
        return known if keys is None else {name: known[name] for name in keys if name in known}

    def count(self, face: str, outcome: str, number: int = 1) -> None:
        self.counted[face, outcome] += number

    def source(self, name: str) -> TelemetrySource:
        """One that is declared no more counts as one with the defaults."""
        return self._sources.get(name) or TelemetrySource(source=name)

    def close(self) -> None:
        """Keep what waits, let everyone go."""
        self.ingest.close()
        self.trimmer.stop()
        self._counting.close()
        self._senders.close()
        self._looks.close()


def _own_key(message: Message) -> str:
    """The key within its source: nobody can name, or use up, the keys of another sender."""
    key = f"{message.sender.device}\x1f{message.key}"
    if len(key) <= _LONGEST_KEY and key.replace("\x1f", "").isprintable():
        return key
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def refusal_details(message: Message, refused: Sequence[Refused]) -> dict[str, str]:
    """As the projector reads it: every `Refused` as a JSON array, and the format it was."""
    listed = [list(one) for one in refused[:_MOST_REFUSED] or [Refused(-1, "malformed")]]
    return {"format": message.format, "refused": encode_json(listed).decode()}
