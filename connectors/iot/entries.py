"""What JSON formats share: a message as entries, each of one device and one time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from connectors.iot.values import add_attributes, add_values, bounded, name_of
from hub.sdk.telemetry import Decoded, Details, Refused, Sender

MOST_ENTRIES = 10_000


class Entry(NamedTuple):
    """Values of one device at one time; `place` is its position in the message."""

    place: int
    device: str
    ts: int
    values: Mapping[str, Any]
    attributes: Mapping[str, Any] = {}


class Read(NamedTuple):
    """A message: its entries, and what can never become one."""

    entries: list[Entry]
    refused: list[Refused]


ReadEntries = Callable[[bytes, Details, int], Read]


def as_decoded(read: Read) -> Decoded:
    """The readings in the entries."""
    decoded = Decoded(refused=list(read.refused))
    for entry in read.entries:
        add_values(decoded, entry.device, entry.ts, entry.values, entry.place)
        if entry.attributes:
            add_attributes(decoded, entry.device, entry.attributes, entry.place)
    return bounded(decoded)


def too_many(entries: Sequence[object]) -> Refused | None:
    """The refusal of a message with more entries than it may have."""
    if len(entries) <= MOST_ENTRIES:
        return None
    return Refused(-1, "too_many", f"more than {MOST_ENTRIES} readings")


# --- whose an entry is --------------------------------------------------------------------------


def sender_details(sender: Sender, zone: str | None) -> dict[str, str]:
    """What a decoder must know of the sender: it sees the message alone."""
    details = {"sender": sender.device, "speaks_for": "others" if sender.gateway else "itself"}
    return {**details, "zone": zone} if zone else details


def device_of(raw: object, details: Details) -> tuple[str, str]:
    """The device that an entry names, "" for the sender itself; and the code of a refusal, or "".

    A device may leave its name out, and name no other; a gateway must say whom it speaks for.
    Whole numbers are names too.
    """
    alone = details.get("speaks_for") == "itself"
    if raw is None:
        return "", "" if alone else "no_device"
    name = str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else name_of(raw)
    if not name:
        return "", "name"
    if name == details.get("sender"):
        return "", ""
    return (name, "unknown_device") if alone else (name, "")
